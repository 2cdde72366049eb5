"""What crosses the channels of a whole engine: nothing but encodings of the closed union, and bodies left untouched.

Every write into every mailbox is listened to while an engine runs calls that complete, fail, retry, are cancelled, and
find connections that break, and while its endpoint actor crashes. The clock is virtual.
"""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
import trio
from steered_transport import DONE, SteeredConnection, SteeredTransport
from trio.testing import MockClock

from actors import messages as ms
from actors.errors import ConnectFailed
from actors.mailbox import Mailbox
from actors.messages import APICalling, Fault, Reply
from actors.slots import ReplySlots
from actors.transport import Answer, Attempt
from engine import Engine, iModel, open_engine
from engine.providers.wire import Usage


class Tap:
    """Listens at every mailbox. `mail` is what was written to each, by the mailbox's name, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mail: dict[str, list[tuple[str, ms.Mail]]] = defaultdict(list)
        post, submit, deliver = Mailbox.post, Mailbox.submit, ReplySlots.deliver

        def tapped_post(mailbox: Mailbox, head: bytes, rest: bytes = b"") -> None:
            self.mail[mailbox.name].append(("control", (head, rest)))
            post(mailbox, head, rest)

        def tapped_submit(mailbox: Mailbox, head: bytes) -> None:
            self.mail[mailbox.name].append(("submit", (head, b"")))
            submit(mailbox, head)

        def tapped_deliver(slots: ReplySlots, call_id: int, mail: ms.Mail) -> None:
            self.mail["reply slots"].append(("control", mail))
            deliver(slots, call_id, mail)

        monkeypatch.setattr(Mailbox, "post", tapped_post)
        monkeypatch.setattr(Mailbox, "submit", tapped_submit)
        monkeypatch.setattr(ReplySlots, "deliver", tapped_deliver)


class Whims:
    """An exchange that does what the call's message says; what goes wrong goes wrong once for each call."""

    def __init__(self) -> None:
        self.met: set[int] = set()

    async def __call__(self, connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
        wish = json.loads(bytes(calling.body))["messages"][0]["content"]
        first = calling.call_id not in self.met
        self.met.add(calling.call_id)
        if wish == "break" and first:
            raise ConnectFailed("closed. Nothing was sent.")
        if wish == "dawdle":
            await trio.sleep_forever()
        attempt.begin()
        attempt.sent()
        await trio.sleep(0.1)
        if wish == "crash" and first:
            raise ZeroDivisionError
        if wish == "fail":
            return Answer("failed", "requests_kept", Reply(400, fault=Fault("Rejected", "no", status=400)), keep=True)
        if wish == "retry" and first:
            return Answer("retry", "kept", Reply(500, fault=Fault("ProviderUnavailable", "", status=500)), keep=True)
        if wish == "hang":
            await trio.sleep_forever()
        return DONE


async def run_everything(engine: Engine, model: iModel) -> dict[int, bytes]:
    """Runs calls of every kind, those that are cancelled last; the bodies that were encoded, by call."""
    calls = [
        model.create_api_calling(messages=[{"role": "user", "content": wish}], flow="a", priority=3, deadline_s=3000)
        for wish in ("answer", "fail", "retry", "break", "crash", "answer", "hang", "dawdle")
    ]
    bodies = {call.id: call.request.body for call in calls}
    async with engine.observe():
        for call in calls[:-2]:
            await engine.submit(call)
        await engine.wait_quiet()
        for call in calls[-2:]:
            await engine.submit(call)
            await trio.sleep(1)
            call.cancel()
        await engine.wait_quiet()
    return bodies


def test_every_item_on_every_channel_is_an_encoded_message_of_the_union(monkeypatch: pytest.MonkeyPatch) -> None:
    tap = Tap(monkeypatch)
    transport = SteeredTransport(Whims())
    model = iModel("someone", "http://127.0.0.1:9/v1", api_key="k", model="m", limit_requests=1000)

    async def main() -> dict[int, bytes]:
        with trio.fail_after(10_000):
            async with open_engine(transport=lambda account, on_usage: transport) as engine:
                return await run_everything(engine, model)

    bodies = trio.run(main, clock=MockClock(autojump_threshold=0))

    seen: set[str] = set()
    for mail in [one for written in tap.mail.values() for _, one in written]:
        for part in mail:
            assert type(part) is bytes, "actors share no objects"
        head = ms.decode.decode(mail[0])
        assert ms.encode(head) == mail[0], "the encoding is the message, neither more nor less"
        seen.add(type(head).__name__)
        if mail[1]:
            behind = ms.decode.decode(mail[1])
            assert isinstance(behind, APICalling if isinstance(head, ms.Grant) else Reply)
        if isinstance(head, ms.HookCall):
            assert isinstance(ms.decode.decode(head.ended), ms.Ended)
    # All of the union that an engine without handlers and without observed limits writes.
    assert seen == {
        *("APICalling", "OpenLane", "OpenEndpoint", "Ready", "Lost", "Unsent", "Sent", "Outcome", "Cancel", "Drain"),
        *("ConnectAttemptFailed", "Observe", "Watch", "Stop", "Wanted", "Grant", "Drop", "Ended", "HookEvent"),
    }
    check_the_bodies(tap, bodies, transport)


def check_the_bodies(tap: Tap, bodies: dict[int, bytes], transport: SteeredTransport) -> None:
    """Each grant carries the very bytes that were submitted, and the transport is handed the body inside them."""
    submitted: dict[int, bytes] = {}
    for _, (head, _) in tap.mail["scheduler"]:
        message = ms.decode.decode(head)
        if isinstance(message, APICalling):
            # A reader that waits is woken through the other band: then one write is listened to twice.
            assert submitted.setdefault(message.call_id, head) is head, "a call is encoded once"
            assert bytes(message.body) == bodies[message.call_id]
    grants = 0
    for name, written in tap.mail.items():
        for _, (head, rest) in written if name.startswith("endpoint") else ():
            message = ms.decode.decode(head)
            if isinstance(message, ms.Grant):
                grants += 1
                assert rest is submitted[message.call_id], "the same object: neither copied nor encoded again"
    assert grants > len(bodies), "some were granted again"
    assert {calling.call_id for calling in transport.callings} == set(bodies)
    for calling in transport.callings:
        assert bytes(calling.body) == bodies[calling.call_id]
        assert calling.body.obj is submitted[calling.call_id], "a view of what was submitted, not a copy"


def test_a_reply_reaches_its_call_in_the_very_bytes_the_worker_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    tap = Tap(monkeypatch)
    model = iModel("someone", "http://127.0.0.1:9/v1", api_key="k", model="m", limit_requests=1000)

    async def main() -> None:
        async with open_engine(transport=lambda account, on_usage: SteeredTransport(Whims())):
            call = await model.invoke(messages=[{"role": "user", "content": "answer"}])
            assert call.response == {"answer": 1}
            assert call.usage is None or isinstance(call.usage, Usage)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    replies = [rest for _, (head, rest) in tap.mail["scheduler"] if isinstance(ms.decode.decode(head), ms.Outcome)]
    delivered = [rest for _, (head, rest) in tap.mail["reply slots"] if isinstance(ms.decode.decode(head), ms.Ended)]
    assert len(replies) == len(delivered) == 1
    assert delivered[0] is replies[0]
