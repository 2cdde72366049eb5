"""Which proxy stands before an address, by the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

The variables are read as everybody reads them (`urllib.request.getproxies`, which on macOS and Windows also asks the
system's settings). NO_PROXY lists names with all names below them, addresses, networks, each with a port or without,
and `*`. What is on this machine's loopback is never asked of a proxy, which could not reach it.

A proxy's address may hold a password: it is in no message, no repr and no log line.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
import urllib.request

import httpx

from actors.errors import UsageError
from engine.transports.streams import default_tls

SCHEMES = ("http", "https", "socks5", "socks5h")


def environment_proxy(url: str) -> str | None:
    """The proxy that requests to `url` have to take, or None if they go there directly."""
    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        return None  # no address at all: whoever uses it says so
    proxies = urllib.request.getproxies()
    proxy = proxies.get(target.scheme) or proxies.get("all")
    port = target.port or (443 if target.scheme == "https" else 80)
    if not proxy or _on_loopback(target.host) or is_exempt(target.host, port, proxies.get("no", "")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Whether NO_PROXY names a host: itself, a domain above it, its network, or everything."""
    return any(_names(entry, host.lower().rstrip("."), port) for entry in no_proxy.lower().replace(",", " ").split())


def _names(entry: str, host: str, port: int) -> bool:
    entry = entry.partition("://")[2] or entry
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and (":" not in name or name.endswith("]")):
        if int(number) != port:
            return False
        entry = name
    entry = entry.removeprefix("[").removesuffix("]")
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        entry = entry.removeprefix("*").strip(".")
        return bool(entry) and (host == entry or host.endswith(f".{entry}"))


def _on_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")


def checked_proxy(proxy: str) -> httpx.Proxy:
    """A proxy as httpx wants it.

    Raises:
      UsageError: it is no address of a proxy, or one that needs a package that is not installed. What was given is not
        shown: it may hold a password.
    """
    try:
        checked = httpx.Proxy(proxy)
        fit = checked.url.scheme in SCHEMES and checked.url.host and 0 < (checked.url.port or 1) < 65_536
    except (httpx.InvalidURL, ValueError, TypeError):
        fit = False
    if not fit:
        raise UsageError(
            "the proxy of the environment (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) must be like http://host:port or "
            f"socks5://host:port, its scheme one of {', '.join(SCHEMES)}; it is not shown, since it may hold a "
            "password. Nothing was sent."
        )
    if checked.url.scheme == "https":
        checked.ssl_context = default_tls()
    if checked.url.scheme.startswith("socks"):
        require("socksio", "a SOCKS proxy stands before the address, by the environment", "socks")
        logging.getLogger("httpcore.socks").addFilter(_shows_no_password)
    return checked


def _shows_no_password(record: logging.LogRecord) -> bool:
    """httpcore's debug log of SOCKS holds user name and password in clear."""
    return "auth=" not in record.getMessage()


def require(module: str, why: str, extra: str) -> None:
    """Refuse what needs a module that is not there.

    Raises:
      UsageError: it is not installed; `why` it is needed, and how to install it with an extra of httpx.
    """
    if importlib.util.find_spec(module) is None:
        raise UsageError(f"{why}, and that needs a package more: pip install 'httpx[{extra}]'. Nothing was sent.")
