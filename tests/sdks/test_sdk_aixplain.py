"""aiXplain's SDK (0.2.48) and ours side by side at the simulated platform: the same requests, the same results.

Each scenario is carried out by both (`aixplain_both`), and every fact of it compared: method, path, key, body and count
of the requests, and all fields of what comes back. What differs stands in `DIFFERENCES`, with the decision that makes
it so, what the SDK does and what ours does; a difference that is not there, or is there and is none, fails a test.
"""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

import pytest
import trio
from aixplain_both import ATTEMPTS, Order, Scenario, Side, both_sides, compared, facts

pytestmark = pytest.mark.skipif(importlib.util.find_spec("aixplain") is None, reason="needs aixplain 0.2.48")

EPOCHS: list[dict[str, int]] = [{}, {"after_epoch": 1}, {"after_epoch": 9}]
TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ALL = {"context": "C", "prompt": "P", "history": TURNS, "temperature": 0.3, "max_tokens": 9, "top_p": 0.9}
CODES = (400, 401, 402, 403, 404, 408, 409, 422, 429, 465, 475, 485, 495, 500, 501, 502, 503, 504)
AGAIN = (408, 409, 429, 500, 502, 503, 504)
"""Those of the codes that ours tries again."""


def do(action: str, **arguments: Any) -> Order:
    """Something both are to do."""
    return {"do": action, "arguments": arguments}


def llm(action: str, **arguments: Any) -> Order:
    """The same with a language model."""
    return {**do(action, **arguments), "as": "LLM"}


def twice(name: str, kind: Any = do, **arguments: Any) -> Scenario:
    """A run, and the same as a submission."""
    return Scenario(name, "", [kind("run", **arguments), kind("run_async", **arguments)])


def run(words: str, *, polls: bool = False, **arguments: Any) -> Scenario:
    """A run of a model with these words."""
    return Scenario(f"run {words}", words, [do("run", data="hello", **arguments)], polls)


def stream(words: str) -> Scenario:
    """A run of a model with these words whose answer comes in pieces."""
    return Scenario(f"stream {words}", words, [do("run", data="hello", stream=True)])


