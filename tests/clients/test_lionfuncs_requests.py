"""What lionfuncs' iModel sends, over a real socket, and what it makes of each answer."""

from __future__ import annotations

import http
import inspect
import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import trio
from lion_server import CONFIG, FREE, KEY, service

from engine.clients.lionfuncs import EndpointConfig, Executor, NetworkRequestEvent, RequestStatus, iModel
from engine.errors import UnknownEndpoint, UsageError


async def ask(
    config: dict[str, Any],
    prompt: Any = "hello",
    *,
    answer: tuple[int, dict[str, str], bytes] | None = None,
    **said: Any,
) -> tuple[NetworkRequestEvent, Any]:
    """One request of a model with `config` over that of the service; its event, and what arrived, if anything did."""
    async with service() as served, Executor(**FREE) as executor:
        if answer is not None:
            served.status, headers, served.body = answer
            served.headers = {**served.headers, **headers}
        model = iModel(executor, {**served.config, "max_retries": 0, **config})
        event = await (await model.acompletion(prompt, **said)).wait()
        assert KEY not in repr((event, model, event.headers, event.logs, event.error_details))
    return event, served.asked[-1] if served.asked else None


# --- what is sent ---


async def test_the_body_is_the_pages_and_the_callers_own_words_win() -> None:
    _, asked = await ask({})
    assert asked.json == {"model": "m-1", "prompt": "hello", "max_tokens": 150, "temperature": 0.7}
    _, asked = await ask({"kwargs": {"max_tokens": 9, "top_p": 0.5, "stop": ["a"]}}, stop=["b"], n=2)
    assert asked.json == {
        "model": "m-1", "prompt": "hello", "max_tokens": 9, "temperature": 0.7, "top_p": 0.5, "stop": ["b"], "n": 2,
    }  # fmt: skip


async def test_what_is_said_wins_also_where_it_is_the_default() -> None:
    kwargs = {"max_tokens": 9, "temperature": 0.1, "prompt": "the config's"}
    _, asked = await ask({"kwargs": kwargs}, max_tokens=150, temperature=0.7)
    assert asked.json == {"model": "m-1", "prompt": "hello", "max_tokens": 150, "temperature": 0.7}


async def test_none_is_not_sent() -> None:
    event, asked = await ask({"kwargs": {"stop": ["a"]}}, max_tokens=None, temperature=None, stop=None)
    assert asked.json == event.payload == {"model": "m-1", "prompt": "hello"}


@pytest.mark.parametrize(
    ("config", "said", "model"),
    [
        ({}, {}, "m-1"),
        ({"kwargs": {"model": "m-2"}}, {}, "m-2"),
        ({"kwargs": {"model": "m-2"}}, {"model": "m-3"}, "m-3"),
        ({"model_name": None}, {}, None),
        ({"kwargs": {"model": None}}, {}, None),
    ],
)
async def test_the_model_is_sent(config: dict[str, Any], said: dict[str, Any], model: str | None) -> None:
    """lionfuncs sends none, unless `kwargs` name one."""
    event, asked = await ask(config, **said)
    assert asked.json.get("model") == model
    assert event.metadata == {"model_name": model or "unknown"}
    if not said:
        assert iModel(Executor(), {**CONFIG, **config}).model_name == (model or "unknown")


async def test_the_key_is_a_bearer_and_the_body_is_json() -> None:
    event, asked = await ask({})
    assert (asked.method, asked.target) == ("POST", "/v1/completions")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert event.headers == {"Content-Type": "application/json", "Authorization": "Bearer ***"}


BASIC = f"Basic {KEY}"
OWN_TYPE = {"content-type": "application/vnd.api+json"}


