"""aiXplain's SDK and our client at one simulated platform: the same orders, what each asked, what each was told.

Each side has a simulator of its own with the same seed, behind a `Recorder`: it keeps every request, and names each
after its path, so that both sides are answered alike. An order is one of `aixplain_side`; ours are carried out here. A
scenario is a few orders about one model, whose identifier has the scenario's tag: by that its requests are known.
"""

from __future__ import annotations

import copy
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from aixplain_side import MADE, last_url, told

from engine import open_engine
from engine.clients.aixplain import LLM, Function, Model, ModelFactory
from engine.simulator import FaultRates, Simulator, SimulatorConfig, serve

KEY = "key-of-the-test-0123456789"
SIDE = Path(__file__).with_name("aixplain_side.py")
CONFIG = SimulatorConfig(key=KEY, output_tokens=6, faults=FaultRates(stream_at=2))
ATTEMPTS = 2
"""How often ours tries: once more, which is enough to be seen."""

Order = dict[str, Any]


class Request(NamedTuple):
    """One request as it arrived; `keys` are ``x-api-key`` and ``authorization``, each None where it is missing."""

    method: str
    path: str
    keys: tuple[str | None, str | None]
    host: str
    body: bytes

    @property
    def sent(self) -> Any:
        """What the body says; of one that is no JSON, its text."""
        try:
            return json.loads(self.body) if self.body else None
        except ValueError:
            return self.body.decode()


class Recorder:
    """A relay before a simulator that keeps the requests; answers pass as they are."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self.requests: list[Request] = []

    async def relay(self, client: trio.SocketStream) -> None:
        """Serve one connection."""
        try:
            async with (
                client,
                await trio.open_tcp_stream("127.0.0.1", self._behind) as server,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._back, server, client, nursery.cancel_scope)
                await self._forth(client, server)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # one of them is gone, and the other will see it

    async def _forth(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        held = b""
        async for data in client:
            held += data
            while b"\r\n\r\n" in held:
                head, _, rest = held.partition(b"\r\n\r\n")
                lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"x-penstock-")]
                fields = {
                    name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])
                }
                size = int(fields.get(b"content-length", b"0"))
                if len(rest) < size:
                    break
                body, held = rest[:size], rest[size:]
                method, path, _ = lines[0].decode().split(" ")
                keys = [value and value.decode() for value in map(fields.get, (b"x-api-key", b"authorization"))]
                self.requests.append(Request(method, path, (keys[0], keys[1]), fields[b"host"].decode(), body))
                await server.send_all(b"\r\n".join([*lines, b"x-penstock-call: " + path.encode()[-99:], b"", body]))

    @staticmethod
    async def _back(server: trio.SocketStream, client: trio.SocketStream, both: trio.CancelScope) -> None:
        async for data in server:
            await client.send_all(data)
        both.cancel()


@asynccontextmanager
async def recorded() -> AsyncIterator[tuple[str, Recorder]]:
    """The address of a simulated platform, and what records who asks there."""
    async with trio.open_nursery() as nursery:
        simulator: Simulator = await nursery.start(serve, CONFIG)
        recorder = Recorder(simulator.port)
        listeners = await nursery.start(partial(trio.serve_tcp, recorder.relay, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        yield simulator.address("aixplain").replace(str(simulator.port), str(port)), recorder
        nursery.cancel_scope.cancel()


class Scenario(NamedTuple):
    """Orders about one model; `words` begin its identifier. `polls` says that each side polls as often as it can."""

    name: str
    words: str
    orders: list[Order]
    polls: bool = False


class Side(NamedTuple):
    """What one side made of a scenario: its requests, and what came of each order."""

    requests: list[Request]
    results: list[Any]


def tagged(scenarios: list[Scenario]) -> Iterator[tuple[str, list[Order]]]:
    """The tag of each scenario, and its orders with the model in them."""
    for number, scenario in enumerate(scenarios):
        tag = f"x{number:03d}"
        model = f"{scenario.words}-{tag}" if scenario.words else tag
        text = json.dumps(scenario.orders).replace("MODEL", model).replace("TAG", tag)
        yield tag, [{"model": model, **order} for order in json.loads(text)]


async def by_the_sdk(orders: list[Order], address: str, folder: Path) -> list[Any]:
    """What the SDK makes of orders, in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("API_KEY")}
    process = await trio.run_process(
        [sys.executable, str(SIDE)],
        stdin=json.dumps(orders).encode(),
        capture_stdout=True,
        capture_stderr=True,
        cwd=folder,
        env={
            **kept,
            **environment(address),
            "AIXPLAIN_ALLOW_INSECURE_URLS": "1",
            "HOME": str(folder),
            "LOG_LEVEL": "CRITICAL",
        },
    )
    found: list[Any] = json.loads(process.stdout)
    return found


def environment(address: str) -> dict[str, str]:
    """What names the platform and the key."""
    # The SDK leaves the path of its platform's address out, so there is none.
    return {
        "BACKEND_URL": address.removesuffix("/aixplain"),
        "MODELS_RUN_URL": f"{address}/api/v1/execute",
        "TEAM_API_KEY": KEY,
    }


async def by_us(orders: list[Order]) -> list[Any]:
    """What ours makes of orders, one after the other."""
    results: list[Any] = []
    for order in orders:
        arguments = {name: last_url(results) if value == "@" else value for name, value in order["arguments"].items()}
        before = copy.deepcopy(arguments)
        try:
            result = await _do({**order, "arguments": arguments})
        except Exception as error:  # noqa: BLE001  # whatever it raises is what is wanted
            result = {"raised": f"{type(error).__name__}: {error}"}
        if isinstance(result, dict) and order["do"].startswith("run"):
            result["changed"] = arguments != before
        results.append(json.loads(json.dumps(result)))
    return results


