"""A whole batch, in virtual time: every line exactly once, whatever the lines, the provider and the user do."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from batch_runs import AT_HOME, LOST, Pieces, Run, Sheet, as_bytes, plain, plan, run_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Batch, BatchSettings, Misuse, Tally
from engine.batch import runner as runner_module
from engine.config import parse_config
from engine.errors import PenstockError

BODY_FIELDS = {"model": "m-9", "max_tokens": 5}


@st.composite
def lines(draw: st.DrawFn) -> tuple[object, str | None]:
    """A line, and how it must end: a code, ``""`` for completed, None for a blank line that has no result."""
    kind = draw(st.sampled_from(["plain", "messages", "batch", "batch", "bad", "blank"]))
    if kind == "blank":
        return draw(st.sampled_from([b"", b"  ", b"\r"])), None
    if kind == "bad":
        return draw(
            st.sampled_from(
                [
                    (b"{", "invalid_line"),
                    (b"[]", "invalid_line"),
                    (b'{"prompt": "' + b"x" * 3_000 + b'"}', "invalid_line"),
                    ({"custom_id": "twin", "messages": []}, "invalid_call"),
                    ({"prompt": "a", "temperature": 9}, "invalid_call"),
                    ({"prompt": "a", "priority": "x"}, "invalid_call"),
                    ({"body": {}, "url": "/v1/audio/speech"}, "unknown_endpoint"),
                ]
            )
        )
    ends, statuses = draw(
        st.sampled_from(
            [
                ("", (200,)),
                ("", (429, 429, 200)),
                ("rejected", (400,)),
                ("outcome_unknown", (LOST,)),
                ("provider_unavailable", (503,)),
            ]
        )
    )
    prompt = plan(*statuses, after_s=draw(st.sampled_from([0.0, 0.1, 3.0])))
    more: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "custom_id": st.sampled_from(["a", "b", "twin", 5]),
                "flow": st.sampled_from(["x", "y"]),
                "priority": st.integers(-1, 1),
                "metadata": st.just({"k": 1}),
            },
        )
    )
    messages = [{"role": "user", "content": prompt}]
    if kind == "batch":
        return {**more, "url": "/v1/chat/completions", "body": {**BODY_FIELDS, "messages": messages}}, ends
    return {**more, **({"prompt": prompt} if kind == "plain" else {"messages": messages, "max_tokens": 7})}, ends


def by_line(run: Run) -> dict[int, dict[str, Any]]:
    rows = {int(row["id"].removeprefix("line-")): row for row in run.rows}
    assert len(rows) == len(run.rows)
    return rows


def code(row: dict[str, Any]) -> str:
    return row["error"]["code"] if row["error"] else ""


@settings(deadline=None)
@given(st.lists(lines(), max_size=25), st.booleans(), st.integers(1, 5_000), st.sampled_from([None, 1, 3]))
def test_every_line_has_exactly_one_result(
    mixed: list[tuple[object, str | None]], ordered: bool, piece_bytes: int, concurrency: int | None
) -> None:
    """It is the one that its own line must have, with its own name; and in order, if so asked."""
    settings = AT_HOME._replace(ordered=ordered, concurrency=concurrency)
    run = run_batch(Pieces(as_bytes(line for line, _ in mixed), piece_bytes), settings, max_bytes=2_000)
    rows = by_line(run)
    wanted = {number: end for number, (_, end) in enumerate(mixed, start=1) if end is not None}
    assert {number: code(row) for number, row in rows.items()} == wanted
    for number, row in rows.items():
        line = mixed[number - 1][0]
        named = line if isinstance(line, dict) else {}
        assert row["custom_id"] == named.get("custom_id")
        if row["error"]:
            assert row["error"]["line"] == number
        else:
            sent = named.get("body", named)
            said = row["response"]["body"]["choices"][0]["message"]["content"]
            assert said == (sent.get("prompt") or sent["messages"][0]["content"])
    if ordered:
        assert list(rows) == sorted(rows)
    tally = run.tally
    assert (tally.read, tally.not_sent, tally.rest) == (len(wanted), 0, 0)
    assert tally.completed == list(wanted.values()).count("")
    assert tally.unusable == sum(end in ("invalid_line", "invalid_call", "unknown_endpoint") for end in wanted.values())
    assert (tally.input_tokens, tally.output_tokens) == (10 * tally.completed, 5 * tally.completed)
    if concurrency is not None:
        assert run.provider.most_in_flight <= concurrency


@settings(deadline=None)
@given(
    st.integers(0, 60),
    st.sampled_from([0.0, 0.05, 0.35, 1.0, 2.95]),
    st.sampled_from([None, 0.0, 0.5]),
    st.booleans(),
)
def test_an_interrupted_batch_writes_what_was_sent_and_counts_the_rest(
    count: int, after_s: float, stop_after_s: float | None, ordered: bool
) -> None:
    """At whatever moment, and whether or not it is told to stop at once afterwards."""

    async def interrupt(batch: Batch) -> None:
        await trio.sleep(after_s)
        batch.discard()
        if stop_after_s is not None:
            await trio.sleep(stop_after_s)
            batch.stop()

    mixed: list[object] = [plain(200, after_s=0.3, custom_id=number) for number in range(count)]
    mixed[3::7] = [b"{" for _ in mixed[3::7]]
    settings = AT_HOME._replace(limit_requests=10, period_s=1.0, ordered=ordered)
    source = Pieces(as_bytes(mixed), 300, pause_s=0.01)
    run = run_batch(source, settings, meanwhile=interrupt)
    sent = {json.dumps(request.body["messages"]) for request in run.provider.requests}
    attempted = [row for row in run.rows if code(row) in ("", "outcome_unknown")]
    assert len(attempted) == len(run.provider.requests)
    assert len(sent) == (1 if attempted else 0)
    assert all(row["error"] is None or row["error"]["line"] for row in run.rows)
    assert {code(row) for row in run.rows} <= {"", "invalid_line", "outcome_unknown"}
    assert run.tally.rest is not None
    assert len(run.rows) + run.tally.not_sent + run.tally.rest == count
    if ordered:
        assert list(by_line(run)) == sorted(by_line(run))
    if stop_after_s is None:
        assert "outcome_unknown" not in {code(row) for row in run.rows}


def test_a_discard_lets_what_is_in_flight_end() -> None:
    """And sends nothing more: five were under way, five are written."""

    async def interrupt(batch: Batch) -> None:
        await trio.sleep(2.0)
        batch.discard()

    run = run_batch(
        as_bytes(plain(after_s=5.0) for _ in range(20)), AT_HOME._replace(concurrency=5), meanwhile=interrupt
    )
    assert (run.tally.completed, run.tally.not_sent, run.tally.rest) == (5, 15, 0)
    assert (len(run.provider.requests), run.time_s) == (5, 5.0)


def test_a_discard_waits_no_longer_than_the_configuration_says() -> None:
    """What is still in flight then may have been billed, and its result says so."""

    async def interrupt(batch: Batch) -> None:
        await trio.sleep(2.0)
        batch.discard()

    settings = AT_HOME._replace(config=parse_config("[engine]\ndrain_deadline_s = 4", "c.toml"))
    run = run_batch(as_bytes([plain(after_s=3.0), plain(after_s=100.0)]), settings, meanwhile=interrupt)
    assert [code(row) for row in run.rows] == ["", "outcome_unknown"]
    assert run.time_s == 6.0


def test_a_stop_ends_what_is_in_flight_at_once() -> None:
    async def interrupt(batch: Batch) -> None:
        await trio.sleep(2.0)
        batch.stop()

    run = run_batch(as_bytes([plain(after_s=1.0), plain(after_s=100.0)]), meanwhile=interrupt)
    assert [code(row) for row in run.rows] == ["", "outcome_unknown"]
    assert run.time_s == 2.0


@pytest.mark.parametrize("deadline_s", [None, 1_000.0])
def test_a_discard_counts_the_line_that_waits_for_a_place_in_the_queue(deadline_s: float | None) -> None:
    """It was read and never queued: one in flight, two queued, one at the door."""

    async def interrupt(batch: Batch) -> None:
        await trio.sleep(0.5)
        batch.discard()

    config = parse_config("[lanes.batch]\nqueue_capacity = 2", "c.toml")
    settings = AT_HOME._replace(concurrency=1, config=config, deadline_s=deadline_s)
    run = run_batch(as_bytes(plain(after_s=1.0) for _ in range(10)), settings, meanwhile=interrupt)
    assert (run.tally.completed, run.tally.not_sent, run.tally.rest) == (1, 3, 6)


def test_a_discard_ends_the_wait_for_a_silent_input() -> None:
    """What was read before is finished; how much would have come nobody knows."""

    async def interrupt(batch: Batch) -> None:
        await trio.sleep(50.0)
        batch.discard()

    run = run_batch(Pieces(as_bytes([plain()] * 3), silent=True), meanwhile=interrupt)
    assert (run.tally.completed, run.tally.rest, run.time_s) == (3, None, 50.0)


def test_a_discard_before_there_is_any_line() -> None:
    """While it is being looked for whether the first line has a model."""

    async def interrupt(batch: Batch) -> None:
        await trio.sleep(5.0)
        batch.discard()

    run = run_batch(Pieces(b"{\n", silent=True), BatchSettings(), meanwhile=interrupt)
    assert (run.tally.read, run.tally.not_sent, run.tally.completed) == (1, 1, 0)
    assert run.rows == []


# --- what holds for the whole -----------------------------------------------------------------------------------------


def test_the_limits_hold_over_all_models_and_lanes() -> None:
    """Three models in two lanes and one limit: no more than it admits in any second, and no less."""
    config = parse_config(
        """
        [lanes.other]
        [models.a]
        model = "a-1"
        base_url = "http://127.0.0.1:2"
        lane = "other"
        [models.b]
        model = "b-1"
        base_url = "http://127.0.0.1:3"
        """,
        "c.toml",
    )
    mixed = [plain(model=name) for name in ("a", "b", None) for _ in range(20)]
    run = run_batch(as_bytes(mixed), AT_HOME._replace(config=config, limit_requests=10, period_s=1.0))
    assert run.tally.completed == 60
    stamps = [request.at_s for request in run.provider.requests]
    assert max(sum(start <= at < start + 1.0 for at in stamps) for start in stamps) == 10
    assert stamps[-1] - stamps[0] < 5.2
    assert {
        (request.account.name.split(":")[-1].split("/")[0], request.body["model"]) for request in run.provider.requests
    } == {
        ("2", "a-1"),
        ("3", "b-1"),
        ("1", "m-1"),
    }
    assert 0.95 < (run.tally.share(60, 10, 1.0, whole=True) or 0) <= 1.0


def test_concurrency_holds_over_all_lanes() -> None:
    config = parse_config('[lanes.x]\n[models.a]\nmodel = "a-1"\nbase_url = "http://127.0.0.1:2"\nlane = "x"', "c.toml")
    mixed = [plain(model=name, after_s=1.0) for name in ("a", "m-1") for _ in range(10)]
    run = run_batch(as_bytes(mixed), AT_HOME._replace(config=config, concurrency=4))
    assert (run.tally.completed, run.provider.most_in_flight) == (20, 4)


def test_the_lines_own_model_goes_before_that_of_the_batch() -> None:
    mixed = [plain(model="m-2"), plain(), {"body": {"model": "m-3", "messages": [{"role": "user", "content": plan()}]}}]
    run = run_batch(as_bytes(mixed))
    assert sorted(request.body["model"] for request in run.provider.requests) == ["m-1", "m-2", "m-3"]


def test_nothing_but_arguments_reaches_the_provider() -> None:
    own = {"custom_id": "c", "id": "i", "flow": "f", "priority": 1, "metadata": {"m": 1}, "timeout_s": 5}
    run = run_batch(as_bytes([plain(**own, temperature=0.5)]))
    assert set(run.provider.requests[0].body) == {"model", "messages", "temperature"}


def test_deadline_timeout_and_retry_are_the_lines() -> None:
    """The batch's own words hold for lines that do not say otherwise."""
    mixed = [
        plain(after_s=50.0),
        plain(after_s=50.0, timeout_s=100),
        plain(LOST, 200),
        plain(LOST, 200, on_unknown="fail"),
        plain(after_s=80.0, timeout_s=100, deadline_s=70),
    ]
    run = run_batch(as_bytes(mixed), AT_HOME._replace(timeout_s=10.0, on_unknown="retry", deadline_s=60.0))
    codes = {number: code(row) for number, row in by_line(run).items()}
    assert codes == {1: "outcome_unknown", 2: "", 3: "", 4: "outcome_unknown", 5: "outcome_unknown"}
    assert (round(run.time_s, 3), run.tally.retries > 1) == (70.0, True)