@pytest.mark.parametrize(
    ("config", "sent", "shown"),
    [
        ({"api_key": None}, {"authorization": None}, {"Content-Type": "application/json"}),
        ({"api_key": ""}, {"authorization": None}, {"Content-Type": "application/json"}),
        ({"auth_type": "x-api-key"}, {"x-api-key": KEY, "authorization": None}, {"x-api-key": "***"}),
        ({"auth_type": "token"}, {"authorization": f"Token {KEY}"}, {"Authorization": "Token ***"}),
        ({"auth_type": "none"}, {"authorization": None}, {}),
        ({"default_headers": {"AUTHORIZATION": BASIC}}, {"authorization": BASIC}, {"AUTHORIZATION": "Basic ***"}),
        ({"default_headers": {"X-Team": "red"}}, {"x-team": "red"}, {"X-Team": "red", "Authorization": "Bearer ***"}),
        ({"default_headers": {"X-Secret": KEY}}, {"x-secret": KEY}, {"X-Secret": "***"}),
        ({"default_headers": OWN_TYPE}, OWN_TYPE, OWN_TYPE),
        ({"content_type": OWN_TYPE["content-type"]}, OWN_TYPE, {}),
    ],
)  # fmt: skip
async def test_headers(config: dict[str, Any], sent: dict[str, str | None], shown: dict[str, str]) -> None:
    """Those of the config override."""
    event, asked = await ask(config)
    assert {name: asked.headers.get(name) for name in sent} == sent
    assert shown.items() <= event.headers.items()
    assert {name for name, value in sent.items() if value is None}.isdisjoint(map(str.lower, event.headers))
    assert len({name.lower() for name in event.headers}) == len(event.headers)


@pytest.mark.parametrize(
    ("config", "target"),
    [
        ({"endpoint": "chat/completions"}, "/v1/chat/completions"),
        ({"endpoint": "/completions"}, "/v1/completions"),
        ({"endpoint": "models/{m}/run", "endpoint_params": ["m"], "params": {"m": "a/b"}}, "/v1/models/a%2Fb/run"),
        ({"endpoint": "completions?version=2"}, "/v1/completions?version=2"),
    ],
)  # fmt: skip
async def test_the_address_is_the_base_and_the_endpoint(config: dict[str, Any], target: str) -> None:
    event, asked = await ask(config)
    assert asked.target == target
    assert event.endpoint_url is not None
    assert event.endpoint_url.endswith(target)
    assert event.status is RequestStatus.COMPLETED


def test_a_query_of_the_base_stays_behind_the_path() -> None:
    model = iModel(Executor(), {"base_url": "https://a.example/openai/?api-version=3", "endpoint": "completions?x=1"})
    assert model._url == "https://a.example/openai/completions?api-version=3&x=1"


@pytest.mark.parametrize("method", ["POST", "put", "Patch"])
async def test_methods_with_a_body(method: str) -> None:
    event, asked = await ask({"method": method})
    assert asked.method == event.method == method.upper()
    assert asked.json == event.payload


@pytest.mark.parametrize("method", ["GET", "delete"])
async def test_methods_without_a_body_have_a_query(method: str) -> None:
    event, asked = await ask(
        {"method": method, "endpoint": "models?page=2", "kwargs": {"deep": True, "filter": {"a": 1}}},
        "ä & b",
        ids=[1, 2],
    )
    assert (asked.method, asked.body) == (method.upper(), b"")
    assert parse_qsl(urlsplit(asked.target).query) == [
        ("page", "2"), ("model", "m-1"), ("max_tokens", "150"), ("temperature", "0.7"), ("deep", "true"),
        ("filter", '{"a":1}'), ("prompt", "ä & b"), ("ids", "1"), ("ids", "2"),
    ]  # fmt: skip
    assert event.status is RequestStatus.COMPLETED


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_the_payload_is_the_events_own(method: str) -> None:
    """It is what was sent, whatever becomes of the caller's objects."""
    messages = [{"role": "user"}]
    async with service() as served, Executor(**FREE) as executor:
        model = iModel(executor, {**served.config, "method": method, "kwargs": {"stop": (stop := ["a"])}})
        event = await model.acompletion("hello", messages=messages)
        messages.append({"role": "late"})
        stop.append("late")
        await event.wait()
    assert (event.payload["messages"], event.payload["stop"]) == ([{"role": "user"}], ["a"])


def test_the_signature_shows_its_defaults() -> None:
    shown = str(inspect.signature(iModel.acompletion))
    assert "max_tokens: 'int | None' = 150, temperature: 'float | None' = 0.7," in shown


# --- what comes back ---


