"""What Claude Code's events become: recorded runs of the real program, the traps in them one by one, and any JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.agents.chunks import (
    Chunk,
    Error,
    Notice,
    Raw,
    Result,
    Retry,
    Session,
    Spent,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Used,
    decode_chunk,
    encode_chunk,
)
from engine.agents.claude_events import ClaudeEvents

TRANSCRIPTS = Path(__file__).parent / "transcripts"
HELLO = "Hello from the fake provider."
LOST = "API Error: Connection lost mid-response. The response above may be incomplete."


def events_of(tag: str) -> list[Any]:
    return [json.loads(line) for line in (TRANSCRIPTS / f"claude__{tag}.stdout.jsonl").read_text().splitlines()]


def run(tag: str, parser: ClaudeEvents | None = None) -> list[Chunk]:
    """All chunks of a recorded run."""
    parser = parser or ClaudeEvents()
    chunks = [chunk for event in events_of(tag) for chunk in parser.feed(event)]
    code = json.loads((TRANSCRIPTS / f"claude__{tag}.meta.json").read_text())["rc"]
    return chunks + parser.end(code, (TRANSCRIPTS / f"claude__{tag}.stderr.txt").read_text())


def fed(*events: object, code: int | None = 0, stderr: str = "", **options: bool) -> list[Chunk]:
    """All chunks of a run made by hand."""
    parser = ClaudeEvents(**options)
    chunks = [chunk for event in events for chunk in parser.feed(event)]
    return chunks + parser.end(code, stderr)


def shown(chunks: list[Chunk], of: type[Text | Thinking] = Text) -> list[str]:
    """What a reader has in the end, message by message, who does as the chunks say."""
    texts: dict[str, str] = {}
    for chunk in chunks:
        if isinstance(chunk, of):
            before = texts.get(chunk.message_id, "") if chunk.delta else ""
            texts[chunk.message_id] = before + chunk.text
        elif isinstance(chunk, Retry):
            for name in chunk.discards:
                texts.pop(name, None)
    return list(texts.values())


def terminal(chunks: list[Chunk]) -> Result | Error:
    ends = [chunk for chunk in chunks if isinstance(chunk, Result | Error)]
    assert len(ends) == 1
    assert chunks[-1] is ends[0]
    return ends[0]


# --- recorded runs ----------------------------------------------------------------------------------------------------

SUCCESSES = (
    ("plain", HELLO, [HELLO], (11, 7)),
    ("rec", HELLO, [HELLO], (11, 7)),
    ("multi", "Alpha beta gamma delta.", ["Alpha beta gamma delta."], (11, 7)),
    ("think", HELLO, [HELLO], (11, 7)),
    ("tool", "Tool finished.", ["Tool finished."], (22, 14)),
    ("resume", HELLO, [HELLO], (11, 7)),
    ("cut_retry1", HELLO, [HELLO], (33, 16)),
    ("cut_block", "After.", ["First block.", "After."], (232, 21)),
    ("subagent", "Main done.", ["Delegating.", "Main done."], (464, 28)),
    ("background", "Main done.", ["Delegating.", "Main done.", "Main done."], (580, 35)),
    ("structured", '{"name":"Ann"}', [], (116, 7)),
    ("unstructured", "Hello there.", ["Hello there.", "Hello there."], (232, 14)),
    ("denied", "Fin", ["Fin"], (232, 14)),
)


@pytest.mark.parametrize(("tag", "text", "messages", "tokens"), SUCCESSES, ids=[case[0] for case in SUCCESSES])
def test_a_run_that_succeeded(tag: str, text: str, messages: list[str], tokens: tuple[int, int]) -> None:
    """Its text is there once, its session and its cost are known, and it is done before its process ends."""
    parser = ClaudeEvents()
    chunks = run(tag, parser)
    end = terminal(chunks)
    assert isinstance(end, Result)
    assert parser.done
    assert (end.text, shown(chunks)) == (text, messages)
    assert end.usage is not None
    assert (end.usage.input_tokens, end.usage.output_tokens) == tokens
    assert end.usage.cost_usd is not None
    assert end.usage.cost_usd > 0
    sessions = {chunk.session_id for chunk in chunks if isinstance(chunk, Session)}
    assert sessions == {end.session_id} == {events_of(tag)[0]["session_id"]}


FAILURES = (
    ("401", "auth", 401, "Failed to authenticate. API Error: 401 fake 401", True),
    ("401_retry0", "auth", 401, "Failed to authenticate. API Error: 401 fake 401", True),
    ("noauth", "auth", 0, "Not logged in · Please run /login", True),
    ("429", "rate_limit", 429, "API Error: Request rejected (429) · fake 429", True),
    ("500_retry0", "server", 500, "API Error: 500 fake 500. This is a server-side issue", True),
    ("refused", "network", 0, "API Error: Connection refused", True),
    ("cut_again", "cut", 0, LOST, True),
    ("max_turns", "limit", 0, "Reached maximum number of turns (2)", True),
    ("max_budget", "limit", 0, "Reached maximum budget ($0.00001)", True),
    ("resume_bad", "session_not_found", 0, "No conversation found with session ID", True),
    ("resume_title", "session_not_found", 0, "Error: --resume requires a valid session ID", True),
    ("sigINT_stream", "interrupted", 0, "it was interrupted", True),
    ("sigTERM_tool", "interrupted", 0, "it was ended by signal TERM", False),
    ("full_as_root", "failed", 0, 'it does not run for root with permission="full"', False),
    ("session_in_use", "failed", 0, "is already in use", False),
)  # fmt: skip


@pytest.mark.parametrize(
    ("tag", "category", "status", "message", "done"), FAILURES, ids=[case[0] for case in FAILURES]
)  # fmt: skip
def test_a_run_that_failed(tag: str, category: str, status: int, message: str, done: bool) -> None:
    """What it failed of is told in our terms, and never as the model's text."""
    parser = ClaudeEvents()
    chunks = run(tag, parser)
    end = terminal(chunks)
    assert isinstance(end, Error)
    assert (end.category, end.status, parser.done) == (category, status, done)
    assert message in end.message
    assert not any("API Error" in text for text in shown(chunks))