BODIES = [
    twice("a text", data="hello"),
    twice("a dict", data={"text": "hello", "k": 1}),
    twice("parameters", data="hello", parameters={"temperature": 0.5, "data": "override"}),
    twice("parameters over a dict", data={"text": "hello", "k": 1}, parameters={"k": 2, "p": True}),
    twice("an empty dict", data={}, parameters={"z": 1}),
    twice("a llm's text", llm, data="hello"),
    twice("a llm's arguments", llm, data="hello", **ALL, response_format="text"),
    twice("a llm's history", llm, data="And now?", history=TURNS),
    twice("a llm's parameters", llm, data="hello", temperature=0.3, parameters={"temperature": 0.9, "max_tokens": 5}),
    twice("a llm's dict", llm, data={"data": "D", "context": "x", "max_tokens": 9}, context="kw"),
    twice("a text of JSON", data='{"a": 1}'),
    twice("a number", data="3.50"),
    twice("a quoted text", data='"quoted"'),
    Scenario("a text that names a file", "", [do("run", data="TAG.txt")]),
]
ANSWERS = [
    Scenario("a llm's answer", "llm", [llm("run", data="hello")]),
    *(run(words) for words in ("fail", "supplier", "warn", "coded", "no-data", "html", "list", "odd-status")),
    *(run(words) for words in ("no-completed", "no-usage", "nan-usage", "text-usage")),
    Scenario("submitted now", "now", [do("run_async", data="hello")]),
]
LATER = [
    run("async-2", wait_time=0.2),
    run("no-status-async-1", wait_time=0.2),
    Scenario("a llm's run async-1", "llm-async-1", [llm("run", data="hello", wait_time=0.2)]),
    *(run(f"async-0-{words}") for words in ("fail", "supplier", "warn", "odd-status")),
    *(run(f"async-0-{words}", timeout=1, wait_time=0.2, polls=True) for words in ("coded", "no-completed", "list")),
    run("async-99", timeout=3, wait_time=0.2, polls=True),
    *(run(f"async-0-poll-{words}", timeout=1, wait_time=0.2, polls=True) for words in ("401", "404", "html")),
    *(run(f"async-0-poll-{status}-1", wait_time=0.2) for status in (429, 503)),
    Scenario(
        "submitted and polled",
        "async-1",
        [
            do("run_async", data="hello"),
            *(do(kind, poll_url="@") for kind in ("poll", "poll", "sync_poll", "poll")),
        ],
    ),
    *(
        Scenario(f"a poll {words}", words, [do("run_async", data="hello"), do("poll", poll_url="@")])
        for words in (
            "async-0-fail",
            "async-0-supplier",
            "async-0-no-completed",
            "poll-404",
            "poll-html",
            "async-0-poll-503-1",
        )
    ),
    Scenario(
        "sync_poll poll-404",
        "poll-404",
        [do("run_async", data="hello"), do("sync_poll", poll_url="@", timeout=3, wait_time=0.2)],
        polls=True,
    ),
    run("foreign-poll-async-0"),
    Scenario("a foreign poll", "foreign-poll", [do("run_async", data="hello"), do("poll", poll_url="@")]),
]
STREAMED = [
    Scenario("run_stream", "", [do("run_stream", data="hello", parameters={"k": 1})]),
    Scenario("a llm's stream", "llm", [llm("run", data="hello", stream=True, max_tokens=4, context="C")]),
    *(stream(f"stream-{kind}") for kind in ("envelope", "done", "text", "status", "openai", "split", "json")),
    *(stream(f"stream-{kind}") for kind in ("cut", "error", "failed", "plain", "bare", "html", "reasoning")),
    *(stream(words) for words in ("fields", "comments", "no-done", "status-400")),
    Scenario("no stream", "", [{**do("run_stream", data="hello"), "streams": False}]),
]
PLATFORM = [
    Scenario("get", "", [do("get", model_id="MODEL")]),
    Scenario("get a llm", "llm", [do("get", model_id="MODEL")]),
    Scenario("get by its name", "stream", [do("get", name="MODEL")]),
    Scenario("get missing", "missing", [do("get", model_id="MODEL")]),
    *(Scenario(f"delete {words}", words, [do("delete")]) for words in ("", "missing", "kept")),
    *(
        Scenario(f"training {words}", words, [do("check_finetune_status", **after) for after in EPOCHS])
        for words in ("", "epochs-4", "epochs-0")
    ),
    Scenario("training missing", "missing", [do("check_finetune_status")]),
    Scenario("to_dict", "", [do("to_dict")]),
]
REFUSED = [run(f"status-{status}") for status in CODES]
SCENARIOS = [*BODIES, *ANSWERS, *LATER, *STREAMED, *PLATFORM, *REFUSED]


GENERIC = "Model Run: An error occurred while processing your request."
NOTHING = "No response from the service."


class Says(str):
    """A text that has this in it."""


class Holds(dict[str, Any]):
    """A dict that has these in it; of a name with None, whatever it is."""


class Consequence:
    """Whatever it is: the consequence of another fact."""

    def __repr__(self) -> str:
        return "(a consequence)"


ANY = Consequence()


class Difference(NamedTuple):
    """One row: the `decision` in a few words, the `fact` it shows in, what the SDK does and what ours does, and the
    scenarios in which that is so."""

    decision: str
    fact: str
    theirs: Any
    ours: Any
    scenarios: tuple[str, ...]


def named(*scenarios: list[Scenario], without: tuple[str, ...] = ()) -> tuple[str, ...]:
    return tuple(scenario.name for several in scenarios for scenario in several if scenario.name not in without)


def follows(decision: str, facts: str, *scenarios: str) -> list[Difference]:
    """What else is different where the fact of another row is."""
    return [Difference(decision, fact, ANY, ANY, scenarios) for fact in facts.split()]


_SUBMITTED = tuple(scenario.name for scenario in LATER if scenario.orders[0]["do"] == "run_async")
_EXACT = "user text: sent exactly as given, never re-parsed"
_DICTS = "caller's dicts never mutated"
_CODED = "failures: a ModelResponse with status FAILED, never an exception"
_TOLD = "failures: the seed's message, and with it what the service said"
_FINAL = "sync_poll: what cannot become an answer ends it, and says so; the SDK polls until its time is up"
_UNKNOWN = "failures: a status that nobody knows is no success, and the message names it"
_ORIGIN = "poll address: only on the configured origins; a key never goes to a host named by a reply"
_AGAIN = "429 and 5xx: retried by the engine, through the limits"
_STREAM = "streaming: comments ignored, both chunk shapes"
_CUT = "streaming: a cut stream is an error"
_FAILED = "streaming: an error in it is an error of it, 4xx as well"
_RAISES = "check_finetune_status: raises, in place of None"
_COMPLETED = "a run that is over is completed, whether its answer says so or not"
_ERRORS = "errors of the platform: of this project's classes, with the status and what the platform said"

