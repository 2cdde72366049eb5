"""What aiXplain's answers say: done, failed, later or nothing; the sentence for each HTTP status; the texts in them.

One backend answers in several manners: with the result, with the address at which it will be, with an address and
``"completed": true`` beside it. A poll is answered by ``completed`` and, at its end, by the result. Which of these a
body is can be told from the body alone, so that is done here, for the format and for the client.

Pure: no trio, no httpx, no I/O. Never raises. Statuses, sentences and fields: aiXplain's SDK 0.2.34 and 0.2.48, and
docs.aixplain.com (2026-11-20).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from engine.errors import one_line
from engine.providers.answers import SENTENCE_CHARS
from engine.providers.wire import mapping, text_or_none

FAILED = "Model Run: An error occurred while processing your request."
"""What is said of an answer that says nothing itself."""

_BY_STATUS = {
    400: "Bad request: Please verify the request payload and ensure it is correct.",
    401: "Unauthorized API key: Please verify the spelling of the API key and its current validity.",
    402: "Payment required: Please ensure you have enough credits to run this asset.",
    403: "Forbidden access: Please verify the API key and its current validity.",
    404: "Resource not found: Please verify the spelling of the resource and its current availability.",
    429: "Rate limit exceeded: Please try again later.",
    500: "Internal server error: Please try again later.",
    503: "Service unavailable: Please try again later.",
    504: "Gateway timeout: Please try again later.",
}
_BY_TENS = {
    46: "Subscription-related error: Please ensure that your subscription is active and has not expired.",
    47: "Billing-related error: Please ensure you have enough credits to run this asset.",
    48: "Supplier-related error: Please ensure that the selected supplier provides the asset you are trying to access.",
    49: "Validation-related error: Please verify the request payload and ensure it is correct.",
}
_LIKE = {46: 403, 47: 402, 48: 400, 49: 400}
_UNSPECIFIED = "unspecified error"

_DONE = ("SUCCESS", "COMPLETED")
_BAD = ("FAILED", "ERROR", "ABORTED", "CANCELED", "CANCELLED")
_UNDER_WAY = ("", "IN_PROGRESS", "PENDING")

State = Literal["done", "failed", "later", "nothing"]
"""``later``: the answer is not there yet; ``nothing``: it is neither an answer nor does it say where one will be."""


def sentence_of(status: int, payload: object, body: bytes | memoryview) -> str:
    """What the seed says of a refusal: by its HTTP status, then the provider's own words."""
    kind = "Client" if status < 500 else "Server"
    unspecified = f"Unspecified {kind} Error (Status {status})"
    sentence = _BY_STATUS.get(status) or _BY_TENS.get(status // 10) or unspecified
    return f"{sentence} Details: {_details(payload, body)}"


def like(status: int) -> int:
    """The ordinary status that one of aiXplain's own (460 to 499) is to be judged as."""
    return _LIKE.get(status // 10, status)


def _details(payload: object, body: bytes | memoryview) -> str:
    error = mapping(payload).get("error")
    if isinstance(error, str) and error:
        text = error
    elif error:
        text = as_json(error)
    else:
        text = bytes(body[: 4 * SENTENCE_CHARS]).decode("utf-8", "replace")
    return one_line(text, SENTENCE_CHARS) or _UNSPECIFIED


def as_json(value: object) -> str:
    """A value as JSON text, or as Python shows it where JSON cannot hold it."""
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return one_line(ascii(value)[:SENTENCE_CHARS], SENTENCE_CHARS)


def word_of(status: object) -> str:
    """A body's ``status`` as it is compared; empty if there is none."""
    return status.strip().upper() if isinstance(status, str) else ""


def state_of(body: Mapping[str, object], *, polled: bool = False) -> tuple[State, str]:
    """Whether this success holds the answer, and the address where it will be; an empty one is that of the poll itself.

    Without a status, an address is where the answer will be; to a poll that says ``completed`` it is the answer.
    """
    word, data, completed = word_of(body.get("status")), body.get("data"), body.get("completed")
    if word in _DONE:
        return "done", ""
    if word in _BAD:
        return "failed", ""
    if word not in _UNDER_WAY and completed is not False:
        return "failed", ""
    if isinstance(data, str) and is_address(data) and not (polled and completed is True and not word):
        return "later", data
    if completed is False:
        return "later", ""
    if completed is True and not word:
        return ("failed" if problem_in(body) else "done"), ""
    return "nothing", ""


def is_address(text: str) -> bool:
    """Whether a text is one, and not an answer."""
    return text.startswith(("http://", "https://")) and not any(letter.isspace() for letter in text)


def problem_in(body: Mapping[str, object]) -> str:
    """What a body says went wrong, with the supplier's words behind the platform's; empty if it says nothing."""
    said = ""
    for name in ("error_message", "error", "errorMessage"):
        value = body.get(name)
        if value and not said:
            said = value if isinstance(value, str) else text_or_none(mapping(value).get("message")) or as_json(value)
    if body.get("supplierError"):
        supplier = body["supplierError"]
        said = f"{said} - {supplier if isinstance(supplier, str) else as_json(supplier)}"
    return said


def text_of(data: object) -> str | None:
    """The text of a result: itself, or what stands under ``text`` or ``output`` in it, else its JSON; None for
    nothing."""
    if isinstance(data, dict):
        inner = next((data[name] for name in ("text", "output") if isinstance(data.get(name), str)), None)
        return inner if inner is not None else as_json(data)
    if data is None or isinstance(data, str):
        return data or None
    return as_json(data)


def first_detail(body: Mapping[str, object]) -> Mapping[str, object]:
    """The first entry of ``details``, which is a choice as OpenAI's chat has them where the model is a language
    model."""
    details = body.get("details")
    return mapping(details[0]) if isinstance(details, list) and details else {}