def test_every_recorded_run_is_in_a_table() -> None:
    """A new recording is not passed over."""
    tags = {
        path.name.removeprefix("claude__").removesuffix(".meta.json") for path in TRANSCRIPTS.glob("claude__*.meta*")
    }
    assert tags == {case[0] for case in (*SUCCESSES, *FAILURES)}


@pytest.mark.parametrize("tag", [case[0] for case in (*SUCCESSES, *FAILURES)])
def test_chunks_survive_the_journey(tag: str) -> None:
    """What is told is JSON, and the same on the other side."""
    for chunk in run(tag):
        assert decode_chunk.decode(encode_chunk(chunk)) == chunk


def test_a_session_is_told_first() -> None:
    """With its model and its directory, and under the name that resumes it."""
    first = run("rec")[0]
    assert isinstance(first, Session)
    assert (first.model, first.cwd) == ("claude-sonnet-4-5", "/scratch/claude")


def test_fragments_come_as_they_came() -> None:
    """Each fragment of a text is a chunk of its own, under the message's name; the whole is not told again."""
    texts = [chunk for chunk in run("multi") if isinstance(chunk, Text)]
    assert [text.text for text in texts] == ["Alpha ", "beta ", "gamma ", "delta."]
    assert {(text.message_id, text.delta) for text in texts} == {("msg_ca1670a6acf544a2854c", True)}


def test_thinking_is_told_once() -> None:
    """By its fragments, apart from the text."""
    assert shown(run("think"), Thinking) == ["Let me think."]


def test_a_tool_is_told_once_with_its_whole_input() -> None:
    """Then its result."""
    chunks = [chunk for chunk in run("tool") if isinstance(chunk, ToolUse | ToolResult)]
    use, result = chunks
    assert isinstance(use, ToolUse)
    assert (use.tool_id, use.name) == ("toolu_1", "Bash")
    assert use.tool_input == {"command": "echo tool-ran", "description": "say it"}
    assert isinstance(result, ToolResult)
    assert (result.tool_id, result.output, result.is_error) == ("toolu_1", "tool-ran", False)