DIFFERENCES = [
    Difference(_EXACT, "asked", Says("{'a': 1}"), Says("{'data': '{\"a\": 1}'}"), ("a text of JSON",)),
    Difference(_EXACT, "asked", Says("{'data': '3.5'}"), Says("{'data': '3.50'}"), ("a number",)),
    Difference(_EXACT, "asked", Says("{'data': 'quoted'}"), Says("{'data': '\"quoted\"'}"), ("a quoted text",)),
    *follows("other input, other usage", "0.usage 0.used_credits 1.url", "a text of JSON"),
    Difference(
        "user text: never uploaded because it happens to name a file",
        "asked",
        Says("POST /sdk/file/upload/temp-url"),
        Says("POST /aixplain/api/v2/execute/"),
        ("a text that names a file",),
    ),
    Difference("never uploaded", "0.raised", Says("Exception"), "SUCCESS", ("a text that names a file",)),
    *follows("never uploaded", "times", "a text that names a file"),
    *(
        Difference(
            _DICTS, f"{place}.changed", True, False, ("parameters", "parameters over a dict", "a llm's parameters")
        )
        for place in (0, 1)
    ),
    Difference(_DICTS, "0.changed", True, False, ("run_stream",)),
    Difference(
        "run_async result: what else the promise says is kept", "1.more", {}, Holds(requestId=None), named(BODIES[:13])
    ),
    Difference("run_async result: what else the promise says is kept", "0.more", {}, Holds(requestId=None), _SUBMITTED),
    Difference(
        "run_async: names as of run",
        "0.more",
        Holds(usedCredits=1.2e-05, runTime=0.9),
        Holds(sessionId=None),
        ("submitted now",),
    ),
    Difference("run_async: names as of run", "0.used_credits", 0.0, 1.2e-05, ("submitted now",)),
    Difference("run_async: names as of run", "0.run_time", 0.0, 0.9, ("submitted now",)),
    Difference(_CODED, "0.raised", Says("multiple values for keyword argument 'error_code'"), "FAILED", ("run coded",)),
    Difference(_CODED, "0.error_message", NOTHING, "The model has failed. (simulated)", ("run async-0-coded",)),
    Difference(_CODED, "0.error_code", None, "simulated_failure", ("run async-0-coded",)),
    *follows(_CODED, "0.completed 0.more times", "run async-0-coded"),
    Difference(
        _TOLD, "0.error_message", GENERIC, Says(f"{GENERIC} Details: "), ("run no-data", "run html", "run list")
    ),
    Difference(_UNKNOWN, "0.error_message", "", Says("ON_HOLD"), ("run odd-status", "run async-0-odd-status")),
    Difference(_UNKNOWN, "0.status", "SUCCESS", "FAILED", ("run async-0-odd-status",)),
    Difference(_COMPLETED, "0.completed", False, True, ("run no-completed",)),
    Difference(_COMPLETED, "0.status", "FAILED", "SUCCESS", ("run async-0-no-completed",)),
    *follows(
        _COMPLETED,
        "0.completed 0.data 0.details 0.error_message 0.more 0.usage 0.used_credits 0.run_time 0.asset times",
        "run async-0-no-completed",
    ),
    *(
        Difference(
            _FINAL,
            fact,
            theirs,
            ours,
            tuple(f"run async-0-{words}" for words in ("poll-401", "poll-404", "poll-html", "list")),
        )
        for fact, theirs, ours in (("times", ["once", "on"], ["once", "once"]), ("0.completed", False, True))
    ),
    *(
        Difference(_FINAL, "0.error_message", NOTHING, Says(said), (f"run async-0-{words}",))
        for words, said in (
            ("poll-401", "Unauthorized API key"),
            ("poll-404", "Resource not found"),
            ("poll-html", "Details: "),
            ("list", "Details: "),
        )
    ),
    *(
        Difference(_FINAL, fact, theirs, ours, ("sync_poll poll-404",))
        for fact, theirs, ours in (
            ("times", ["once", "on"], ["once", "once"]),
            ("1.completed", False, True),
            ("1.error_message", NOTHING, Says("Resource not found")),
        )
    ),
    Difference(_TOLD, "1.error_message", "'completed'", Says("does not say whether"), ("a poll async-0-no-completed",)),
    Difference(_TOLD, "1.error_message", "'completed'", Says("Resource not found"), ("a poll poll-404",)),
    Difference(_TOLD, "1.error_message", Says("Expecting value"), Says("<!DOCTYPE"), ("a poll poll-html",)),
    Difference(
        "polls: repeated where one fails, which costs nothing", "times", [1, 1], [1, 2], ("a poll async-0-poll-503-1",)
    ),
    Difference("polls: repeated where one fails", "1.status", "FAILED", "SUCCESS", ("a poll async-0-poll-503-1",)),
    *follows(
        "polls: repeated where one fails",
        "1.completed 1.data 1.details 1.error_message 1.more 1.usage 1.used_credits 1.run_time 1.asset",
        "a poll async-0-poll-503-1",
    ),
    Difference(
        _ORIGIN,
        "asked",
        Says("'GET /aixplain/api/v1/data/"),
        Says("POST"),
        ("run foreign-poll-async-0", "a foreign poll"),
    ),
    Difference(_ORIGIN, "times", [1, 1], [1], ("run foreign-poll-async-0", "a foreign poll")),
    Difference(_ORIGIN, "0.status", "SUCCESS", "FAILED", ("run foreign-poll-async-0",)),
    Difference(
        _ORIGIN, "0.error_message", "", Says("at another address, which is not asked"), ("run foreign-poll-async-0",)
    ),
    *follows(_ORIGIN, "0.data 0.details 0.more 0.usage 0.used_credits 0.run_time 0.asset", "run foreign-poll-async-0"),
    Difference(_ORIGIN, "1.status", "IN_PROGRESS", "FAILED", ("a foreign poll",)),
    Difference(_ORIGIN, "1.error_message", "", Says("no key is sent there"), ("a foreign poll",)),
    Difference(_ORIGIN, "1.url", None, Says("http://localhost/"), ("a foreign poll",)),
    Difference(_STREAM, "0.status", "IN_PROGRESS", "SUCCESS", ("stream stream-status", "stream stream-json")),
    Difference(_STREAM, "0.text", "", Says(" "), ("stream stream-openai", "stream stream-reasoning")),
    Difference(_STREAM, "0.text", Says('{"data":'), Says(" "), ("stream stream-split",)),
    Difference(_STREAM, "0.text", Says("event: message"), Says(" "), ("stream fields",)),
    Difference(_STREAM, "0.text", Says(": keep-alive"), Says(" "), ("stream comments",)),
    Difference(
        "streaming: a line that is no field of an event is none of its text",
        "0.text",
        Says(" "),
        "",
        ("stream stream-bare",),
    ),
    Difference(_CUT, "0.broken", "ChunkedEncodingError", "", ("stream stream-cut",)),
    Difference(_CUT, "0.text", "", Says(" "), ("stream stream-cut",)),
    Difference(_CUT, "0.error", "", Says("the stream broke off after 2 events"), ("stream stream-cut",)),
    Difference(_CUT, "0.error", "", Says("the stream ended before its end"), ("stream no-done", "stream stream-html")),
    Difference(_CUT, "0.text", Says("<!DOCTYPE html>"), "", ("stream stream-html",)),
    Difference(
        _FAILED,
        "0.error",
        "",
        "The model has failed in its stream. (simulated)",
        ("stream stream-error", "stream stream-failed"),
    ),
    Difference(_FAILED, "0.error", "", Says("Bad request: "), ("stream status-400",)),
    Difference(
        _FAILED,
        "0.status",
        "IN_PROGRESS",
        "FAILED",
        tuple(
            f"stream {words}"
            for words in ("stream-cut", "no-done", "stream-html", "stream-error", "stream-failed", "status-400")
        ),
    ),
    Difference(
        _ERRORS, "0.raised", Says("Exception: Model GET Error"), Says("Rejected: Model GET Error"), ("get missing",)
    ),
    Difference(
        _ERRORS,
        "0.raised",
        Says("Exception: Model Deletion"),
        Says("ProviderError: Model Deletion"),
        ("delete missing", "delete kept"),
    ),
    Difference(_RAISES, "0.raised", None, Says("Rejected: the provider answered 404"), ("training missing",)),
    Difference(
        "to_dict: works for every model, in JSON",
        "0.raised",
        Says("AttributeError"),
        Says("additional_info"),
        ("to_dict",),
    ),
    Difference(_AGAIN, "times", [1], [ATTEMPTS], tuple(f"run status-{status}" for status in AGAIN)),
]


