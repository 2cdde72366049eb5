"""A model as data that can be written as JSON, and read again; without its keys.

Left out: whatever by its name or its looks is a key, in headers, arguments, metadata and the address's query. The key
the model itself would use is masked wherever else it stands. What cannot be written is refused, not dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from actors.limits import Quota
from engine.accounts import MAX_CONNECTIONS
from engine.call import OPTION_NAMES
from engine.endpoints import Endpoint, EndpointConfig
from engine.errors import UsageError
from engine.imodel_arguments import LaneArguments, check_text
from engine.providers.arguments import names_of
from engine.secret import Secret

_NAMES_A_KEY = re.compile(
    r"(^|api|access|auth|private|secret|client|service|account|bearer|session|subscription)[_.-]?(key|token)$"
    r"|secret|passw|credential|authorization|cookie|signature|(^|[_-])(auth|sig)$",
    re.IGNORECASE,
)
_IS_A_KEY = re.compile(
    r"(bearer|basic)\s|(sk|rk|pk|gsk|xai|pplx|nvapi|tvly|fc|hf|r8)[-_]\w[\w-]{7,}|AIza", re.IGNORECASE
)
_OPAQUE = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_+/=]{24,}")
_MASK = "***"
_SHORTEST_KEY = 8
"""A shorter one is a placeholder, and stands by chance in too many words."""


class Cleaner:
    """Takes keys out of what is to be written. `keys` are those the model would use."""

    def __init__(self, keys: Iterable[str | None]) -> None:
        self._keys = tuple(key for key in keys if key is not None and len(key) >= _SHORTEST_KEY)

    def text(self, text: str) -> str:
        """The text, with the model's own keys masked."""
        for key in self._keys:
            text = text.replace(key, _MASK)
        return text

    def table(self, name: str, table: Mapping[str, Any], kept: frozenset[str] = frozenset()) -> dict[str, Any]:
        """A table as plain data; entries that hold keys are left out, but for the names in `kept`.

        Raises:
          UsageError: something in it cannot be written as JSON; the message says where.
        """
        plain = {}
        for entry, value in table.items():
            try:
                plain[entry] = msgspec.json.decode(msgspec.json.encode(value))
            except (TypeError, ValueError, RecursionError):
                raise UsageError(
                    f"{name}[{entry!a:.60}] cannot be written as JSON: {type(value).__name__}; leave it out of the "
                    "model, and give it with the call"
                ) from None
        return {
            self.text(entry): self._masked(value) if entry in kept else self._cleaned(value)
            for entry, value in plain.items()
            if entry in kept or not self._is_key(entry, value)
        }

    def _is_key(self, name: str, value: object) -> bool:
        looks = isinstance(value, str) and (_IS_A_KEY.match(value) or self.text(value) != value)
        return bool(_NAMES_A_KEY.search(name) or looks)

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.text(name): self._cleaned(one) for name, one in value.items() if not self._is_key(name, one)}
        return [self._cleaned(one) for one in value] if isinstance(value, list) else self._masked(value)

    def _masked(self, value: Any) -> Any:
        """What a provider documents is kept whole, however its parts are called: schemas of tools, say."""
        if isinstance(value, dict):
            return {self.text(name): self._masked(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self._masked(one) for one in value]
        return self.text(value) if isinstance(value, str) else value

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Those that hold no key."""
        return {
            name: value
            for name, value in headers.items()
            if not (self._is_key(name, value) or "token" in name.lower() or _OPAQUE.fullmatch(value.strip()))
        }

    def address(self, address: str) -> str:
        """The address without a user and without keys in its query."""
        parts = urlsplit(address)
        query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True)]
        bare = [(name, value) for name, value in query if not self._is_key(name, value)]
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        if bare != query:
            parts = parts._replace(query=urlencode(bare))
        return self.text(parts.geturl())


def written(
    endpoint: Endpoint,
    arguments: Mapping[str, Any],
    options: Mapping[str, Any],
    metadata: Mapping[str, Any],
    environ: Mapping[str, str],
) -> dict[str, Any]:
    """What a model is but for its id and its limits, as data: its metadata, its endpoint, the options of its calls.

    `environ` is where its key might come from.
    """
    explicit = endpoint.config.api_key
    keys = (explicit.reveal().strip() if explicit is not None else None, *map(environ.get, endpoint.spec.key_env))
    clean = Cleaner(keys)
    documented = names_of(endpoint.spec.format.options)
    said = {name: value for name, value in options.items() if name != "hook_options"}
    if endpoint.spec.is_cli:
        arguments = {name: value for name, value in arguments.items() if name not in _OF_THIS_MACHINE}
    return {
        "provider_metadata": clean.table("provider_metadata", metadata),
        "endpoint": {"config": _config_data(endpoint.config, arguments, documented, clean)},
        "options": clean.table("options", said),
    }


def _config_data(
    config: EndpointConfig, arguments: Mapping[str, Any], documented: frozenset[str], clean: Cleaner
) -> dict[str, Any]:
    """An endpoint's configuration as data, with the arguments of every call; what was not said is left out."""
    data = {
        "provider": config.provider,
        "endpoint": config.endpoint,
        "base_url": None if config.base_url is None else clean.address(config.base_url.strip()),
        "auth_type": config.auth_type,
        "default_headers": clean.headers(config.default_headers) or None,
        "timeout": config.timeout,
        "kwargs": clean.table("kwargs", arguments, documented | {"model"}),
    }
    return {name: value for name, value in data.items() if value is not None}


def limits_data(limits: LaneArguments) -> dict[str, Any]:
    """What a model was told of its lane, as data. What the seeds do not have is left out where it was not said."""
    data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(limits))
    return {name: value for name, value in data.items() if value or name not in _OURS}