def test_a_tool_that_failed() -> None:
    """Its result says so."""
    results = [chunk for chunk in run("sigTERM_tool") if isinstance(chunk, ToolResult)]
    assert [(result.output, result.is_error) for result in results] == [("Exit code 137", True)]


def test_a_resumed_session_is_charged_for_this_run_alone() -> None:
    """The program's own total is the session's."""
    end = terminal(run("resume", ClaudeEvents(resumed=True)))
    assert end.usage == Spent(11, 7, 0, 0, 0.000138)
    assert end.total == Spent(22, 14, 0, 0, 0.000276)


def test_cached_input_is_part_of_the_input() -> None:
    """11 tokens as they are, 5 written to the cache and 100 read from it, twice."""
    usage = terminal(run("denied")).usage
    assert usage is not None
    assert (usage.input_tokens, usage.cached_tokens) == (232, 200)


def test_what_was_interrupted_was_spent() -> None:
    """Its `usage` says zero, its count by models does not."""
    assert terminal(run("sigINT_stream")).usage == Spent(11, 3, 0, 0, 0.000078)


def test_a_stream_that_broke_off_is_void() -> None:
    """First with an attempt of its own, then with none announced; the answer comes whole."""
    retries = [chunk for chunk in run("cut_retry1") if isinstance(chunk, Retry)]
    assert [(retry.attempt, retry.delay_s, retry.discards) for retry in retries] == [
        (1, 0.574, ("msg_daaa8f9692d74bb899a0",)),
        (None, None, ("msg_bf7e964f01074bd195aa",)),
    ]


def test_what_stood_before_the_break_is_told_again() -> None:
    """Only the block that broke off is void; the message's others come under another name."""
    chunks = run("cut_block")
    place = next(index for index, chunk in enumerate(chunks) if isinstance(chunk, Retry))
    again = chunks[place + 1]
    assert isinstance(again, Text)
    assert (again.text, again.delta) == ("First block.", False)
    assert again.message_id not in chunks[place].discards  # type: ignore[union-attr]  # it is a Retry


def test_retries_are_told_with_their_reason() -> None:
    """Also where no text was lost."""
    retry = next(chunk for chunk in run("429") if isinstance(chunk, Retry))
    assert (retry.attempt, retry.reason, retry.delay_s, retry.discards) == (1, "429 rate_limit", 1.146, ())


def test_an_interruption_voids_nothing() -> None:
    """Nobody asks again."""
    chunks = run("sigINT_stream")
    assert not [chunk for chunk in chunks if isinstance(chunk, Retry)]
    assert shown(chunks) == ["tick0 tick1 "]


def test_denials_are_told_once() -> None:
    """As they happen, not again with the result."""
    notices = [chunk.text for chunk in run("denied") if isinstance(chunk, Notice)]
    assert notices == ["it was not permitted to use Write (mode)", "it was not permitted to use Read (mode)"]


def test_the_answer_by_a_schema() -> None:
    """It is the result's own; where it is missing that is said."""
    found = terminal(run("structured", ClaudeEvents(structured=True)))
    assert isinstance(found, Result)
    assert found.structured == {"name": "Ann"}
    chunks = run("unstructured", ClaudeEvents(structured=True))
    assert [chunk.text for chunk in chunks if isinstance(chunk, Notice)] == [
        "it has given no answer by the schema that was asked for"
    ]


def test_subagents_are_apart() -> None:
    """Their text is not the agent's, nor are their tools; the cost is."""
    chunks = run("subagent")
    assert [chunk.name for chunk in chunks if isinstance(chunk, ToolUse)] == ["Task"]
    assert [chunk.tool_id for chunk in chunks if isinstance(chunk, ToolResult)] == ["toolu_task"]
    raws = [chunk.raw for chunk in chunks if isinstance(chunk, Raw)]
    assert any(raw.get("parent_tool_use_id") == "toolu_task" for raw in raws)


def test_what_it_has_cost_so_far() -> None:
    """Each message adds to it, and replaces what was said before."""
    used = [chunk.usage for chunk in run("tool") if isinstance(chunk, Used)]
    assert [(usage.input_tokens, usage.output_tokens) for usage in used] == [(11, 7), (22, 14)]


# --- runs made by hand ------------------------------------------------------------------------------------------------

START = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "cache_read_input_tokens": 2}}}
END = {"type": "message_delta", "usage": {"output_tokens": 4}}
OK = {"type": "result", "subtype": "success", "is_error": False, "result": "ok", "session_id": "s"}


def part(event: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "stream_event", "event": event, "session_id": "s", "parent_tool_use_id": None, **more}


def delta(text: str, index: int = 0) -> dict[str, Any]:
    return part({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}})


def whole(*blocks: dict[str, Any], message_id: str = "m", **more: Any) -> dict[str, Any]:
    return {"type": "assistant", "message": {"id": message_id, "model": "x", "content": list(blocks)}, **more}


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def test_text_without_fragments() -> None:
    """Blocks of one message that come one by one are one text."""
    chunks = fed(whole(said("a")), whole(said("b")), whole(said("c"), message_id="n"), OK)
    assert shown(chunks) == ["ab", "c"]
    assert [chunk.delta for chunk in chunks if isinstance(chunk, Text)] == [False, True, False]


def test_thinking_whose_fragments_are_not_shown() -> None:
    """It comes whole, beside a text that came in fragments."""
    chunks = fed(part(START), delta("hi"), whole({"type": "thinking", "thinking": "hm"}), whole(said("hi")), OK)
    assert (shown(chunks, Thinking), shown(chunks)) == (["hm"], ["hi"])


@pytest.mark.parametrize("start", [START, {"type": "message_start", "message": {}}], ids=["named", "nameless"])
def test_a_message_that_comes_again_under_its_old_name(start: dict[str, Any]) -> None:
    """It gets another, or who was told to forget the old one would lose it."""
    stop = part({"type": "message_stop"}, abandoned_blocks={"from_block_index": 0})
    chunks = fed(part(start), delta("lost"), stop, part(start), delta("found"), OK)
    assert shown(chunks) == ["found"]
    (retry,) = [chunk for chunk in chunks if isinstance(chunk, Retry)]
    lost, found = [chunk.message_id for chunk in chunks if isinstance(chunk, Text)]
    assert retry.discards == (lost,)
    assert found != lost


def test_nameless_messages_are_not_doubled() -> None:
    """Fragments and whole are one message, though nothing says so."""
    event = {"type": "assistant", "message": {"content": [said("hi")]}}
    assert shown(fed(part({"type": "message_start"}), delta("hi"), event, event, OK)) == ["hi"]