def is_as_said(value: Any, said: Any) -> bool:
    """Whether a value is what a row says."""
    if said is ANY:
        return True
    if isinstance(said, Says):
        return said in (value if isinstance(value, str) else str(value))
    if isinstance(said, Holds):
        return isinstance(value, dict) and all(
            name in value and told in (None, value[name]) for name, told in said.items()
        )
    return bool(value == said) and type(value) is type(said)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Side, Side]]:
    """By scenario, the SDK's side and ours."""
    folder = tmp_path_factory.mktemp("sdk")
    number = [scenario.name for scenario in SCENARIOS].index("a text that names a file")
    (folder / f"x{number:03d}.txt").write_text("words", "utf-8")
    return trio.run(both_sides, SCENARIOS, folder)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_both_ask_and_are_told_the_same_but_for_what_is_decided(
    sides: dict[str, tuple[Side, Side]], scenario: Scenario
) -> None:
    theirs, ours = (facts(side, scenario) for side in sides[scenario.name])
    rows = {row.fact: row for row in DIFFERENCES if scenario.name in row.scenarios}
    found = compared(theirs, ours)
    assert {fact: pair for fact, pair in found.items() if fact not in rows} == {}
    for fact, row in rows.items():
        assert fact in found, f"no difference any more: {row}"
        assert is_as_said(found[fact][0], row.theirs), (row, found[fact][0])
        assert is_as_said(found[fact][1], row.ours), (row, found[fact][1])
    assert len(ours["asked"]) == 0 if scenario.name in ("no stream", "to_dict") else len(ours["asked"]) >= 1


