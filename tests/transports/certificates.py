"""Certificates made by trustme for the length of a run: an authority, servers of its making, clients that trust it.

Shared by the tests that speak TLS on loopback; nothing here is written to disk.
"""

from __future__ import annotations

import ssl

import trustme

AUTHORITY = trustme.CA()


def server_tls(
    name: str = "127.0.0.1", *, authority: trustme.CA = AUTHORITY, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.maximum_version = newest
    return context


def client_tls(*protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def secure(url: str) -> str:
    return url.replace("http://", "https://")