def test_tools_that_are_told_again() -> None:
    """Each is told once; those that the provider itself ran are tools, too."""
    use = {"type": "tool_use", "id": "t", "name": "Bash", "input": {}}
    search = {"type": "server_tool_use", "id": "u", "name": "web_search", "input": {"query": "q"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "u", "content": [{"url": "x"}]}
    chunks = fed(whole(use), whole(use, search, found), OK)
    assert [chunk.tool_id for chunk in chunks if isinstance(chunk, ToolUse)] == ["t", "u"]
    assert [chunk.output for chunk in chunks if isinstance(chunk, ToolResult)] == [[{"url": "x"}]]


def test_a_denial_that_only_the_result_tells_of() -> None:
    """It is told then."""
    denied = {"tool_name": "Write", "tool_use_id": "t", "tool_input": {}}
    notice, _ = fed({**OK, "permission_denials": [denied, denied]})
    assert isinstance(notice, Notice)
    assert notice.text == "it was not permitted to use Write"


def test_an_error_on_the_way_is_no_failure() -> None:
    """The program's last word is the result."""
    error = whole(said("API Error: 500"), is_api_error_message=True, api_error_status=500)
    chunks = fed(error, OK)
    assert isinstance(chunks[-1], Result)
    assert shown(chunks) == []
    ended = fed(error, code=1)[-1]
    assert isinstance(ended, Error)
    assert (ended.category, ended.status) == ("server", 500)


def test_what_the_program_says_in_the_models_place() -> None:
    """It is a notice."""
    event = whole(said("No response requested."))
    event["message"]["model"] = "<synthetic>"
    notice, end = fed(event, OK)
    assert isinstance(notice, Notice)
    assert notice.text == "No response requested."
    assert isinstance(end, Result)


CATEGORIES = (
    ({"error": "billing_error"}, "Your credit balance is too low", "quota"),
    ({"api_error_status": 400}, "credit balance is too low", "quota"),
    ({"api_error_status": 429, "error": "rate_limit"}, "You've hit your limit · resets 3pm", "quota"),
    ({"api_error_status": 429, "error": "rate_limit"}, "Request rejected (429) · see your billing", "rate_limit"),
    ({}, "API Error: Connection dropped (ECONNRESET). Check the gateway, then try again.", "cut"),
    ({"api_error": "connection_failed"}, "API Error: Connection to the API was lost. Try again.", "cut"),
    ({"api_error": "connection_failed"}, "API Error: Connection refused", "network"),
    ({"api_error_status": 403}, "forbidden", "auth"),
    ({"api_error_status": 404}, "There's an issue with the selected model", "rejected"),
    ({"api_error_status": 529}, "overloaded", "server"),
    ({"api_error_type": "overloaded_error"}, "x", "server"),
    ({"error": "invalid_request"}, "Prompt is too long", "rejected"),
    ({"error": "unknown"}, "what", "failed"),
    ({"api_error_status": "many", "error": ["?"]}, "what", "failed"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "text", "category"), CATEGORIES, ids=[f"{n}-{c[2]}" for n, c in enumerate(CATEGORIES)]
)
def test_what_the_provider_said(fields: dict[str, Any], text: str, category: str) -> None:
    """By its status, the program's name for it, or its words, whichever says the most."""
    result = {**OK, "is_error": True, "result": text}
    for events in ([whole(said(text), is_api_error_message=True, **fields), result], [{**result, **fields}]):
        end = fed(*events, code=1)[-1]
        assert isinstance(end, Error)
        assert end.category == category


@pytest.mark.parametrize("subtype", ["success", "error_during_execution"])
def test_an_interruption_is_one_whatever_its_subtype(subtype: str) -> None:
    """Exit code 0 is no success."""
    end = fed({**OK, "subtype": subtype, "is_error": True, "terminal_reason": "aborted_tools"})[-1]
    assert isinstance(end, Error)
    assert end.category == "interrupted"


def test_a_later_result_counts() -> None:
    """A success after a failure is a success, and a failure after a success is a failure."""
    bad = {**OK, "subtype": "error_during_execution", "is_error": True, "errors": ["boom"]}
    assert isinstance(fed(bad, OK)[-1], Result)
    assert isinstance(fed(OK, bad)[-1], Error)


def test_a_result_that_is_not_the_last() -> None:
    """Work in the background begins another turn after it: the program is not done, and its costs add up."""
    parser = ClaudeEvents()
    counted = {**OK, "num_turns": 2, "model_usage_since_last_result": {"x": {"inputTokens": 1, "outputTokens": 2}}}
    done = []
    for event in (counted, part(START), delta("more"), counted):
        parser.feed(event)
        done.append(parser.done)
    assert done == [True, False, False, True]
    (end,) = parser.end(0, "")
    assert isinstance(end, Result)
    assert (end.usage, end.turns) == (Spent(2, 4, 0, 0, 0.0), 4)


def test_costs_of_an_older_program() -> None:
    """Without counts by model, `usage` stands, and the money only where the session is new."""
    usage = {"input_tokens": 1, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 4, "output_tokens": 8}
    old = {**OK, "usage": usage, "total_cost_usd": 0.5}
    assert terminal(fed(old)).usage == Spent(7, 8, 4, 0, 0.5)
    assert terminal(fed(old, resumed=True)).usage == Spent(7, 8, 4, None, None)


def test_an_answer_that_nobody_counted() -> None:
    """The program says zero, which no answer costs; nor does a failure, of which nobody knows what it made."""
    nothing = {"model_usage_since_last_result": {"x": {"inputTokens": 0, "outputTokens": 0, "costUSD": 0}}}
    assert terminal(fed({**OK, **nothing})).usage is None
    assert terminal(fed({**OK, **nothing, "is_error": True})).usage is None


def test_what_a_run_without_a_result_has_cost() -> None:
    """Its finished messages; nobody knows what one cost that was being told."""
    told = [part(START), delta("hi"), part(END), part({"type": "message_stop"})]
    assert terminal(fed(*told, code=-9)).usage == Spent(5, 4, 2, None)
    assert terminal(fed(*told, part(START), code=-9)).usage is None
    stop = part({"type": "message_stop"}, abandoned_blocks={"from_block_index": 0})
    assert terminal(fed(*told, part(START), delta("x"), stop, code=-9)).usage is None


def test_trouble_on_our_side_stands() -> None:
    """Over a success, whose cost stays known."""
    parser = ClaudeEvents()
    parser.feed({**OK, "usage": {"input_tokens": 1, "output_tokens": 2}})
    (end,) = parser.end(-2, "", Error(category="interrupted", message="too slow"))
    assert isinstance(end, Error)
    assert (end.message, end.session_id) == ("too slow", "")
    assert end.usage == Spent(1, 2, None, None)
    assert parser.end(0, "") == []


def test_unknown_events_pass_through() -> None:
    """A release may bring new ones, anywhere."""
    unknown: list[dict[str, Any]] = [
        {"type": "telepathy"},
        {"type": "system", "subtype": "telepathy"},
        part({"type": "telepathy"}),
        part({"type": "content_block_delta", "delta": {"type": "telepathy"}}),
        whole({"type": "telepathy"}),
        {"type": "user", "message": {"content": "[Request interrupted by user]"}},
    ]
    chunks = fed(*unknown, OK)
    assert [chunk.raw for chunk in chunks[:-1]] == unknown
    assert {type(chunk) for chunk in chunks[:-1]} == {Raw}


# --- any JSON ---------------------------------------------------------------------------------------------------------

WORDS = sorted(
    {word for tag in ("tool", "cut_retry1", "denied", "401") for event in events_of(tag) for word in event}
    | {"assistant", "user", "system", "result", "stream_event", "init", "api_retry", "success", "text", "tool_use"}
    | {"message_start", "message_stop", "content_block_delta", "message_delta", "event", "delta", "content", "usage"}
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(WORDS), st.just(10**400)
)
ANY_JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)),
    max_leaves=12,
)
RECORDED = [event for case in (*SUCCESSES, *FAILURES) for event in events_of(case[0])]