def test_the_table_is_of_scenarios_that_there_are_and_says_one_thing_of_a_fact() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    rows = [(row.fact, name) for row in DIFFERENCES for name in row.scenarios]
    assert len(set(rows)) == len(rows)
    assert {name for _, name in rows} <= set(names)


STATUSES = {
    400: "Bad request: ",
    401: "Unauthorized API key: ",
    402: "Payment required: ",
    403: "Forbidden access: ",
    404: "Resource not found: ",
    408: "Unspecified Client Error (Status 408)",
    429: "Rate limit exceeded: ",
    465: "Subscription-related error: ",
    475: "Billing-related error: ",
    485: "Supplier-related error: ",
    495: "Validation-related error: ",
    500: "Internal server error: ",
    501: "Unspecified Server Error (Status 501)",
    503: "Service unavailable: ",
    504: "Gateway timeout: ",
}


def test_the_scenarios_are_not_all_empty(sides: dict[str, tuple[Side, Side]]) -> None:
    """What both say, since both could say nothing."""

    def of(name: str) -> list[Any]:
        return sides[name][1].results

    assert of("a llm's answer")[0]["status"] == "SUCCESS"
    assert [of(f"run {words}")[0]["status"] for words in ("async-2", "fail", "async-99")] == [
        "SUCCESS",
        "FAILED",
        "FAILED",
    ]
    assert of("run async-99")[0]["error_message"] == NOTHING
    assert [result["status"] for result in of("submitted and polled")] == ["IN_PROGRESS"] * 2 + ["SUCCESS"] * 3
    assert len(sides["run async-2"][1].requests) == 4
    for status, sentence in STATUSES.items():
        assert of(f"run status-{status}")[0]["error_message"].startswith(sentence)
    assert of("get a llm")[0][0][0] == "LLM"
    assert of("delete ") == [None]
    assert of("training ")[0] == ["in_progress", 2.0, 0.3, 0.4]
    assert "does not support streaming" in of("no stream")[0]["raised"]
    for kind in ("envelope", "openai", "split", "json"):
        texts = [text for _, text in of(f"stream stream-{kind}")[0]["chunks"]]
        assert len("".join(texts).split()) == 6
