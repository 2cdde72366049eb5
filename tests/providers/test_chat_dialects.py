"""Each provider of the OpenAI chat format in its own words: what it is sent, what it refuses, what it names as sources.

The requests are those which the vendors' own clients sent (recorded 2026-11-20); every answer, stream and error that is
recorded for one of these providers is read in its dialect, so that none is left out by a table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chat_answers import FIXTURES, FORMATS, NOW_S, fixture, message
from chat_streams import assembled, delta, event, events_of

from engine.errors import InvalidCall
from engine.providers.chat_dialects import DIALECTS
from engine.providers.chat_options import ChatOptions
from engine.providers.lookup import resolve
from engine.providers.openai_chat import OpenAIChat
from engine.providers.wire import Citation, Usage

WIRES = {name: OpenAIChat(dialect) for name, dialect in DIALECTS.items()}
HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
FOLDERS = {"ollama_compat" if name == "ollama" else f"{name}_chat": name for name in FORMATS}
FILES = sorted(
    (provider, f"{folder}/{path.name}")
    for folder, provider in FOLDERS.items()
    for path in (FIXTURES / folder).iterdir()
)


def body_of(provider: str, arguments: dict[str, Any]) -> Any:
    return json.loads(WIRES[provider].encode(arguments).body)


def problem_of(provider: str, arguments: dict[str, Any]) -> InvalidCall:
    with pytest.raises(InvalidCall) as caught:
        WIRES[provider].encode(arguments)
    assert caught.value.message.startswith(f"{caught.value.argument}: ")
    assert caught.value.message.endswith("Nothing was sent.")
    return caught.value


def named(start: str) -> list[tuple[str, str]]:
    return [(provider, name) for provider, name in FILES if Path(name).name.startswith(start)]


# --- what is sent -----------------------------------------------------------------------------------------------------

SDK_EXTRAS: dict[str, tuple[dict[str, object], str]] = {
    "openrouter_chat/recorded_request.json": ({"stream": False}, "its client writes the default; we send what was set"),
}
"""What a vendor's client put into a body beside what its caller had set, and why we do not."""


@pytest.mark.parametrize(("provider", "name"), named("recorded_request"))
def test_a_call_is_written_as_the_vendors_own_client_writes_it(provider: str, name: str) -> None:
    recorded = json.loads(fixture(name))
    extras, _ = SDK_EXTRAS.get(name, ({}, ""))
    arguments = {field: value for field, value in recorded["body"].items() if field not in extras}
    assert body_of(provider, arguments) | extras == recorded["body"]
    assert resolve(provider).url.endswith(recorded["path"])


def test_every_provider_of_the_format_has_a_schema_of_its_own_and_all_share_one() -> None:
    assert set(FORMATS) | {"generic"} == set(DIALECTS)
    for provider, wire in {**FORMATS, "generic": WIRES["generic"]}.items():
        options = wire.options
        assert options is not None
        assert issubclass(options, ChatOptions)
        assert wire.dialect == DIALECTS[provider]
        msgspec.json.schema(options)


OWN: list[tuple[str, dict[str, object], dict[str, object]]] = [
    ("openai", {"reasoning_effort": "xhigh", "verbosity": "low", "store": True}, {"store": "yes"}),
    ("openai", {"service_tier": "flex", "modalities": ["text"], "prompt_cache_key": "k"}, {"modalities": "text"}),
    ("groq", {"reasoning_format": "parsed", "service_tier": "flex"}, {"reasoning_format": True}),
    ("groq", {"include_reasoning": False, "documents": [{}]}, {"include_reasoning": "no"}),
    ("deepseek", {"thinking": {"type": "disabled"}, "user_id": "u"}, {"thinking": False}),
    ("perplexity", {"search_mode": "sec", "search_domain_filter": ["-a.b"]}, {"search_domain_filter": "a.b"}),
    ("perplexity", {"web_search_options": {"search_context_size": "low"}}, {"disable_search": 1}),
    ("openrouter", {"models": ["a/b", "c/d"], "provider": {"sort": "price"}}, {"models": "a/b"}),
    ("openrouter", {"reasoning": {"effort": "low"}, "min_p": 0.1, "plugins": []}, {"min_p": 1.1}),
    ("nvidia_nim", {"top_k": -1, "chat_template_kwargs": {"enable_thinking": False}}, {"top_k": 0.5}),
    ("nvidia_nim", {"nvext": {"guided_json": {}}, "guided_json": {"type": "object"}}, {"nvext": []}),
    ("gemini", {"reasoning_effort": "low", "extra_body": {"google": {"cached_content": "c"}}}, {"extra_body": "x"}),
    ("ollama", {"reasoning_effort": "none"}, {"reasoning_effort": 3}),
]


