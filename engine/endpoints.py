"""Endpoints as objects: a class for each one of the catalogue, and `match_endpoint`, which finds it by its names.

    model = iModel(endpoint=OpenaiEmbedEndpoint(model="text-embedding-3-small"))

is the same as ``iModel(provider="openai", endpoint="embed", model=...)``. An endpoint holds what its calls have in
common: address, headers, key, arguments; limits belong to the model. Pure: no trio, no I/O; its key is in no repr.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, get_args

import msgspec

from actors.limits import is_number
from engine.errors import UsageError
from engine.providers.catalogue import Auth
from engine.providers.lookup import EndpointSpec, find, resolve
from engine.secret import Secret

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""What an endpoint may be asked with."""


class EndpointConfig(msgspec.Struct, kw_only=True, frozen=True):
    """What an endpoint was told, with the fields of lionagi's and of lionfuncs' class of this name. None is "not said":
    the catalogue's own holds.

    `auth_type` is ``"bearer"``, ``"x-api-key"``, ``"token"`` or ``"none"``. `default_headers` go with every request,
    over the provider's own. `kwargs` are arguments of every call, which a call's own replace. `timeout` bounds an
    attempt, in seconds. `model_name` is the `model` of every call, unless `kwargs` or the call name one. `max_retries`
    is how often a call is tried again (None: as `CallOptions.max_attempts` has it).

    `method`, `content_type` and `endpoint_params`, names in braces in `endpoint` that `params` fills in, are for
    `engine.clients.lionfuncs`; an endpoint of the catalogue knows them itself. `name` is a label, and `oai_compatible`
    changes nothing. `transport_type` is ``"http"``, and `client_kwargs` are refused: there is no such client here.

    Raises:
      UsageError: something is of the wrong type, or cannot be meant here; the message names it and shows no key.
    """

    provider: str = "openai"
    endpoint: str = "chat"
    base_url: str | None = None
    api_key: Secret | None = None
    auth_type: Auth | None = None
    default_headers: dict[str, str] = {}
    timeout: float | None = None
    kwargs: dict[str, Any] = {}
    name: str | None = None
    model_name: str | None = None
    method: str = "POST"
    content_type: str = "application/json"
    endpoint_params: list[str] | None = None
    params: dict[str, Any] = {}
    max_retries: int | None = None
    transport_type: str = "http"
    oai_compatible: bool = False
    client_kwargs: dict[str, Any] = {}

    def __post_init__(self) -> None:
        for name in ("provider", "endpoint"):
            _check_text(name, getattr(self, name))
        for name in ("name", "model_name"):
            if getattr(self, name) is not None:
                _check_text(name, getattr(self, name))
        if not isinstance(self.base_url, str | None):
            raise UsageError(f"base_url must be a text, not {type(self.base_url).__name__}")
        if self.timeout is not None and not (is_number(self.timeout) and self.timeout > 0):
            raise UsageError(f"timeout must be seconds, more than 0, not {self.timeout!a:.40}")
        if self.auth_type not in (None, *get_args(Auth)):
            raise UsageError('auth_type is "bearer", "x-api-key", "token" or "none"')
        _check_transport(self.transport_type, self.client_kwargs, self.content_type)
        for name, checked in (
            ("api_key", _secret(self.api_key)),
            ("default_headers", _headers(self.default_headers)),
            ("kwargs", _arguments(self.kwargs)),
            ("params", _arguments(self.params, "params")),
            ("method", _method(self.method)),
            ("max_retries", _retries(self.max_retries)),
            ("endpoint_params", _names(self.endpoint_params)),
        ):
            msgspec.structs.force_setattr(self, name, checked)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Its fields, without what headers hold: that may be a key. Those few know are left out where not said."""
        shown = {"default_headers": list(self.default_headers)}
        fields = zip(self.__struct_fields__, self.__struct_defaults__, strict=True)
        said = [name for name, default in fields if name not in _SELDOM or getattr(self, name) not in (default, {})]
        return [(name, shown.get(name, getattr(self, name))) for name in said]

    def __repr__(self) -> str:
        return f"EndpointConfig({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def spec(self) -> EndpointSpec:
        """Where its calls go.

        Raises:
          UnknownEndpoint: no such provider or endpoint, or an address that cannot be used.
        """
        return resolve(self.provider, self.endpoint, self.base_url, self.default_headers, self.auth_type)

    @property
    def full_url(self) -> str:
        """The whole address of a request."""
        return self.spec().url

    def options(self) -> dict[str, Any]:
        """What it says of the `CallOptions` of its calls."""
        said = {"timeout_s": self.timeout, "max_attempts": None if self.max_retries is None else self.max_retries + 1}
        return {name: value for name, value in said.items() if value is not None}


_MOST_RETRIES = 99
_FIELDS = frozenset(EndpointConfig.__struct_fields__)
_SELDOM = frozenset((
    "name", "model_name", "method", "content_type", "endpoint_params", "params", "max_retries", "transport_type",
    "oai_compatible", "client_kwargs",
))  # fmt: skip


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{name} must be a text that is not empty, not {value!a:.60}")


def _arguments(given: object, name: str = "kwargs") -> dict[str, Any]:
    if not isinstance(given, Mapping) or not all(isinstance(one, str) for one in given):
        raise UsageError(f"{name} must be a dict of arguments by their names, not {type(given).__name__}")
    return dict(given)


def _method(method: object) -> str:
    if not isinstance(method, str) or method.upper() not in METHODS:
        raise UsageError(f"method must be one of {', '.join(METHODS)}, not {method!a:.40}")
    return method.upper()


def _retries(most: object) -> int | None:
    if most is None or (isinstance(most, int) and not isinstance(most, bool) and 0 <= most <= _MOST_RETRIES):
        return most
    raise UsageError(f"max_retries must be a whole number from 0 to {_MOST_RETRIES}, not {most!a:.40}")


def _names(given: object) -> list[str] | None:
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UsageError(f"endpoint_params must be a list of names, not {type(given).__name__}")
    names = list(given)
    if not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise UsageError("endpoint_params must be names, as they stand in braces in the endpoint")
    return names


def _check_transport(transport_type: object, client_kwargs: object, content_type: object) -> None:
    if transport_type != "http":
        raise UsageError(f'transport_type is "http" here, not {transport_type!a:.40}: no SDK is driven')
    if client_kwargs != {}:
        raise UsageError("client_kwargs are for an HTTP client that is not used here; leave them out")
    if not isinstance(content_type, str) or not _JSON.fullmatch(content_type):
        raise UsageError(f"content_type must be one of JSON, as application/json, not {content_type!a:.60}")


_JSON = re.compile(r"application/([\w.-]+\+)?json( *;[\x20-\x7e]*)?", re.IGNORECASE)


def _secret(key: object) -> Secret | None:
    if key is None or isinstance(key, Secret):
        return key
    if isinstance(key, str):
        return Secret(key)
    raise UsageError(f"api_key must be a text, not {type(key).__name__}")


def _headers(headers: object) -> dict[str, str]:
    """Headers as a dict of their own. What is wrong with them is said without their values: one may be a key."""
    if not isinstance(headers, Mapping):
        raise UsageError(f"default_headers must be a dict from name to value, not {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageError(f"default_headers[{name!a:.60}] must be a text under a name that is a text")
    return dict(headers)


_USUAL = EndpointConfig()
_classes: dict[tuple[str, str], type[Endpoint]] = {}


class Endpoint:
    """One endpoint of one provider, with what all of its calls have in common.

    Args:
      config: an `EndpointConfig`, or a dict of its fields.
      **kwargs: its fields, over those of `config`; any other name is an argument of every call (`model`, ...).

    Raises:
      UsageError: something is of the wrong type, or belongs to another class of endpoint.
      UnknownEndpoint: no such provider or endpoint, or an address that cannot be used.
    """

    provider: ClassVar[str] = ""
    endpoint: ClassVar[str] = ""

    def __init_subclass__(cls, *, provider: str = "", endpoint: str = "", **kwargs: Any) -> None:
        """A class of one endpoint, which `match_endpoint` finds; a class derived from one is of the same endpoint."""
        super().__init_subclass__(**kwargs)
        if provider:
            cls.provider, cls.endpoint = provider, endpoint
            _classes.setdefault((provider, endpoint), cls)

    def __init__(self, config: EndpointConfig | Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        fields = self._fields_of(config)
        arguments = {**_arguments(fields.pop("kwargs", {})), **_arguments(kwargs.pop("kwargs", {}))}
        for name, value in kwargs.items():
            (fields if name in _FIELDS else arguments)[name] = value
        self._claim(fields)
        if fields.get("model_name") is not None:
            arguments.setdefault("model", fields["model_name"])
        self.config = EndpointConfig(**fields, kwargs=arguments)
        for name in ("method", "content_type", "endpoint_params", "params"):
            if getattr(self.config, name) not in (getattr(_USUAL, name), {}, []):
                raise UsageError(f"{name} is what the catalogue says of its endpoint; leave it out")
        self.spec = self.config.spec()

    @staticmethod
    def _fields_of(config: object) -> dict[str, Any]:
        if config is None:
            return {}
        if isinstance(config, EndpointConfig):
            return msgspec.structs.asdict(config)
        if not isinstance(config, Mapping):
            raise UsageError(f"an endpoint's config is an EndpointConfig or a dict, not {type(config).__name__}")
        unknown = config.keys() - _FIELDS
        return {
            **{name: value for name, value in config.items() if name in _FIELDS},
            "kwargs": {**_arguments(config.get("kwargs", {})), **{name: config[name] for name in unknown}},
        }

    def _claim(self, fields: dict[str, Any]) -> None:
        """A class of one endpoint makes no other."""
        if not self.provider:
            return
        provider, endpoint = fields.get("provider", self.provider), fields.get("endpoint", self.endpoint)
        if isinstance(provider, str) and isinstance(endpoint, str):
            found, row = find(provider, endpoint, compatible=True)
            if (found.name, row.name) != (self.provider, self.endpoint):
                raise UsageError(
                    f"{type(self).__name__} is {self.provider}'s {self.endpoint!r}, not {found.name}'s {row.name!r}; "
                    "match_endpoint finds the class of any other"
                )
        fields |= {"provider": self.provider, "endpoint": self.endpoint}

    @property
    def request_options(self) -> type[msgspec.Struct] | None:
        """The arguments it documents, with types and ranges; None where it documents none."""
        return self.spec.format.options

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.spec.provider} {self.spec.endpoint} at {self.spec.url}>"


class OpenaiChatEndpoint(Endpoint, provider="openai", endpoint="chat"):
    """OpenAI's chat completions."""