def damage(event: Any, draw: Callable[..., Any]) -> Any:
    """A recorded event with one of its values, however deep, replaced by anything or taken out."""
    event = copy.deepcopy(event)
    at = event
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return event
        key = draw(st.sampled_from(keys))
        if isinstance(at[key], dict | list) and draw(st.booleans()):
            at = at[key]
            continue
        if draw(st.booleans()):
            del at[key]
        else:
            at[key] = draw(ANY_JSON)
        return event


def check(events: list[Any], code: int | None, stderr: str) -> None:
    parser = ClaudeEvents(resumed=True, structured=True)
    chunks = [chunk for event in events for chunk in parser.feed(event)]
    assert not [chunk for chunk in chunks if isinstance(chunk, Result | Error)]
    terminal(chunks + parser.end(code, stderr))
    assert parser.end(code, stderr) == []
    assert parser.feed({"type": "assistant"}) == []


@given(st.lists(ANY_JSON, max_size=6), st.sampled_from([None, 0, 1, 143, -9]), st.text(max_size=20))
def test_any_json_is_read(events: list[Any], code: int | None, stderr: str) -> None:
    """Nothing raises, and a run has one end."""
    check(events, code, stderr)


@settings(max_examples=300)
@given(st.data())
def test_damaged_events_are_read(data: st.DataObject) -> None:
    """Recorded events in any order, each damaged anywhere."""
    events = data.draw(st.lists(st.sampled_from(RECORDED), min_size=1, max_size=8))
    check([damage(event, data.draw) for event in events], 0, "")


@given(st.data())
def test_a_damaged_run_is_read(data: st.DataObject) -> None:
    """A recorded run with some of its events damaged or lost."""
    events = events_of(data.draw(st.sampled_from([case[0] for case in SUCCESSES])))
    fates = data.draw(st.lists(st.sampled_from("kkkdl"), min_size=len(events), max_size=len(events)))
    check(
        [damage(e, data.draw) if fate == "d" else e for e, fate in zip(events, fates, strict=True) if fate != "l"],
        1,
        "",
    )