async def _do(order: Order) -> Any:
    action, identity, arguments = order["do"], order["model"], order["arguments"]
    if action == "get":
        found = await ModelFactory.get(**arguments, compat="0.2.48")
        return [[type(found).__name__, *(getattr(found, name, None) for name in MADE)]]
    options: dict[str, Any] = {
        "supports_streaming": order.get("streams", True),
        "compat": "0.2.48",
        "settings": {"max_attempts": ATTEMPTS},
    }
    if order.get("as") == "LLM":
        model: Model = LLM(identity, "m", function=Function.TEXT_GENERATION, **options)
    else:
        model = Model(identity, "m", function=Function.TRANSLATION, **options)
    if action == "to_dict":
        return sorted(model.to_dict())
    if action == "run_stream" or arguments.get("stream"):
        streamer = model.run_stream(**arguments) if action == "run_stream" else await model.run(**arguments)
        async with streamer:
            chunks = [chunk async for chunk in streamer]
        said = [[chunk.status.value, chunk.data] for chunk in chunks]
        error = chunks[-1].error_message if chunks else ""
        return {"chunks": said, "status": streamer.status.value, "broken": "", "error": error}
    result = await getattr(model, action)(**arguments)
    if action == "check_finetune_status":
        return [result.status.value, result.epoch, result.training_loss, result.validation_loss]
    return result and told(result)


async def _ours(scenarios: list[Scenario], address: str) -> dict[str, list[Any]]:
    """What ours makes of all of them; the requests of different scenarios overlap."""
    found: dict[str, list[Any]] = {}
    rows = list(zip(scenarios, tagged(scenarios), strict=True))
    together, alone = ([row for scenario, row in rows if scenario.polls is polls] for polls in (False, True))

    async def one(tag: str, orders: list[Order]) -> None:
        found[tag] = await by_us(orders)

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AIXPLAIN_API_KEY", raising=False)
        for name, value in environment(address).items():
            patch.setenv(name, value)
        async with open_engine():
            async with trio.open_nursery() as nursery:
                for tag, orders in together:
                    nursery.start_soon(one, tag, orders)
            for tag, orders in alone:  # all polls of a key share one limit, and these are short of time
                await one(tag, orders)
    return found


def _of_tags(tags: list[str], requests: list[Request]) -> dict[str, list[Request]]:
    return {
        tag: [request for request in requests if tag in request.path or tag.encode() in request.body] for tag in tags
    }


async def both_sides(scenarios: list[Scenario], folder: Path) -> dict[str, tuple[Side, Side]]:
    """By scenario, what the SDK made of it, and what ours made of it. Addresses are told without their ports."""
    tags = list(tagged(scenarios))
    names = [tag for tag, _ in tags]
    sides: list[dict[str, Side]] = []
    with trio.fail_after(100):
        async with recorded() as (address, recorder):
            orders = [order for _, several in tags for order in several]
            results = iter(_portless(await by_the_sdk(orders, address, folder)))
            asked = _of_tags(names, recorder.requests)
            sides.append({tag: Side(asked[tag], [next(results) for _ in several]) for tag, several in tags})
        async with recorded() as (address, recorder):
            ours = await _ours(scenarios, address)
            asked = _of_tags(names, recorder.requests)
            sides.append({tag: Side(asked[tag], _portless(ours[tag])) for tag in names})
    return {scenario.name: (sides[0][tag], sides[1][tag]) for scenario, tag in zip(scenarios, names, strict=True)}


def _portless(value: Any) -> Any:
    return json.loads(re.sub(r"(http://(?:127\.0\.0\.1|localhost)):\d+", r"\1", json.dumps(value)))


def facts(side: Side, scenario: Scenario) -> dict[str, Any]:
    """What a side made of a scenario, fact by fact: what it `asked` (with which keys, saying what), how many `times`
    one after the other, and of each order what came of it."""
    asked: list[tuple[Any, ...]] = []
    times: list[int] = []
    for request in side.requests:
        about = (f"{request.method} {request.path}", request.keys, request.sent)
        if asked and asked[-1] == about:
            times[-1] += 1
        else:
            asked.append(about)
            times.append(1)
    found: dict[str, Any] = {"asked": asked, "times": times}
    if scenario.polls:  # how often is a matter of chance and of time
        found["times"] = ["once" if count == 1 else "on" for count in times]
    for number, result in enumerate(side.results):
        found.update(_said(number, result))
    if scenario.polls and found.get("0.status") == "FAILED":
        found.pop("0.url", None)  # told where the time was up between two polls
    return found


def _said(number: int, result: Any) -> dict[str, Any]:
    if not isinstance(result, Mapping):
        return {f"{number}": result}
    said = {f"{number}.{name}": value for name, value in result.items() if name != "chunks"}
    if "chunks" in result:
        said[f"{number}.text"] = "".join(str(text) for _, text in result["chunks"])
    return said


def compared(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The facts of two sides that differ. Where one has raised, that stands against the status of the other, or all of
    it, and nothing else is compared."""
    pairs = {name: (theirs.get(name), ours.get(name)) for name in {**theirs, **ours}}
    for name in [name for name in pairs if name.endswith(".raised")]:
        number = name.partition(".")[0]
        words = [side.get(name, side.get(f"{number}.status", side.get(number))) for side in (theirs, ours)]
        pairs = {fact: pair for fact, pair in pairs.items() if fact.partition(".")[0] != number}
        pairs[name] = (words[0], words[1])
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