class OpenaiResponseEndpoint(Endpoint, provider="openai", endpoint="response"):
    """OpenAI's Responses."""


class OpenaiEmbedEndpoint(Endpoint, provider="openai", endpoint="embed"):
    """OpenAI's embeddings."""


class OpenaiCompletionsEndpoint(Endpoint, provider="openai", endpoint="completions"):
    """OpenAI's older text completions."""


class AnthropicMessagesEndpoint(Endpoint, provider="anthropic", endpoint="chat"):
    """Anthropic's Messages."""


class GeminiChatEndpoint(Endpoint, provider="gemini", endpoint="chat"):
    """Gemini, as it speaks OpenAI's chat format."""


class OllamaChatEndpoint(Endpoint, provider="ollama", endpoint="chat"):
    """Ollama, as it speaks OpenAI's chat format."""


class OllamaNativeEndpoint(Endpoint, provider="ollama", endpoint="native"):
    """Ollama's own chat."""


class OllamaEmbedEndpoint(Endpoint, provider="ollama", endpoint="embed"):
    """Ollama's embeddings, in OpenAI's format."""


class GroqChatEndpoint(Endpoint, provider="groq", endpoint="chat"):
    """Groq's chat completions."""


class DeepseekChatEndpoint(Endpoint, provider="deepseek", endpoint="chat"):
    """DeepSeek's chat completions."""