def test_what_is_under_way_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large lines are not read ahead of what is sent; one that is larger than the bound alone still goes."""
    monkeypatch.setattr(runner_module, "HELD_BYTES", 5_000)
    run = run_batch(as_bytes(plain(after_s=1.0, user="x" * 2_000) for _ in range(30)))
    assert (run.tally.completed, run.provider.most_in_flight) == (30, 3)
    run = run_batch(as_bytes(plain(after_s=1.0, user="x" * 20_000) for _ in range(3)))
    assert (run.tally.completed, run.provider.most_in_flight) == (3, 1)


def test_lines_are_read_only_as_they_can_be_sent() -> None:
    """However long the input is: a hundred are in flight, a thousand wait, and the rest is not looked at."""
    seen = []

    async def look(batch: Batch) -> None:
        await trio.sleep(0.5)
        seen.append((batch.tally.read, batch.gauges().in_flight))
        batch.stop()

    run = run_batch(
        as_bytes(plain(after_s=1.0) for _ in range(3_000)), AT_HOME._replace(concurrency=100), meanwhile=look
    )
    assert seen == [(1_100, 100)]
    assert (run.tally.not_sent, run.tally.rest) == (1_000, 1_900)


def test_a_slow_sink_holds_the_batch_back() -> None:
    """What has ended and is not yet written is bounded, too."""
    big = "x" * 20_000
    run = run_batch(as_bytes(plain(user=big, after_s=0.0) for _ in range(10)), sheet=Sheet(pause_s=5.0))
    assert run.tally.completed == 10


# --- what is wrong with the whole -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mixed", "settings", "words"),
    [
        ([plain(), plain(model="m")], BatchSettings(base_url="http://127.0.0.1:1"), "no model"),
        ([b"{", plain()], BatchSettings(base_url="http://127.0.0.1:1"), "no model"),
        ([plain(model="gpt-4o")], BatchSettings(), "OPENAI_API_KEY"),
        ([plain(model="m-1")], BatchSettings(model="groq/m"), "GROQ_API_KEY"),
        ([], BatchSettings(model="groq/m"), "GROQ_API_KEY"),
        ([], BatchSettings(model="acme/m"), "acme"),
    ],
)
def test_misuse_is_found_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, mixed: list[object], settings: BatchSettings, words: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    sheet = Sheet()
    with pytest.raises(Misuse, match=words) as caught:
        run_batch(as_bytes(mixed), settings, sheet=sheet)
    assert "Nothing was sent" in caught.value.message
    assert sheet.data == b""


def test_once_a_line_has_a_model_the_others_speak_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model, no key, no such provider: each is its own line's error."""
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    config = parse_config('[models.a]\nmodel = "a-1"\nbase_url = "http://127.0.0.1:2"', "c.toml")
    mixed = [plain(model="a"), plain(), plain(model="groq/m"), plain(model="acme/m"), plain(model="a")]
    run = run_batch(as_bytes(mixed), BatchSettings(config=config))
    codes = {number: code(row) for number, row in by_line(run).items()}
    assert codes == {1: "", 2: "invalid_call", 3: "missing_key", 4: "unknown_endpoint", 5: ""}