_OF_THIS_MACHINE = ("program", "pass_env")
"""Arguments of agents that no data may say: which program is run, and what it sees of the user's environment."""
_OURS = ("quotas", "limits", "weights", "ageing_s", "lane", "shares")
_CONFIG = ("provider", "endpoint", "base_url", "auth_type", "default_headers", "timeout", "kwargs")


def arguments_in(data: Mapping[str, Any], base_url: str | None, api_key: str | None) -> dict[str, Any]:
    """The constructor's arguments in a model's data, but for its limits; at another address or with a key if given.

    Raises:
      UsageError: the data is none of a model.
    """
    config = _table(_table(data, "endpoint"), "config")
    fields = {name: config[name] for name in _CONFIG if config.get(name) is not None}
    if base_url is not None:
        fields["base_url"] = base_url
    endpoint = Endpoint(EndpointConfig(**fields, api_key=Secret(api_key) if api_key is not None else None))
    for name in _OF_THIS_MACHINE if endpoint.spec.is_cli else ():
        if endpoint.config.kwargs.get(name):
            raise UsageError(f"{name}= of an agent is not taken from data; give it with each call")
    options = {name: value for name, value in _table(data, "options", {}).items() if name in OPTION_NAMES}
    return {
        "endpoint": endpoint,
        **{name: data[name] for name in ("id", "created_at", "provider_metadata") if name in data},
        "max_connections": _table(data, "processor_config", {}).get("max_connections", MAX_CONNECTIONS),
        **options,
    }


def limits_of(data: Mapping[str, Any]) -> LaneArguments:
    """The limits that `limits_data` has written; none if they were left out.

    Raises:
      UsageError: the data is none of limits. What is wrong with a limit itself is found where it is used.
    """
    said = _table(data, "processor_config", {})
    fields = {name: said[name] for name in LaneArguments.__struct_fields__ if said.get(name) is not None}
    check_text(lane=fields.get("lane"), shares=fields.get("shares"))
    try:
        quotas = msgspec.convert(fields.pop("quotas", ()), tuple[Quota, ...])
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise UsageError(f"processor_config['quotas'] are no quotas: {type(error).__name__}") from None
    return LaneArguments(**fields, quotas=quotas)


def _table(data: object, name: str, default: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """A table in a table. Raises `UsageError` if there is none and no default."""
    found = data.get(name, default) if isinstance(data, Mapping) else None
    if not isinstance(found, Mapping) or not all(isinstance(one, str) for one in found):
        raise UsageError(f"from_dict takes what to_dict gives: {name!r} is missing there, or no table")
    return found
