"""aiXplain, simulated, on real sockets: what each word of a model's identifier does, polls, records, keys, the log."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from format_client import send
from simulator_client import Client, Response, Streamed, connect, with_simulator

from engine.simulator import (
    FAULTS,
    STREAM_FAULTS,
    FaultRates,
    ProviderLimit,
    Simulator,
    SimulatorConfig,
    StreamShape,
    simulated_provider,
)
from engine.simulator.formats.aixplain_ids import WORDS, Behaviour, behaviour_of

PLAIN = SimulatorConfig(output_tokens=6, models=("llm-a", "b", "llm-c"))
KEYED = SimulatorConfig(output_tokens=6, key="sesame")
TOKEN = {"authorization": "Token sesame"}
BASE = "/aixplain"


async def run(client: Client, model: str, version: int = 2, call: str = "one", **arguments: object) -> Response:
    """A run, without waiting for what was promised."""
    body = json.dumps({"data": "hello", **arguments}).encode()
    named = {"x-penstock-call": call}
    return await client.request("POST", f"{BASE}/api/v{version}/execute/{model}", body, named)


def path_of(promised: Response) -> str:
    """Where the server is to be polled for what it has promised."""
    address: str = promised.json()["data"]
    assert address.startswith("http://")
    return "/" + address.split("/", 3)[3]


async def polled(client: Client, promised: Response, most: int = 9) -> list[Response]:
    """Every poll up to the one that is completed, or `most`."""
    said: list[Response] = []
    while len(said) < most:
        said.append(await client.request("GET", path_of(promised)))
        if said[-1].body.startswith(b"{") and said[-1].json().get("completed"):
            break
    return said


async def streamed(client: Client, model: str, **arguments: object) -> Streamed:
    """A run that asks for a stream."""
    body = json.dumps({"data": "hello", "options": {"stream": True}, **arguments}).encode()
    head = [("host", "simulator"), ("content-length", str(len(body))), ("x-penstock-call", "one")]
    await send(client, f"{BASE}/api/v2/execute/{model}", head, body)
    return await client.listen()


async def asked(
    config: SimulatorConfig, ask: Callable[[Client], Awaitable[Any]], judge: Callable[[Simulator], object] | None = None
) -> Any:
    """What comes of asking a simulator over one connection."""
    found: list[Any] = []

    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            found.append(await ask(client))
        if judge is not None:
            found[0] = (found[0], judge(simulator))

    await with_simulator(config, body)
    return found[0]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("m", Behaviour()),
        ("sync-1", Behaviour()),
        ("llm-async-2-fail-m", Behaviour(llm=True, polls=2, end="fail")),
        ("async-m", Behaviour(polls=1)),
        ("status-475", Behaviour(status=475)),
        ("status-999", Behaviour()),
        ("poll-503-2-async-0-x", Behaviour(polls=0, poll_status=503, poll_times=2)),
        ("poll-404", Behaviour(poll_status=404)),
        ("stream-openai-no-done", Behaviour(stream="openai", fault="stream_no_done")),
        ("stream", Behaviour(stream="envelope")),
        ("gpt-4-stream-cut", Behaviour()),
        ("llmish", Behaviour()),
        ("", Behaviour()),
    ],
)
def test_the_words_of_an_identifier(model: str, said: Behaviour) -> None:
    assert behaviour_of(model) == said


def test_every_word_is_read_alone() -> None:
    assert {word: behaviour_of(f"{word}-m") for word in WORDS} == {
        word: Behaviour()._replace(**change) for word, change in WORDS.items()
    }
    assert {change["fault"] for change in WORDS.values() if "fault" in change} <= set(FAULTS)


async def test_an_answer_at_once() -> None:
    async def ask(client: Client) -> list[Response]:
        return [await run(client, "llm-sync-1"), await run(client, "sync-2"), await run(client, "now-3", 1)]

    (whole, other, first), (arrival, *_) = await asked(PLAIN, ask, lambda simulator: simulator.log())
    told = whole.json()
    assert (whole.status, other.status, first.status) == (200, 200, 200)
    assert (told["status"], told["completed"]) == ("SUCCESS", True)
    assert len(told["data"].split()) == 6
    message = {"role": "assistant", "content": told["data"]}
    assert told["details"] == [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
    assert isinstance(other.json()["details"], dict)
    assert told["usage"] == {"prompt_tokens": 6, "completion_tokens": 6, "total_tokens": 12}
    assert (arrival.input_tokens, arrival.output_tokens) == (6, 6)
    assert told["asset"]["id"] == "llm-sync-1"
    assert told.keys() >= {"usedCredits", "runTime", "sessionId"}
    assert (told["usedCredits"], first.json()["status"]) == (1.2e-05, "SUCCESS")


@pytest.mark.parametrize("version", [1, 2])
async def test_an_answer_is_promised_and_comes_after_so_many_polls(version: int) -> None:
    async def ask(client: Client) -> tuple[Response, list[Response], Response, Response]:
        promised = await run(client, "llm-async-2-x", version)
        polls = await polled(client, promised)
        return promised, polls, await client.request("GET", path_of(promised)), await run(client, "llm-x")

    promised, polls, again, at_once = await asked(PLAIN, ask)
    assert promised.status == 201
    told = promised.json()
    assert told.keys() == {"requestId", "status", "data", "completed"}
    assert (told["status"], told["completed"]) == ("IN_PROGRESS", True)
    assert told["data"].startswith(f"http://simulator{BASE}/api/v1/data/")
    assert [poll.json() for poll in polls[:-1]] == [{"completed": False, "status": "IN_PROGRESS"}] * 2
    done = polls[-1].json()
    assert (done["status"], done["completed"]) == ("SUCCESS", True)
    assert done.keys() == at_once.json().keys()
    assert again.json() == done


async def test_version_1_promises_always_and_the_same_words_come() -> None:
    async def ask(client: Client) -> tuple[Response, list[Response]]:
        promised = await run(client, "m", 1)
        return await run(client, "m", call="one"), await polled(client, promised)

    at_once, polls = await asked(PLAIN, ask)
    assert len(polls) == 2
    assert len(polls[-1].json()["data"].split()) == len(at_once.json()["data"].split())
    assert polls[-1].json()["usage"] == at_once.json()["usage"]


@pytest.mark.parametrize("version", [1, 2])
async def test_what_was_promised_may_be_polled_at_either_version(version: int) -> None:
    async def ask(client: Client) -> Response:
        path = path_of(await run(client, "async-0-a%2Fb"))
        return await client.request("GET", path.replace("/v1/", f"/v{version}/"))

    answer = await asked(PLAIN, ask)
    assert (answer.status, answer.json()["asset"]["id"]) == (200, "async-0-a/b")


async def test_runs_that_fail() -> None:
    async def ask(client: Client) -> dict[str, list[Any]]:
        said = {}
        for word in ("fail", "coded", "supplier", "warn"):
            at_once = (await run(client, word)).json()
            said[word] = [at_once, (await polled(client, await run(client, f"async-{word}")))[-1].json()]
        return said

    said = await asked(PLAIN, ask)
    assert "error_code" not in said["fail"][0]
    assert {answer["error_code"] for answer in said["coded"]} == {"simulated_failure"}
    for answer in (*said["fail"], *said["coded"]):
        assert (answer["status"], answer["completed"]) == ("FAILED", True)
        assert answer["error_message"]
    assert [answer.get("status") for answer in said["supplier"]] == ["FAILED", None]
    assert [answer["supplierError"] for answer in said["supplier"]] == ["quota"] * 2
    assert [(answer["status"], answer["supplierError"]) for answer in said["warn"]] == [("SUCCESS", "quota")] * 2


async def test_odd_first_answers() -> None:
    async def ask(client: Client) -> list[Response]:
        return [await run(client, model) for model in ("no-data", "no-status", "html", "foreign-poll")]

    no_data, no_status, html, foreign = await asked(PLAIN, ask)
    assert (no_data.status, no_data.json().keys()) == (201, {"requestId", "status", "completed"})
    assert no_status.json().keys() == {"requestId", "data", "completed"}
    assert "/api/v1/data/" in no_status.json()["data"]
    assert (html.status, html.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert html.body.startswith(b"<!DOCTYPE html>")
    assert foreign.json()["data"].startswith(f"http://localhost{BASE}/api/v1/data/")


@pytest.mark.parametrize("promised", [False, True])
async def test_odd_last_answers(promised: bool) -> None:
    words = ("odd-status", "list", "no-completed")

    async def ask(client: Client) -> list[Any]:
        if not promised:
            return [(await run(client, word)).json() for word in words]
        return [(await polled(client, await run(client, f"async-0-{word}"), 1))[0].json() for word in words]

    status, listed, bare = await asked(PLAIN, ask)
    assert (status["status"], status["completed"]) == ("ON_HOLD", True)
    assert [len(text.split()) for text in listed] == [6]
    assert ("completed" in bare, bare["status"]) == (False, "SUCCESS")


async def test_odd_usages() -> None:
    async def ask(client: Client) -> list[Any]:
        return [(await run(client, model)).json()["usage"] for model in ("no-usage", "nan-usage", "text-usage")]

    none, nan, text = await asked(PLAIN, ask)
    assert none is None
    assert set(nan.values()) == {"NaN"}
    assert text == {"prompt_tokens": "6", "completion_tokens": "6", "total_tokens": "12"}


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 422, 429, 460, 475, 489, 495, 500, 501, 503, 504])
async def test_every_status_can_be_had(status: int) -> None:
    async def ask(client: Client) -> list[Response]:
        return [await run(client, f"status-{status}-m", version) for version in (1, 2)]

    for answer in await asked(PLAIN, ask):
        assert (answer.status, list(answer.json())) == (status, ["error"])
        assert isinstance(answer.json()["error"], str)
        assert answer.headers.get("retry-after") == ("1" if status == 429 else None)


async def test_polls_that_fail_for_a_while_or_for_good() -> None:
    async def ask(client: Client) -> list[list[Response]]:
        return [
            await polled(client, await run(client, f"{word}-async-1"), most=5)
            for word in ("poll-503-2", "poll-404", "poll-429-1", "poll-html")
        ]

    while_503, always, limited, html = await asked(PLAIN, ask)
    assert [poll.status for poll in while_503] == [503, 503, 200, 200]
    assert [poll.json().get("completed") for poll in while_503] == [None, None, False, True]
    assert [poll.status for poll in always] == [404] * 5
    assert all("completed" not in poll.json() for poll in always)
    assert limited[0].headers["retry-after"] == "1"
    assert [(poll.status, poll.headers["content-type"]) for poll in html] == [(200, "text/html; charset=utf-8")] * 5


@pytest.mark.parametrize("job", ["x", "0.1.2.m", "g" * 16 + ".1.2.m", "0" * 16 + ".1.x.m", "0" * 16 + ".1.2."])
async def test_a_job_that_nobody_was_promised(job: str) -> None:
    answer = await asked(PLAIN, lambda client: client.request("GET", f"{BASE}/api/v1/data/{job}"))
    assert (answer.status, list(answer.json())) == (404, ["error"])


STREAMS = {
    "stream-envelope": (b'data: {"data":"', b"data: [DONE]\n\n"),
    "stream-done": (b'data: {"data":"', b'data: {"data":"[DONE]"}\n\n'),
    "stream-status": (b'data: {"data":"', b'data: {"data":"","status":"SUCCESS"}\n\n'),
    "stream-text": (b'data: {"data":{"text":"', b"data: [DONE]\n\n"),
    "stream-openai": (b'data: {"choices":[{"index":0,"delta":{"content":"', b"data: [DONE]\n\n"),
    "stream-openai-no-done": (b'data: {"choices":[{"index":0,"delta":{"content":"', b'"total_tokens":12}}\n\n'),
    "stream-split": (b'data: {"data":\ndata: "', b"data: [DONE]\n\n"),
    "comments": (b': keep-alive\n\ndata: {"data":"', b"data: [DONE]\n\n"),
    "fields": (b'event: message\nid: 0\nretry: 1000\ndata: {"data":"', b"data: [DONE]\n\n"),
    "fields-stream-openai": (b'event: message\nid: 0\nretry: 1000\ndata: {"choices":[', b"data: [DONE]\n\n"),
    "stream-plain": (b"data: ", b"data: [DONE]\n\n"),
    "stream-bare": (b"", b"data: [DONE]\n\n"),
    "no-done": (b'data: {"data":"', b'"}\n\n'),
    "m": (b'data: {"data":"', b"data: [DONE]\n\n"),
}


def text_of(stream: Streamed) -> str:
    """The words of a stream in any of its forms."""
    text = ""
    for event in stream.body.decode().split("\n\n"):
        unread = (":", "event:", "id:", "retry:")
        data = "".join(line.removeprefix("data: ") for line in event.splitlines() if not line.startswith(unread))
        if not data.startswith("{"):
            text += data
        else:
            told = json.loads(data)
            piece = told["choices"][0]["delta"].get("content", "") if "choices" in told else told["data"]
            text += piece["text"] if isinstance(piece, dict) else piece
    return text.replace("[DONE]", "")


@pytest.mark.parametrize("model", STREAMS)
async def test_streams_of_every_form_say_the_same(model: str) -> None:
    begins, ends = STREAMS[model]

    async def ask(client: Client) -> tuple[Streamed, Streamed]:
        return await streamed(client, model), await streamed(client, "plain")

    (stream, _), log = await asked(PLAIN, ask, lambda simulator: simulator.log())
    assert (stream.status, stream.end) == (200, "done")
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.body.startswith(begins)
    assert stream.body.endswith(ends)
    assert (b"[DONE]" in stream.body) == (b"[DONE]" in ends)
    assert len(text_of(stream).split()) == 6
    assert (log[0].output_tokens, log[0].accepted) == (6, True)


async def test_words_may_stand_bare() -> None:
    kinds = ("plain", "bare", "envelope")
    plain, bare, envelope = [
        (await asked(PLAIN, lambda client, kind=kind: streamed(client, f"stream-{kind}"))).body for kind in kinds
    ]
    words = [json.loads(line[6:])["data"].encode() for line in envelope.split(b"\n\n")[:6]]
    assert plain.split(b"\n\n")[:6] == [b"data: " + word for word in words]
    assert bare.split(b"\n\n")[:6] == words


async def test_a_stream_may_be_a_page() -> None:
    stream = await asked(PLAIN, lambda client: streamed(client, "stream-html"))
    assert (stream.status, stream.end) == (200, "done")
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.body.startswith(b"<!DOCTYPE html>")
    assert stream.body.endswith(b"</html>\n")


async def test_a_stream_may_reason_under_either_name() -> None:
    models = ("stream-reasoning-m", "stream-reasoning-details-m")
    streams = [await asked(PLAIN, lambda client, model=model: streamed(client, model)) for model in models]
    named, detailed = [[event["choices"][0]["delta"] for event in stream.events[:-1]] for stream in streams]
    assert [list(delta) for delta in named[:3]] == [["reasoning"], ["reasoning"], ["content"]]
    told = [detail for delta in detailed[:2] for detail in delta["reasoning_details"]]
    assert told == [{"type": "reasoning.text", "text": delta["reasoning"]} for delta in named[:2]]


@pytest.mark.parametrize("model", ["stream-plain", "stream-bare", "stream-html", "fields", "stream-reasoning-details"])
@pytest.mark.parametrize("fault", ["malformed_json", "truncated", "wrong_types", "null_usage"])
async def test_odd_streams_can_be_spoiled(model: str, fault: str) -> None:
    config = SimulatorConfig(faults=FaultRates(**{fault: 1.0}), output_tokens=6)
    stream = await asked(config, lambda client: streamed(client, model))
    assert (stream.status, stream.end) == (200, "cut" if fault == "truncated" else "done")


async def test_a_stream_may_be_one_document() -> None:
    async def ask(client: Client) -> Response:
        return await run(client, "stream-json", options={"stream": True})

    whole = await asked(PLAIN, ask)
    assert whole.headers["content-type"] == "application/json"
    assert whole.json()["status"] == "SUCCESS"


FAILING = {
    "stream-cut": (b"", "cut"),
    "stream-error": (b'data: {"error":{"message":"The model has failed in its stream. (simulated)"}}\n\n', "done"),
    "stream-failed": (
        b'data: {"status":"FAILED","errorMessage":"The model has failed in its stream. (simulated)"}\n\n',
        "done",
    ),
}


@pytest.mark.parametrize("model", FAILING)
async def test_streams_that_fail_after_two_events(model: str) -> None:
    ends, how = FAILING[model]
    config = SimulatorConfig(output_tokens=6, faults=FaultRates(stream_at=2))
    stream = await asked(config, lambda client: streamed(client, model))
    assert stream.end == how
    assert stream.body.endswith(ends)
    assert stream.body.count(b'{"data":"') == 2
    assert b"[DONE]" not in stream.body


async def test_reasoning_is_in_openais_chunks_alone() -> None:
    config = SimulatorConfig(output_tokens=6, stream=StreamShape(reasoning=2))

    async def ask(client: Client) -> list[bytes]:
        return [(await streamed(client, model)).body for model in ("stream-openai", "stream-envelope")]

    chunks, envelopes = await asked(config, ask)
    assert (chunks.count(b"reasoning_content"), envelopes.count(b"reasoning_content")) == (2, 0)


async def test_a_stream_is_of_version_2_and_of_who_asks() -> None:
    async def ask(client: Client) -> list[Response]:
        options = {"options": {"stream": True}}
        return [await run(client, "stream-m", 1, **options), await run(client, "stream-m", options={"stream": False})]

    first, second = await asked(PLAIN, ask)
    assert (first.json()["status"], second.json()["status"]) == ("IN_PROGRESS", "SUCCESS")


@pytest.mark.parametrize(
    ("body", "says"),
    [(b"{", "JSON"), (b"[]", "object"), (b'{"max_tokens": "5"}', "max_tokens")],
)
async def test_what_is_refused(body: bytes, says: str) -> None:
    answer = await asked(PLAIN, lambda client: client.request("POST", f"{BASE}/api/v2/execute/m", body))
    assert answer.status == 400
    assert says in answer.json()["error"]


async def test_all_that_is_said_is_counted_and_the_cap_is_max_tokens() -> None:
    async def ask(client: Client) -> None:
        await run(client, "m", max_tokens=3, context="12345678", history=[{"role": "user", "content": "1234"}])
        await run(client, "m", data={"a": 1})
        await run(client, "m", data=None, text=[{"role": "user", "content": "hello"}])

    _, log = await asked(PLAIN, ask, lambda simulator: simulator.log())
    assert [(arrival.input_tokens, arrival.output_cap) for arrival in log] == [(6 + 6 + 5, 3), (6, 6), (6, 6)]


LIMITED = SimulatorConfig(limits=(ProviderLimit("requests", 2, 60.0),), output_tokens=6)


async def test_polls_count_against_no_limit_and_stand_in_the_log_with_their_times() -> None:
    async def ask(client: Client) -> tuple[list[Response], Response, Response]:
        promised = await run(client, "async-3")
        polls = await polled(client, promised)
        await run(client, "m")
        return polls, await run(client, "m"), promised

    def judge(simulator: Simulator) -> tuple[Any, Any, Any]:
        return simulator.log(), simulator.asides(), simulator.statistics()

    (polls, refused, promised), (log, asides, totals) = await asked(LIMITED, ask, judge)
    assert (len(polls), refused.status) == (4, 429)
    assert int(refused.headers["retry-after"]) > 50
    assert [arrival.refused_by for arrival in log] == ["", "", "requests"]
    assert [(aside.method, aside.path, aside.number, aside.status) for aside in asides] == [
        ("GET", path_of(promised), number, 200) for number in (1, 2, 3, 4)
    ]
    instants = [log[0].at_us, *(aside.at_us for aside in asides), log[1].at_us]
    assert instants == sorted(instants)
    assert (totals.arrivals, totals.accepted, totals.asides, totals.not_found) == (3, 2, 4, 0)
    assert totals.worst_windows[0].worst == 2


async def test_the_log_of_a_process_has_them_too() -> None:
    with_name = {"x-penstock-call": "seven"}
    async with simulated_provider(PLAIN) as provider:
        async with connect(provider.port) as client:
            promised = await run(client, "async-0")
            await client.request("GET", path_of(promised), headers=with_name)
        (aside,) = (await provider.records()).asides
        assert (aside.call, aside.path) == ("seven", path_of(promised))


async def test_faults_strike_runs_and_no_polls() -> None:
    config = SimulatorConfig(faults=FaultRates(server_error=1.0, only_first_attempts=1), output_tokens=6)

    async def ask(client: Client) -> list[Response]:
        first = await run(client, "async-0")
        return [first, *await polled(client, await run(client, "async-0"))]

    first, poll = await asked(config, ask)
    assert (first.status, list(first.json())) == (500, ["error"])
    assert poll.json()["status"] == "SUCCESS"


@pytest.mark.parametrize("fault", ["error_in_200", "null_usage", "malformed_json", "wrong_types"])
async def test_faults_of_an_answer(fault: str) -> None:
    config = SimulatorConfig(faults=FaultRates(**{fault: 1.0}), output_tokens=6)
    answer = await asked(config, lambda client: run(client, "m"))
    assert answer.status == 200
    if fault == "malformed_json":
        with pytest.raises(ValueError, match=r"delimiter|Expecting|Unterminated"):
            answer.json()
        return
    told = answer.json()
    expected = {"error_in_200": "FAILED", "null_usage": None, "wrong_types": "12"}
    usage = told.get("usage")
    said = {"error_in_200": told["status"], "null_usage": usage, "wrong_types": usage and usage["total_tokens"]}
    assert said[fault] == expected[fault]


@pytest.mark.parametrize("fault", sorted(STREAM_FAULTS - {"stream_stall", "stream_keep_alive"}))
@pytest.mark.parametrize(
    "model",
    [*(f"stream-{kind}" for kind in ("envelope", "openai", "split", "status", "plain", "bare", "html")), "fields"],
)
async def test_every_fault_of_a_stream_can_strike(model: str, fault: str) -> None:
    config = SimulatorConfig(faults=FaultRates(**{fault: 1.0}), output_tokens=6)

    async def ask(client: Client) -> str:
        return (await streamed(client, model)).end

    end, (arrival,) = await asked(config, ask, lambda simulator: simulator.log())
    assert end == {"stream_cut": "cut", "stream_reset": "reset"}.get(fault, "done")
    assert arrival.fault == fault


async def test_what_chance_has_for_a_run_comes_before_what_its_model_does() -> None:
    config = SimulatorConfig(faults=FaultRates(server_error=1.0))
    answer, (arrival,) = await asked(
        config,
        lambda client: run(client, "stream-cut", options={"stream": True}),
        lambda simulator: simulator.log(),
    )
    assert (answer.status, arrival.fault) == (500, "server_error")


async def test_a_stream_is_charged_by_its_usage_where_it_has_one() -> None:
    config = SimulatorConfig(output="short", output_tokens=6)

    async def ask(client: Client) -> None:
        for model in ("stream-openai", "stream-envelope", "stream-openai-no-usage", "m"):
            await streamed(client, model, max_tokens=100)

    _, log = await asked(config, ask, lambda simulator: simulator.log())
    assert [arrival.output_tokens for arrival in log] == [6, 100, 100, 100]


RUN = ("POST", f"{BASE}/api/v2/execute/m")
BY_KEY = [RUN, ("GET", f"{BASE}/api/v1/data/{'0' * 16}.1.2.now"), ("GET", f"{BASE}/sdk/finetune/m/ml-logs")]
BY_TOKEN = [
    ("GET", f"{BASE}/sdk/models/m"),
    ("DELETE", f"{BASE}/sdk/models/m"),
    ("GET", f"{BASE}/sdk/models?ids=m"),
    ("GET", f"{BASE}/sdk/models/by-name/m"),
    ("POST", f"{BASE}/sdk/models/paginate"),
    ("GET", f"{BASE}/sdk/api-keys/usage-limits"),
]


@pytest.mark.parametrize(("method", "path"), [*BY_KEY, *BY_TOKEN], ids=str)
async def test_each_path_wants_the_key_where_the_real_one_has_it(method: str, path: str) -> None:
    right = {"x-api-key": "sesame"} if (method, path) in BY_KEY else TOKEN
    wrong = TOKEN if (method, path) in BY_KEY else {"x-api-key": "sesame"}

    async def ask(client: Client) -> list[Response]:
        bare = {"authorization": "sesame"}
        heads: list[dict[str, str]] = [{}, wrong, bare, {"x-api-key": "no", "authorization": "Token no"}, right]
        return [await client.request(method, path, b"{}", head) for head in heads]

    *refused, served = await asked(KEYED, ask)
    assert [answer.status for answer in refused] == [401] * 4
    assert served.status == 200
    field = "message" if "/sdk/" in path else "error"
    assert all(isinstance(answer.json()[field], str) and b"sesame" not in answer.body for answer in refused)


@pytest.mark.parametrize("prefix", [BASE, ""])
async def test_records(prefix: str) -> None:
    """Also without the prefix: the SDK leaves the path of its address out."""

    async def ask(client: Client) -> list[Response]:
        paths = ("llm-m", "a%2Fb", "stream-m", "missing-m", "by-name/llm%20x")
        return [await client.request("GET", f"{prefix}/sdk/models/{path}") for path in paths]

    llm, other, streaming, missing, by_name = await asked(PLAIN, ask)
    record = llm.json()
    assert (record["id"], record["function"]["id"], record["supportsStreaming"]) == ("llm-m", "text-generation", True)
    assert record["params"][1]["defaultValues"] == [{"value": "0.7"}]
    assert (other.json()["id"], other.json()["supportsStreaming"]) == ("a/b", False)
    assert other.json()["function"]["id"] != "text-generation"
    assert streaming.json()["supportsStreaming"] is True
    assert (missing.status, missing.json()["statusCode"]) == (404, 404)
    assert by_name.json()["name"] == "llm x"


async def test_lists_of_models() -> None:
    async def ask(client: Client) -> list[Any]:
        async def page(**arguments: object) -> Any:
            body = json.dumps(arguments).encode()
            return (await client.request("POST", "/sdk/models/paginate", body)).json()

        named = await client.request("GET", "/sdk/models?ids=x,missing-y,z")
        rest = await client.request("GET", "/sdk/models?ids=x,missing-y,z&pageNumber=1")
        assert rest.json()["items"] == []
        return [await page(q="llm"), await page(pageNumber=1, pageSize=2), named.json(), await page(q=None)]

    found, second, named, everything = await asked(PLAIN, ask)
    assert ([item["id"] for item in found["items"]], found["total"]) == (["llm-a", "llm-c"], 2)
    assert ([item["id"] for item in second["items"]], second["total"]) == (["llm-c"], 3)
    assert [item["id"] for item in named["items"]] == ["x", "z"]
    assert everything["pageTotal"] == 3


async def test_deletions() -> None:
    async def ask(client: Client) -> list[int]:
        models = ("m", "missing-m", "kept-m")
        return [(await client.request("DELETE", f"{BASE}/sdk/models/{model}")).status for model in models]

    statuses, asides = await asked(PLAIN, ask, lambda simulator: simulator.asides())
    assert statuses == [200, 404, 403]
    assert [(aside.method, aside.status) for aside in asides] == [("DELETE", status) for status in statuses]


async def test_the_log_of_a_training() -> None:
    async def ask(client: Client) -> list[Response]:
        models = ("m", "epochs-2", "epochs-0", "missing")
        return [await client.request("GET", f"{BASE}/sdk/finetune/{model}/ml-logs") for model in models]

    plain, two, none, missing = await asked(PLAIN, ask)
    assert plain.json() == {
        "finetuneStatus": "in_progress",
        "modelStatus": "training",
        "logs": [
            {"epoch": 1.0, "trainLoss": 0.5, "evalLoss": None},
            {"epoch": 1.0, "trainLoss": None, "evalLoss": 0.6},
            {"epoch": 2.0, "trainLoss": 0.3, "evalLoss": 0.4},
        ],
    }
    assert [row["epoch"] for row in two.json()["logs"]] == [1.0, 1.0, 2.0, 2.0]
    assert (none.json()["logs"], missing.status) == ([], 404)


async def test_the_use_of_a_key() -> None:
    config = SimulatorConfig(
        limits=(ProviderLimit("requests", 5, 60.0), ProviderLimit("total_tokens", 100, 60.0)), output_tokens=6
    )

    async def ask(client: Client) -> Any:
        await run(client, "m")
        return (await client.request("GET", f"{BASE}/sdk/api-keys/usage-limits")).json()

    told = {"requestCount": 1, "requestCountLimit": 5, "tokenCount": 12, "tokenCountLimit": 100}
    assert await asked(config, ask) == [told]
    assert await asked(PLAIN, ask) == [told | {"requestCountLimit": None, "tokenCountLimit": None}]


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("PUT", "/sdk/models/m", 405, "GET, DELETE"),
        ("GET", "/api/v2/execute/m", 405, "POST"),
        ("POST", "/api/v1/data/x", 405, "GET"),
        ("GET", "/sdk/nothing", 404, None),
    ],
)
async def test_what_is_nowhere_or_takes_another_method(method: str, path: str, status: int, allow: str | None) -> None:
    answer = await asked(PLAIN, lambda client: client.request(method, BASE + path))
    assert (answer.status, answer.headers.get("allow"), list(answer.json())) == (status, allow, ["error"])


async def test_bodies_have_an_end_here_too() -> None:
    config = SimulatorConfig(max_body_bytes=10)
    paths = ("/sdk/models/paginate", "/api/v2/execute/m")
    for path in paths:
        answer = await asked(config, lambda client, path=path: client.request("POST", BASE + path, b"x" * 11))
        assert (answer.status, list(answer.json())) == (413, ["error"])