def test_an_input_that_breaks_off_is_told_after_what_was_read() -> None:
    class Breaking(Pieces):
        async def read(self) -> bytes:
            return await super().read() or self.fail()

        def fail(self) -> bytes:
            raise PenstockError("cannot be read any further")

    sheet = Sheet()
    with pytest.raises(PenstockError, match="any further"):
        run_batch(Breaking(as_bytes([plain()] * 5)), sheet=sheet)
    assert [code(row) for row in sheet.rows] == [""] * 5


def test_a_sink_that_fails_ends_the_batch() -> None:
    """What is in flight is dropped: nobody could be told of it. What was written stays whole."""
    sheet = Sheet(full_bytes=1_500)
    mixed = [plain(after_s=float(number)) for number in range(100)]
    with pytest.raises(BrokenPipeError):
        run_batch(as_bytes(mixed), sheet=sheet)
    assert 0 < len(sheet.rows) < 10


def test_a_call_larger_than_its_limit_is_its_lines_error() -> None:
    mixed = [plain(max_tokens=5), plain(max_tokens=5_000), plain(max_tokens=5)]
    run = run_batch(as_bytes(mixed), AT_HOME._replace(limit_tokens=500))
    assert {number: code(row) for number, row in by_line(run).items()} == {1: "", 2: "capacity_exceeded", 3: ""}
    failures = run.tally.failures["capacity_exceeded"]
    assert (failures.count, failures.line) == (1, 2)


SHARES = [
    # used, limit, whole amounts, seconds from first to last, share
    (100, 100, True, 0.5, None),
    (101, 100, True, 1.0, 1.0),
    (301, 100, True, 4.0, 0.75),
    (301, 100, True, 2.0, 1.0),
    (3_000, 1_000, False, 2.5, 0.8),
    (900, 1_000, False, 2.5, None),
]


@pytest.mark.parametrize(("used", "limit", "whole", "span_s", "share"), SHARES)
def test_the_share_of_a_limit(used: int, limit: int, whole: bool, span_s: float, share: float | None) -> None:
    tally = Tally()
    tally.first_sent_us, tally.last_sent_us = 1_000_000, 1_000_000 + round(span_s * 1e6)
    assert tally.share(used, limit, 1.0, whole=whole) == share