@pytest.mark.parametrize(("provider", "good", "bad"), OWN)
def test_a_providers_own_arguments_are_sent_and_their_types_are_held(
    provider: str, good: dict[str, object], bad: dict[str, object]
) -> None:
    assert body_of(provider, {**HELLO, **good}) == {**HELLO, **good}
    (argument,) = bad
    assert problem_of(provider, {**HELLO, **bad}).argument == argument


@pytest.mark.parametrize("provider", [name for name in DIALECTS if name != "gemini"])
def test_what_nobody_has_listed_yet_is_passed_on(provider: str) -> None:
    assert body_of(provider, {**HELLO, "brand_new": {"x": [1]}}) == {**HELLO, "brand_new": {"x": [1]}}


@pytest.mark.parametrize("argument", ["brand_new", "top_k", "thinking_config", "frequency_penalty", "seed"])
def test_gemini_is_not_sent_a_name_that_it_would_refuse(argument: str) -> None:
    assert problem_of("gemini", {**HELLO, argument: 1}).argument == argument


def test_groq_takes_one_of_two_words_for_reasoning_and_no_names_in_messages() -> None:
    both = {"reasoning_format": "parsed", "include_reasoning": True}
    assert problem_of("groq", {**HELLO, **both}).argument == "include_reasoning"
    messages = [*HELLO["messages"], {"role": "user", "content": "x", "name": "ann"}]
    assert problem_of("groq", {**HELLO, "messages": messages}).argument == 'messages[1]["name"]'
    messages[1]["name"] = None
    assert body_of("groq", {**HELLO, "messages": messages})["messages"][1] == {"role": "user", "content": "x"}
    assert body_of("openai", {**HELLO, "messages": [{**messages[1], "name": "ann"}]})["messages"][0]["name"] == "ann"


def test_only_openrouter_has_a_model_of_its_own() -> None:
    without = {"messages": HELLO["messages"]}
    assert body_of("openrouter", without) == without
    assert problem_of("openrouter", {**without, "model": " "}).argument == "model"
    for provider in DIALECTS.keys() - {"openrouter"}:
        assert problem_of(provider, without).argument == "model"


@pytest.mark.parametrize("provider", DIALECTS)
def test_what_a_model_may_or_may_not_take_is_the_providers_to_say_and_nothing_is_added(provider: str) -> None:
    arguments = {**HELLO, "temperature": 0, "top_p": 1, "reasoning_effort": "a-new-effort"}
    if provider == "generic":
        arguments["reasoning_effort"] = {"even": "this"}
    assert body_of(provider, arguments) == arguments
    assert body_of(provider, HELLO) == HELLO


def test_the_choices_that_are_asked_for_come_with_the_body() -> None:
    assert WIRES["openai"].encode({**HELLO, "n": 3}).choices == 3
    assert WIRES["openai"].encode(HELLO).choices == 1


# --- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "name"), named("response"))
def test_every_recorded_answer_is_one_and_says_something(provider: str, name: str) -> None:
    wire, body = WIRES[provider], fixture(name)
    reading = wire.read(200, {}, body, now_s=NOW_S)
    if "error" in name:
        assert reading.fault is not None
        return
    assert (reading.fault, reading.advice.verdict, reading.advice.charge) == (None, "done", "usage")
    view = wire.view(wire.decode(body))
    assert view.text or view.tool_calls or view.finish_reason == "length"
    assert view.finish_reason in ("stop", "length", "tool_calls")
    assert view.provider_id
    assert view.model


@pytest.mark.parametrize(("provider", "name"), named("stream"))
def test_every_recorded_stream_is_read_to_its_end_or_its_error(provider: str, name: str) -> None:
    wire, events = WIRES[provider], events_of(fixture(name))
    monitor = wire.monitor()
    monitor.heard(events)
    reading = monitor.reading(200, {}, now_s=NOW_S)
    chunks, response = assembled(events, wire)
    view = wire.view(response)
    assert "".join(map(str, chunks)) == (view.text or "")
    assert (reading.fault is None, chunks[-1].type) == ((False, "error") if "error" in name else (True, "result"))
    assert reading.fault is not None or view.finish_reason in ("stop", "tool_calls", "length")
    assert reading.fault is not None or (reading.usage is None) == (provider == "inferneo")  # its streams tell none