async def test_a_success_is_on_the_event() -> None:
    headers = {"X-Answered-By": "somebody", "set-cookie": "a=b"}
    event, _ = await ask({}, answer=(201, headers, b'{"choices": [{"text": "yes"}]}'))
    assert event.status is RequestStatus.COMPLETED
    assert event.response_status_code == 201
    assert event.response_body == {"choices": [{"text": "yes"}]}
    assert event.response_headers is not None
    assert event.response_headers["content-type"] == "application/json"
    assert event.response_headers["x-answered-by"] == "somebody"
    assert "set-cookie" not in event.response_headers
    assert (event.error_type, event.error_message, event.error_details) == (None, None, None)


@pytest.mark.parametrize("body", [b"[]", b"0", b'"text"', b"[1, 2]", b"{}"])
async def test_any_json_is_an_answer(body: bytes) -> None:
    event, _ = await ask({}, answer=(200, {}, body))
    assert (event.status, event.response_body) == (RequestStatus.COMPLETED, json.loads(body))


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_an_empty_success_is_one(status: int) -> None:
    event, _ = await ask({"method": "DELETE"}, answer=(status, {}, b""))
    assert (event.status, event.response_body, event.response_status_code) == (RequestStatus.COMPLETED, None, status)


async def test_a_success_that_is_no_json_is_a_failure() -> None:
    event, _ = await ask({}, answer=(200, {"content-type": "text/html"}, b"<html>hello</html>"))
    assert (event.status, event.error_type) == (RequestStatus.FAILED, "MalformedReply")
    assert (event.response_status_code, event.response_body) == (200, "<html>hello</html>")


STATUSES = [status.value for status in http.HTTPStatus if status.value >= 400]
TYPES = {401: "Rejected", 404: "Rejected", 422: "Rejected", 429: "RateLimited"} | dict.fromkeys(
    (500, 502, 503), "ProviderUnavailable"
)


@pytest.mark.parametrize("status", STATUSES)
async def test_every_status_of_an_error_is_a_failure(status: int) -> None:
    """lionfuncs calls it COMPLETED."""
    body = b'{"error": {"message": "no, not so", "code": "e-1"}}'
    event, _ = await ask({}, answer=(status, {"x-request-id": "r-1"}, body))
    assert event.status is RequestStatus.FAILED
    assert event.response_status_code == status
    assert event.response_body == {"error": {"message": "no, not so", "code": "e-1"}}
    assert event.error_type is not None
    assert event.error_type == TYPES.get(status, event.error_type)
    assert "no, not so" in (event.error_message or "")
    assert "request_id='r-1'" in (event.error_details or "")
    assert event.logs[-1].endswith(f"Call failed: {event.error_type} - {event.error_message}")


@pytest.mark.parametrize("body", [b"plain words", b""])
async def test_an_error_without_json_keeps_its_text(body: bytes) -> None:
    event, _ = await ask({}, answer=(502, {"content-type": "text/plain"}, body))
    assert (event.status, event.response_body) == (RequestStatus.FAILED, body.decode() or None)


async def test_a_redirect_is_not_followed() -> None:
    event, _ = await ask({}, answer=(302, {"location": "https://elsewhere.example/"}, b""))
    assert (event.status, event.response_status_code) == (RequestStatus.FAILED, 302)


async def test_a_provider_that_repeats_the_key_is_not_quoted() -> None:
    body = json.dumps({"error": {"message": f"no such key: {KEY}"}}).encode()
    event, _ = await ask({}, answer=(401, {"x-seen": f"Bearer {KEY}"}, body))
    shown = [event.error_message, event.error_details, event.response_body, event.response_headers, event.logs]
    assert KEY not in repr(shown)


async def test_nobody_there_is_a_failure() -> None:
    async with Executor(**FREE) as executor:
        model = iModel(executor, {**CONFIG, "base_url": "http://127.0.0.1:9", "max_retries": 0})
        event = await (await model.acompletion("hello")).wait()
    assert (event.status, event.error_type, event.response_status_code) == ("FAILED", "ConnectFailed", None)
    assert event.response_headers is None
    assert event.response_body is None


# --- sessions ---