class PerplexityChatEndpoint(Endpoint, provider="perplexity", endpoint="chat"):
    """Perplexity's Sonar."""


class OpenRouterChatEndpoint(Endpoint, provider="openrouter", endpoint="chat"):
    """OpenRouter's chat completions."""


class NvidiaNimChatEndpoint(Endpoint, provider="nvidia_nim", endpoint="chat"):
    """NVIDIA NIM's chat completions."""


class NvidiaNimEmbedEndpoint(Endpoint, provider="nvidia_nim", endpoint="embed"):
    """NVIDIA NIM's embeddings."""


class ExaSearchEndpoint(Endpoint, provider="exa", endpoint="search"):
    """Exa's search."""


class TavilySearchEndpoint(Endpoint, provider="tavily", endpoint="search"):
    """Tavily's search."""


class TavilyExtractEndpoint(Endpoint, provider="tavily", endpoint="extract"):
    """Tavily's extraction of pages."""


class FirecrawlScrapeEndpoint(Endpoint, provider="firecrawl", endpoint="scrape"):
    """Firecrawl's scraping of a page."""


class FirecrawlMapEndpoint(Endpoint, provider="firecrawl", endpoint="map"):
    """Firecrawl's map of a site."""


class AixplainRunEndpoint(Endpoint, provider="aixplain", endpoint="run"):
    """aiXplain's run of a model; `model` is its id."""


class InferneoChatEndpoint(Endpoint, provider="inferneo", endpoint="chat"):
    """Inferneo's chat completions."""


class InferneoCompletionsEndpoint(Endpoint, provider="inferneo", endpoint="completions"):
    """Inferneo's text completions."""


class ClaudeCodeEndpoint(Endpoint, provider="claude_code", endpoint="query_cli"):
    """Claude Code, run here."""


class CodexEndpoint(Endpoint, provider="codex", endpoint="query_cli"):
    """Codex, run here."""


class GeminiCodeEndpoint(Endpoint, provider="gemini_code", endpoint="query_cli"):
    """Gemini CLI, run here."""


class PiEndpoint(Endpoint, provider="pi", endpoint="query_cli"):
    """Pi, run here."""


class Ag2GroupChatEndpoint(Endpoint, provider="ag2", endpoint="group_chat"):
    """A chat of AG2's agents, run here."""


def match_endpoint(provider: str, endpoint: str = "chat") -> type[Endpoint]:
    """The class for this provider and endpoint: names ignore case, aliases are known.

    A provider that was registered has a class made for it, and so has one that nobody knows, which wants a `base_url`.

    Raises:
      UnknownEndpoint: the provider is known and has no such endpoint; the message lists those it has.
    """
    found, row = find(provider, endpoint, compatible=True)
    known = _classes.get((found.name, row.name))
    if known is None:
        # One that was registered, or that nobody knows: an address makes it whole.
        words = re.sub(r"[^A-Za-z0-9]+", " ", f"{found.name} {row.name}").title().replace(" ", "")
        known = types.new_class(
            f"{words}Endpoint", (Endpoint,), {"provider": found.name, "endpoint": row.name}, _in_this_module
        )
    return known


def _in_this_module(names: dict[str, Any]) -> None:
    names["__module__"] = __name__