@pytest.mark.parametrize(("provider", "name"), named("error_"))
def test_every_recorded_error_is_a_fault_with_a_sentence(provider: str, name: str) -> None:
    status = int(Path(name).stem.split("_")[1])
    reading = WIRES[provider].read(status, {}, fixture(name), now_s=NOW_S)
    assert reading.fault is not None
    assert reading.fault.status == status
    assert reading.fault.kind in ("Rejected", "RateLimited", "QuotaExhausted", "ProviderUnavailable")
    assert "It says: " in reading.fault.message


A, B = "https://a.example", "https://b.example"
RESULT = {"url": A, "title": "A", "snippet": "a passage", "date": "2026-01-02"}
NOTE = {"type": "url_citation", "url_citation": {"url": B, "title": "B", "start_index": 0, "end_index": 4}}
SOURCES: list[tuple[dict[str, object], tuple[Citation, ...]]] = [
    ({"citations": [B, A], "search_results": [RESULT]}, (Citation(B), Citation(A, "A", "a passage"))),
    ({"citations": [A]}, (Citation(A),)),
    ({"search_results": [RESULT, RESULT]}, (Citation(A, "A", "a passage"),)),
    ({"citations": [{"url": A}, 3, None, ""]}, (Citation(A),)),
    ({"citations": A, "search_results": {"0": RESULT}}, ()),
    ({"search_results": [{"title": "no address"}, None, "x", {"url": 5}]}, ()),
]
ANNOTATIONS: list[tuple[object, tuple[Citation, ...]]] = [
    ([NOTE, NOTE], (Citation(B, "B"),)),
    ([{"type": "url_citation", "url_citation": {"url": A, "content": "said"}}], (Citation(A, None, "said"),)),
    ([{"type": "url_citation", "url": A, "title": "A"}], (Citation(A, "A"),)),
    ([{"type": "file_citation", "url": A}, {"type": "url_citation"}, 3, None], ()),
    ({"type": "url_citation", "url": A}, ()),
]


@pytest.mark.parametrize(("fields", "citations"), SOURCES)
def test_sources_beside_the_choices_are_citations_in_their_order(
    fields: dict[str, object], citations: tuple[Citation, ...]
) -> None:
    assert WIRES["perplexity"].view({**message(content="x [1]"), **fields}).citations == citations
    _, response = assembled([event(delta(content="x")), event(delta(finish="stop"), **fields), b"[DONE]"])
    assert WIRES["perplexity"].view(response).citations == citations


@pytest.mark.parametrize(("annotations", "citations"), ANNOTATIONS)
def test_annotations_of_the_message_are_citations(annotations: object, citations: tuple[Citation, ...]) -> None:
    assert WIRES["openai"].view(message(content="x", annotations=annotations)).citations == citations
    _, response = assembled([event(delta(content="x", annotations=annotations)), event(delta(finish="stop"))])
    assert WIRES["openrouter"].view(response).citations == citations


def usage(**fields: object) -> dict[str, object]:
    return {"usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105, **fields}}


@pytest.mark.parametrize("provider", DIALECTS)
def test_only_groqs_limits_do_not_count_what_came_from_its_cache(provider: str) -> None:
    cached = usage(prompt_tokens_details={"cached_tokens": 60})
    body = json.dumps({**message(content="x"), **cached}).encode()
    monitor = WIRES[provider].monitor()
    monitor.heard([event(delta(content="x", finish="stop")), event(**cached), b"[DONE]"])
    escaped = body.replace(b'"choices"', b'"error": null, "choices"')  # which is read the long way
    for reading in (
        WIRES[provider].read(200, {}, body, now_s=NOW_S),
        WIRES[provider].read(200, {}, escaped, now_s=NOW_S),
        monitor.reading(200, {}, now_s=NOW_S),
    ):
        assert reading.usage == Usage(100, 5, 105, 60)
        assert reading.free_tokens == (60 if provider == "groq" else 0)


def test_deepseeks_word_for_cached_input() -> None:
    body = json.dumps({**message(content="x"), **usage(prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=36)})
    reading = WIRES["deepseek"].read(200, {}, body.encode(), now_s=NOW_S)
    assert (reading.usage, reading.free_tokens) == (Usage(100, 5, 105, 64), 0)