def idle(executor: Executor) -> int:
    """How many connections stand that no call is using."""
    return sum(endpoint.idle for endpoint in executor.engine.statistics().endpoints)


async def test_sessions_close_twice_and_open_again() -> None:
    async with service() as served, Executor(**FREE) as executor:
        async with iModel(executor, served.config) as model:
            assert (await (await model.acompletion("one")).wait()).status is RequestStatus.COMPLETED
            assert idle(executor) == 1
            await model.close_session()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert idle(executor) == 0
            await (await model.acompletion("more")).wait()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert idle(executor) == 0, "leaving the model closes them as well"
        await model.close_session()
        async with model as again:
            assert again is model
            assert (await (await model.acompletion("two")).wait()).status is RequestStatus.COMPLETED
    assert [asked.json["prompt"] for asked in served.asked] == ["one", "more", "two"]


async def test_leaving_the_model_does_not_take_its_calls_along() -> None:
    async with service() as served, Executor(**FREE) as executor:
        async with iModel(executor, served.config) as model:
            event = await model.acompletion("hello")
        await event.wait()
    assert event.status is RequestStatus.COMPLETED


# --- what is wrong with a call ---


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"stop": object()}, "cannot be written as JSON"),
        ({"num_tokens_to_consume": -1}, "a whole number of at least 0, not -1"),
        ({"num_tokens_to_consume": 1.5}, "not 1.5"),
        ({"num_tokens_to_consume": True}, "not True"),
        ({"num_tokens_to_consume": "ten"}, "not 'ten'"),
    ],
)
async def test_a_call_that_cannot_be_sent_has_failed(said: dict[str, Any], words: str) -> None:
    event, asked = await ask({}, **said)
    assert (event.status, event.error_type, asked) == (RequestStatus.FAILED, "InvalidCall", None)
    assert words in (event.error_message or "")
    assert event.queued_at is None
    assert event.completed_at is not None


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("prompt", [{1, 2, object()}, "\ud800", ["\ud800"]], ids=["object", "text", "list"])
async def test_arguments_that_json_cannot_hold(method: str, prompt: Any) -> None:
    event, asked = await ask({"method": method}, prompt)
    assert (event.status, event.error_type, asked) == (RequestStatus.FAILED, "InvalidCall", None)


async def test_a_key_that_no_header_holds_is_not_shown() -> None:
    async with Executor(**FREE) as executor:
        model = iModel(executor, {**CONFIG, "api_key": "two\nlines-1234"})
        event = await (await model.acompletion("hello")).wait()
    assert (event.status, event.error_type) == (RequestStatus.FAILED, "MissingKey")
    assert "lines" not in repr((event.error_message, event.error_details, model.config, event))


@pytest.mark.parametrize("headers", [{"Host": "elsewhere.example"}, {"X-Secret": f"{KEY}\n"}, {"no name": "x"}])
async def test_headers_that_no_request_has(headers: dict[str, str]) -> None:
    event, asked = await ask({"default_headers": {**headers, "X-Other": "a\x00b"}})
    assert (event.status, event.error_type, asked) == (RequestStatus.FAILED, "UsageError", None)
    assert "header" in (event.error_message or "")


# --- what is wrong with a config ---


@pytest.mark.parametrize("config", [None, "https://a.example", 5, [("base_url", "https://a.example")], EndpointConfig])
def test_a_config_is_a_dict_or_an_endpoint_config(config: Any) -> None:
    with pytest.raises(TypeError, match=r"^model_endpoint_config must be a dict or EndpointConfig$"):
        iModel(Executor(), config)


def test_an_executor_is_one() -> None:
    with pytest.raises(UsageError, match="executor is an Executor, not dict"):
        iModel({}, CONFIG)  # type: ignore[arg-type]  # that is what is tested


