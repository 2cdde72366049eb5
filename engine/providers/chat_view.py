"""An answer of the OpenAI chat format in the common terms: its first choice, and the sources it names.

Whatever stands where a text or a list should is passed over; a stream's answer, put together, is read the same way.

Pure: no trio, no httpx, no I/O. Never raises, whatever was decoded.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engine.providers.openai_stream import first_choice
from engine.providers.wire import Citation, ToolCall, View, mapping, text_or_none


def view_of(response: object) -> View:
    """A decoded answer as a `View`."""
    body = mapping(response)
    choice = mapping(first_choice(body))
    message = mapping(choice.get("message"))
    finish = text_or_none(choice.get("finish_reason"))
    return View(
        text=_text(message.get("content")),
        reasoning=text_or_none(message.get("reasoning_content")) or text_or_none(message.get("reasoning")),
        tool_calls=_tool_calls(message),
        finish_reason=_FINISH.get(finish, finish) if finish else None,
        provider_id=text_or_none(body.get("id")),
        model=text_or_none(body.get("model")),
        citations=_citations(body, message),
    )


_FINISH = {"function_call": "tool_calls", "insufficient_system_resource": "error"}


def _text(content: object) -> str | None:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [part if isinstance(part, str) else _part_text(part) for part in content]
    return "".join(parts)


def _part_text(part: object) -> str:
    found = mapping(part)
    text = found.get("text")
    return text if found.get("type", "text") in ("text", "output_text") and isinstance(text, str) else ""


def _tool_calls(message: Mapping[str, object]) -> tuple[ToolCall, ...]:
    """The tool calls, those of the older `function_call` field too. An empty list means none."""
    given = message.get("tool_calls")
    entries = list(given) if isinstance(given, list) else []
    if not entries and isinstance(message.get("function_call"), dict):
        entries = [{"function": message["function_call"]}]
    calls = []
    for position, entry in enumerate(entries):
        call = mapping(entry)
        function = mapping(call.get("function")) or mapping(call.get("custom"))
        name = function.get("name")
        if isinstance(name, str):
            arguments = function.get("arguments", function.get("input"))
            identity = text_or_none(call.get("id")) or f"call_{position}"
            calls.append(ToolCall(identity, name, _arguments(arguments)))
    return tuple(calls)


def _arguments(value: object) -> str:
    """A tool call's arguments as JSON text. Some servers send an object; nothing means no arguments."""
    if isinstance(value, str):
        return value if value.strip() else "{}"
    try:
        return "{}" if value is None else msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return "{}"


def _citations(body: Mapping[str, object], message: Mapping[str, object]) -> tuple[Citation, ...]:
    """The sources of an answer, each address once, in the order in which the text numbers them.

    Perplexity lists addresses in `citations` and what it knows of them in `search_results`, beside the choices; OpenAI,
    OpenRouter and Groq put `url_citation` annotations into the message, some a level deeper than others.
    """
    found: dict[str, Citation] = {}
    for address in _items(body.get("citations")):
        if url := text_or_none(address) or text_or_none(mapping(address).get("url")):
            found[url] = Citation(url)
    for result in _items(body.get("search_results")):
        _note_source(found, mapping(result), "snippet")
    for annotation in _items(message.get("annotations")):
        outer = mapping(annotation)
        if outer.get("type") == "url_citation":
            _note_source(found, mapping(outer.get("url_citation")) or outer, "content")
    return tuple(found.values())


def _note_source(found: dict[str, Citation], source: Mapping[str, object], passage: str) -> None:
    url = text_or_none(source.get("url"))
    if url and (url not in found or found[url].title is None):
        found[url] = Citation(url, text_or_none(source.get("title")), text_or_none(source.get(passage)))


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []
