"""aiXplain's run of a model: any arguments to any model, answered at once, in a stream, or later at another address.

The body is what the caller gives; the model is named by the path, which follows the endpoint's. A success may hold no
answer but the address at which to ask for it: the call then polls there, and a poll answers ``"completed": false``
until the answer is there. Whatever a poll says besides ends the call, with what it said. A failure inside a success is
not tried again: the model ran, and may be billed.

Pure: no trio, no httpx, no I/O. Never raises, whatever aiXplain sends. Fields: its SDK 0.2.34 and 0.2.48 (2026-11-20).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from actors.limits import Quota
from actors.messages import Charge, Fault
from engine.errors import one_line
from engine.estimate import CountText, estimate_content, estimate_json, estimate_text, with_margin
from engine.providers.aixplain_answers import FAILED, first_detail, like, problem_in, sentence_of, state_of, text_of
from engine.providers.aixplain_stream import AixplainAssembler, AixplainMonitor, decode_stream, is_aixplain_stream
from engine.providers.answers import SENTENCE_CHARS, error_in, fault_for, kept_headers, request_id_of
from engine.providers.arguments import checked, invalid, to_json
from engine.providers.chat_view import view_of as chat_view_of
from engine.providers.json_format import JsonFormat, decoded_or_none, is_known
from engine.providers.view import View
from engine.providers.wire import Encoded, Reading, Usage, count, decode_json, mapping, text_or_none
from engine.retry import Advice, ErrorView, advise

POLLS = Quota("requests", 10, 1.0)
"""All polls of one account. aiXplain documents no limit of them; ten a second are enough for a hundred calls."""

_ID = re.compile(r"[^/\x00-\x20\x7f][^\x00-\x1f\x7f]*")


class AixplainArguments(msgspec.Struct):
    """The arguments of a language model's run; a model of another kind takes its own, which are passed on."""

    data: Any = None
    text: Any = None
    context: str | None = None
    prompt: str | None = None
    history: list[Any] | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    response_format: Any = None
    options: dict[str, Any] | None = None


class AixplainRun(JsonFormat):
    """`WireFormat` of POST /api/v2/execute/{id}, and of its polls. Immutable; holds no key and no address.

    `waits`: an answer that will be at another address is waited for. Without it such a reply is what was asked for.
    """

    path = "/api/v2/execute"
    options = AixplainArguments
    polls: Quota | None = POLLS

    def __init__(self, *, waits: bool = True) -> None:
        self.name = "aixplain_run" if waits else "aixplain_submit"
        self.polls = POLLS if waits else None

    def encode(self, arguments: Mapping[str, object], *, count_text: CountText = estimate_text) -> Encoded:
        """Write a call's arguments as a body. They are not changed; those that are None are not sent.

        `model` is the model's id, and goes into the path.

        Raises:
          InvalidCall: there is no id, or an argument is of the wrong type or cannot be written as JSON.
        """
        given = dict(arguments)
        model, streaming = given.pop("model", None), given.pop("stream", None)
        if not isinstance(model, str) or not model:
            raise invalid("model", "it is the id of an aiXplain model, and it is missing")
        payload = checked(given, AixplainArguments, provider="aixplain", closed=False)
        return self.written(path_of(model), payload, streaming=streaming is True, count_text=count_text)

    def written(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        streaming: bool = False,
        count_text: CountText = estimate_text,
    ) -> Encoded:
        """A request of exactly this body, to which `streaming` adds ``options.stream``, beside other options.

        Raises:
          InvalidCall: it cannot be written as JSON.
        """
        if streaming:
            options = body.get("options")
            body = {**body, "options": {**(options if isinstance(options, Mapping) else {}), "stream": True}}
        cap = count(body.get("max_tokens")) or None
        return Encoded(to_json(body), _estimate(body, count_text), cap, streaming, path=path)

    def read(self, status: int, headers: Mapping[str, str], body: bytes | memoryview, *, now_s: float) -> Reading:
        """What this answer means. Never raises; a success that cannot be read is a `MalformedReply`, its bytes kept.

        A stream that does not say that it is one is read as a stream.
        """
        return self._read(status, headers, body, now_s, polled=False)

    def read_poll(self, status: int, headers: Mapping[str, str], body: bytes | memoryview, *, now_s: float) -> Reading:
        """What the answer to a poll means: one that is ``completed`` is the answer, and be it an address."""
        return self._read(status, headers, body, now_s, polled=True)

    def _read(
        self, status: int, headers: Mapping[str, str], body: bytes | memoryview, now_s: float, *, polled: bool
    ) -> Reading:
        payload = decoded_or_none(body)
        if not 200 <= status <= 299:
            return _refused(status, headers, payload, body, now_s)
        if payload is None and is_aixplain_stream(body):
            monitor = self.monitor()
            monitor.heard_all(body)
            return monitor.reading(status, headers, now_s=now_s)
        found = mapping(payload)
        usage = self.usage_of(found)
        charge: Charge = "usage" if is_known(usage) else "kept"
        state, address = state_of(found, polled=polled) if found else ("nothing", "")
        if isinstance(found.get("choices"), list) and "status" not in found:
            state = "failed" if problem_in(found) else "done"
        kept = kept_headers(headers)
        if state == "later" and self.polls is None:
            state = "done" if address else "nothing"
        if state == "done":
            return Reading(usage, None, Advice("done", charge), kept)
        request_id = request_id_of(headers, found)
        if state == "later":
            text = "aiXplain took the call and had no answer yet when it was given up. The work goes on, and is billed"
            fault = Fault("OutcomeUnknown", text, detail="later", status=status, request_id=request_id, sent=True)
            return Reading(None, fault, Advice("later", "kept"), kept, poll=address)
        if state == "failed":
            problem = one_line(problem_in(found) or FAILED, SENTENCE_CHARS)
            fault = Fault("ProviderUnavailable", problem, status=status, request_id=request_id, sent=True)
            return Reading(usage, fault, Advice("failed", charge, kind="ProviderUnavailable"), kept)
        fault = Fault("MalformedReply", f"{FAILED} {_seen(body)}", status=status, request_id=request_id, sent=True)
        return Reading(usage, fault, Advice("failed", charge, kind="MalformedReply"), kept)

    def usage_of(self, payload: object) -> Usage | None:
        """The usage, in whole numbers or as texts; None where nothing of it is a number (some models say ``NaN``)."""
        found = mapping(mapping(payload).get("usage"))
        given, made, total = (count(found.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
        if given is None and made is None and total is None:
            return None
        if total is None and given is not None and made is not None:
            total = given + made
        return Usage(given, made, total)

    def is_answer(self, payload: object) -> bool:
        """Whether a success holds an answer."""
        return state_of(mapping(payload))[0] == "done"

    def view(self, response: object) -> View:
        """A decoded answer in the common terms. Never raises, whatever was decoded."""
        body = mapping(response)
        if isinstance(body.get("choices"), list):
            view = chat_view_of(response)
            said = body.get("data")  # of a stream that came in several manners, all of the text
            return msgspec.structs.replace(view, text=said) if isinstance(said, str) and said else view
        reason = text_or_none(first_detail(body).get("finish_reason"))
        text = text_of(body.get("data")) if state_of(body, polled=True)[0] != "later" else None
        return View(text=text, finish_reason=reason, provider_id=text_or_none(body.get("requestId")))

    def decode(self, body: bytes | memoryview) -> object:
        """A body as Python objects, leniently (`engine.providers.wire.decode_json`); a stream's as one answer.

        Raises:
          msgspec.DecodeError: it is not JSON, however leniently read.
        """
        try:
            return decode_json(body)
        except msgspec.DecodeError:
            if not is_aixplain_stream(body):
                raise
            return decode_stream(body)

    def decode_stream(self, body: bytes | memoryview) -> object:
        """A recorded stream as the one answer that it makes up. Never raises."""
        return decode_stream(body)

    def monitor(self) -> AixplainMonitor:
        """What the worker hears one attempt's stream with."""
        return AixplainMonitor(self)

    def assembler(self) -> AixplainAssembler:
        """What makes one stream's chunks and its answer."""
        return AixplainAssembler()

    def __repr__(self) -> str:
        return f"AixplainRun(waits={self.polls is not None})"


AIXPLAIN = AixplainRun()
SUBMITTED = AixplainRun(waits=False)
"""For who asks for the answer himself, later."""


def path_of(model: str) -> str:
    """The id of a model as the end of a path.

    Raises:
      InvalidCall: it is none.
    """
    if not _ID.fullmatch(model) or any(part in (".", "..") for part in model.split("/")):
        raise invalid("model", "the id of a model begins with no slash and holds no control characters")
    try:
        return quote(model, safe="/")
    except UnicodeEncodeError:
        raise invalid("model", "it holds half a character, which cannot be written") from None


def _refused(
    status: int, headers: Mapping[str, str], payload: object, body: bytes | memoryview, now_s: float
) -> Reading:
    """The reading of an HTTP error: judged as everybody's, told in aiXplain's sentence."""
    error = error_in(payload, failed=True) or ErrorView()
    advice = advise(like(status), headers, error, now_s)
    fault = fault_for(advice, status, error, request_id_of(headers, payload))
    if 400 <= status <= 599:
        fault = msgspec.structs.replace(fault, message=sentence_of(status, payload, body))
    return Reading(None, fault, advice, kept_headers(headers))


def _seen(body: bytes | memoryview) -> str:
    start = one_line(bytes(body[:800]).decode("utf-8", "replace"), 200)
    return f"Details: the answer is neither a result nor says where one will be: {start or '(an empty body)'}"


def _estimate(body: Mapping[str, object], count_text: CountText) -> int:
    """The input of a run, with its margin: everything that may be read by the model."""
    total = 0
    for name, value in body.items():
        if name in ("data", "text", "context", "prompt") and isinstance(value, str):
            total += count_text(value)
        elif isinstance(value, (list, tuple)) and all(isinstance(item, Mapping) for item in value):
            total += sum(estimate_content(item.get("content"), count_text) + 4 for item in value)
        elif isinstance(value, (str, list, tuple, Mapping)) and name not in ("options", "response_format"):
            total += count_text(value) if isinstance(value, str) else estimate_json(value)
    return with_margin(total)