BAD: list[tuple[dict[Any, Any], str]] = [
    ({"base_url": None}, "base_url is missing"),
    ({"base_url": 5}, "base_url must be a text"),
    ({"api_key": 5}, "api_key must be a text, not int"),
    ({"timeout": 0}, "timeout must be seconds"),
    ({"timeout": "300"}, "timeout must be seconds"),
    ({"method": "HEAD"}, "method must be one of GET, POST, PUT, PATCH, DELETE"),
    ({"method": None}, "method must be one of"),
    ({"model_name": ""}, "model_name must be a text that is not empty"),
    ({"model_name": 4}, "model_name must be a text"),
    ({"name": ""}, "name must be a text"),
    ({"endpoint": ""}, "endpoint must be a text"),
    ({"endpoint": "a b"}, "holds a space"),
    ({"endpoint": "ä"}, "holds a character that no address has"),
    ({"endpoint": "a#b"}, "holds a fragment|holds a character"),
    ({"endpoint": "models/{model}"}, "holds a character that no address has"),
    ({"endpoint_params": ["model"]}, "params has a value for each name"),
    ({"endpoint_params": "model"}, "endpoint_params must be a list of names"),
    ({"endpoint_params": [3]}, "endpoint_params must be names"),
    ({"endpoint_params": ["model"], "params": {"model": 1}}, "does not stand in braces"),
    ({"params": {"model": 1}}, "params has a value for each name"),
    ({"params": []}, "params must be a dict"),
    ({"kwargs": []}, "kwargs must be a dict"),
    ({"default_headers": {"a": 1}}, "must be a text under a name"),
    ({"transport_type": "sdk"}, 'transport_type is "http" here'),
    ({"client_kwargs": {"verify": False}}, "client_kwargs are for an HTTP client"),
    ({"content_type": "text/plain"}, "content_type must be one of JSON"),
    ({"max_retries": -1}, "max_retries must be a whole number"),
    ({"max_retries": 100}, "max_retries must be a whole number"),
    ({"max_retries": True}, "max_retries must be a whole number"),
    ({"auth_type": "basic"}, "auth_type is"),
    ({"apikey": KEY}, "model_endpoint_config has no entry 'apikey'"),
    ({5: KEY}, "has no entry 5"),
]


@pytest.mark.parametrize(("entries", "words"), BAD)
def test_a_wrong_entry_is_named_and_no_key_shown(entries: dict[Any, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        iModel(Executor(), {**CONFIG, **entries})
    assert KEY not in repr(caught.value)


MEANT = [("model", "model_name"), ("base", "base_url"), ("headers", "default_headers"), ("apikey", "api_key")]


@pytest.mark.parametrize(("entry", "meant"), MEANT)
def test_an_unknown_entry_is_told_what_was_perhaps_meant(entry: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"has no entry '{entry}'; did you mean {meant}"):
        iModel(Executor(), {**CONFIG, entry: "x"})


@pytest.mark.parametrize(
    "address", ["ftp://a.example", "a.example", "https://user:pw@a.example", "https://a.example?api_key=x"]
)
def test_an_address_that_is_none_is_refused_when_the_model_is_made(address: str) -> None:
    with pytest.raises(UnknownEndpoint, match="base_url"):
        iModel(Executor(), {**CONFIG, "base_url": address})


# --- what a config says of calls ---


def test_timeout_and_retries_are_those_of_its_calls() -> None:
    usual, said = iModel(Executor(), CONFIG), iModel(Executor(), {**CONFIG, "timeout": 5, "max_retries": 2})
    assert (usual._options.timeout_s, usual._options.max_attempts) == (300, 4)
    assert (said._options.timeout_s, said._options.max_attempts) == (5, 3)


def test_what_few_say_is_shown_where_it_is_said() -> None:
    usual = repr(EndpointConfig())
    shown = ["provider", "endpoint", "base_url", "api_key", "auth_type", "default_headers", "timeout", "kwargs"]
    assert [name for name in EndpointConfig.__struct_fields__ if f"{name}=" in usual] == shown
    assert "method='GET'" in repr(EndpointConfig(method="GET"))


def test_entries_without_effect_are_taken() -> None:
    further = {
        "name": "mine",
        "provider": "acme",
        "oai_compatible": True,
        "transport_type": "http",
        "client_kwargs": {},
    }
    model = iModel(Executor(), EndpointConfig(**{**CONFIG, "endpoint": "completions", **further}))
    assert repr(model) == "<iModel POST https://service.example/v1/completions>"
    assert model.model_name == "m-1"
    assert KEY not in repr(model.config)
