"""How handlers are run, and what their results mean: the engine's side of the hook bus.

Before a call its handlers may replace or veto it, after it they may replace its outcome; none can lose it. Each is
bounded by its phase's timeout and the call's deadline; sync ones run in a thread, which is abandoned when its time is
up. A handler's failure is logged and, where the exit policy says so, the call's. A handler is not run for calls that it
makes itself: it would never end.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec
import trio

from actors import messages as ms
from actors.clock import now_us
from actors.hook_bus import Job
from actors.messages import Ended, Fault
from actors.slots import Progress, ReplySlot, ReplySlots
from engine.call import Call, Handled, within
from engine.errors import HandlerFailed, InvalidCall, Vetoed, one_line
from engine.hooks import DEFAULT_TIMEOUTS_S, Handler, HookEventTypes, HookOptions, HookRegistry
from engine.log import log
from engine.secret import masked

PRE_EVENT_CREATE, PRE_INVOCATION, POST_INVOCATION = HookEventTypes
_NO_OPTIONS = HookOptions()
Before: TypeAlias = tuple[tuple[HookEventTypes, Handler], ...]


class AnswerSlot(ReplySlot):
    """Where the answer of the handlers before a call is put: in the call's place, because it has not ended."""

    __slots__ = ("call", "cancelled", "key", "lane")

    def __init__(self, call: Call, key: int) -> None:
        super().__init__()
        self.call = call
        self.key = key
        self.cancelled = False
        self.lane = call.owner.lane_name


class HandlerTimeout(Exception):
    """A handler took longer than its phase allows."""


class _Result(NamedTuple):
    """What one handler returned, or what it raised. `stopped`: the call is not to be kept waiting any more."""

    value: Any = None
    failure: BaseException | None = None
    stopped: bool = False


_PASSED = _Result()


class Handlers:
    """The handlers of one engine's calls: its own and those of each call's model.

    Before a call the engine's come first, after it last. `invoke` sends a call and waits until it has ended.
    """

    def __init__(self, registry: HookRegistry, slots: ReplySlots, invoke: Callable[[Call], Awaitable[Call]]) -> None:
        self.registry = registry
        self._slots = slots
        self._invoke = invoke
        # No bound: a thread that hangs must not keep a later handler's from starting.
        self._threads = trio.CapacityLimiter(math.inf)

    def of(self, call: Call) -> Handled | None:
        """The handlers that are to be run for a call that is being submitted; None if there are none."""
        outer, inner = self.registry, call.owner.hook_registry
        before = _merged(outer.before, inner.before)
        after = inner.handlers(POST_INVOCATION) + outer.handlers(POST_INVOCATION)
        if around := within.get():
            above = [handler for _, handler in around]
            before = tuple((phase, handler) for phase, handler in before if handler not in above)
            after = tuple(handler for handler in after if handler not in above)
        if not before and not after:
            return None
        span_s = call.options.deadline_s
        deadline = math.inf if span_s is None else trio.current_time() + span_s
        return Handled(call, before, after, deadline, now_us())

    # --- for the hook bus ---

    def context(self, key: int) -> Context:
        """The submitter's context variables."""
        call = self._call(key)
        return call.handled.context if call is not None and call.handled is not None else Context()

    async def run(self, job: Job) -> ms.Mail:
        """Run the handlers before or after a call; see `actors.hook_bus.Handlers`."""
        call = self._call(job.key)
        handled = call.handled if call is not None else None
        if call is None or handled is None:
            return job.mail
        if job.ended:
            return await self._after(job, call, handled, job.mail)
        mail = await self._before(job, call, handled)
        return (ms.encode(ms.HookAnswer(call.id, mail[0])), mail[1])

    def _call(self, key: int) -> Call | None:
        """The call; None if whoever submitted it took it back before the bus came to it."""
        slot = self._slots.get(key)
        return slot.call if isinstance(slot, AnswerSlot) else cast("Call | None", slot)

    # --- the phases ---

    async def _before(self, job: Job, call: Call, handled: Handled) -> ms.Mail:
        """How the call has ended, encoded, with the reply; nothing if it may go."""
        waiting = deque(handled.before)
        while waiting:
            phase, handler = waiting[0]
            result = await self._run(job, call, handled, phase, handler)
            if result.stopped:
                return _too_late(call, handled)
            if result.failure is not None:
                log_failure(call, phase, handler, result.failure)
                if _is_veto(result.failure, phase) or _policy(call, phase):
                    handled.failure = result.failure
                    return _vetoed(call, handled, phase, handler)
            elif isinstance(result.value, Call) and result.value is not call:
                other, live = result.value, not result.value.over
                if other.progress is Progress.PENDING:
                    call.adopt(other)
                elif not await self._follow(job, handled, other):
                    return _too_late(call, handled)
                elif live and (not other.over or other.status == "cancelled"):
                    continue  # nothing came of it: the handler is asked again
                else:
                    call.adopt(other)
                    return await self._after(job, call, handled, _as_own(call, handled, other))
            waiting.popleft()
        return b"", b""

    async def _after(self, job: Job, call: Call, handled: Handled, mail: ms.Mail) -> ms.Mail:
        """The mail to deliver."""
        _show(job, call, mail)
        for handler in handled.after:
            result = await self._run(job, call, handled, POST_INVOCATION, handler)
            if result.stopped:
                break
            if result.failure is not None:
                log_failure(call, POST_INVOCATION, handler, result.failure)
                if not _policy(call, POST_INVOCATION) or call.status != "completed":
                    continue
                handled.failure = result.failure
                mail = _failed(mail, handler), mail[1]
            elif isinstance(result.value, Call) and result.value is not call and result.value.ended is not None:
                call.adopt(result.value)
                mail = _instead(mail, result.value)
            else:
                continue
            _show(job, call, mail)
        return mail

    async def _run(self, job: Job, call: Call, handled: Handled, phase: HookEventTypes, handler: Handler) -> _Result:
        """Run one handler. Never raises what it raised."""
        timeout_s, arguments = _bounds(call, phase)
        ends = trio.current_time() + timeout_s
        until = min(ends, handled.deadline)
        job.bound(until)
        token = within.set((*within.get(), (call, handler)))
        try:
            with trio.CancelScope(deadline=until) as job.scope:
                if _is_async(handler):
                    value = await handler(call, **arguments)
                else:
                    value = await self._in_thread(handler, call, **arguments)
                if isinstance(value, Call) and value is not call:
                    value = await self._settled(call, value, phase)
                if not job.over:
                    return _PASSED if value is None else _Result(value)
            if job.over or handled.deadline < ends:
                return _Result(stopped=True)
            return _Result(failure=HandlerTimeout(f"it took longer than {timeout_s:g} s"))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as failure:  # noqa: BLE001  # a handler's failure must not cost an answer
            _raise_what_is_not_its_own(failure)
            return _Result(failure=failure, stopped=job.over)
        finally:
            job.scope = None
            within.reset(token)

    async def _settled(self, call: Call, other: Call, phase: HookEventTypes) -> Call:
        """A call that a handler returned, fit to take the place of its own. Raises what is wrong with it."""
        if phase is POST_INVOCATION:
            return await (self._invoke(other) if other.progress is Progress.PENDING else other.wait())
        if other.progress is Progress.PENDING:
            _ = other.request  # raises for one that cannot be sent
        ahead: Call | None = other
        while ahead is not None:
            ahead = ahead.handled.follows if ahead.handled is not None else None
            if ahead is call:
                raise InvalidCall(f"call {call.id} and call {other.id} would wait for each other", call_id=call.id)
        return other

    async def _in_thread(self, handler: Handler, *args: Any, **kwargs: Any) -> Any:
        value = await trio.to_thread.run_sync(
            functools.partial(handler, *args, **kwargs), abandon_on_cancel=True, limiter=self._threads
        )
        return await value if inspect.isawaitable(value) else value

    async def _follow(self, job: Job, handled: Handled, leader: Call) -> bool:
        """Wait for the call that this one is to end with, until it has ended or was taken back; whether in time."""
        job.bound(handled.deadline)
        handled.follows = leader
        with trio.CancelScope(deadline=handled.deadline) as scope:
            job.scope = scope
            while not leader.over and leader.progress is not Progress.PENDING:
                await leader.wait_moved()
        job.scope = handled.follows = None
        return not scope.cancelled_caught and not job.over

    # --- streams ---

    def of_chunks(self, call: Call, process: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
        """What every chunk of a stream goes through: its handlers, else `process`, if there are any."""
        registries = [one for one in (self.registry, call.owner.hook_registry) if one.streams]
        if not registries:
            return process
        return functools.partial(self._process, call, registries, process)

    async def _process(
        self, call: Call, registries: list[HookRegistry], process: Callable[[Any], Any] | None, chunk: Any
    ) -> Any:
        handled = False
        for registry in registries:
            found = registry.handlers_of_chunk(chunk)
            if found is None:
                continue
            handled = True
            for handler in found[1]:
                chunk = await self._handle_chunk(call, found[0], handler, chunk)
        if handled or process is None:
            return chunk
        value = process(chunk)
        return await value if inspect.isawaitable(value) else value

    async def _handle_chunk(self, call: Call, kind: type | str, handler: Handler, chunk: Any) -> Any:
        exit_policy = call.owner.exit_hook
        failure: BaseException | None = None
        token = within.set((*within.get(), (call, handler)))
        try:
            with trio.move_on_after(DEFAULT_TIMEOUTS_S[POST_INVOCATION]) as scope:
                run = handler if _is_async(handler) else functools.partial(self._in_thread, handler)
                value = await run(call, kind, chunk, exit=exit_policy)
                return chunk if value is None else value
            if scope.cancelled_caught:
                failure = HandlerTimeout(f"it took longer than {DEFAULT_TIMEOUTS_S[POST_INVOCATION]:g} s")
        except Exception as error:  # noqa: BLE001  # as above
            failure = error
        finally:
            within.reset(token)
        log_failure(call, "stream", handler, cast(BaseException, failure))
        if exit_policy:
            raise HandlerFailed(
                f"the stream handler {name_of(handler)} failed: {_said(failure)}; the stream was given up",
                call_id=call.id,
            ) from failure
        return chunk


def _show(job: Job, call: Call, mail: ms.Mail) -> None:
    """Let an outcome be looked at, and be delivered whenever the handlers' time is up."""
    call.show(mail)
    job.mail = mail if job.ended else (ms.encode(ms.HookAnswer(call.id, mail[0])), mail[1])
    job.settled = True


def log_failure(call: Call, phase: str, handler: Handler, failure: BaseException) -> None:
    """Say that a handler failed, whatever becomes of its call."""
    log.warning("handler failed", phase=str(phase), handler=name_of(handler), call=call.id, error=_said(failure))


def _merged(outer: Before, inner: Before) -> Before:
    """The handlers before a call: phase by phase, the outer ones first."""
    if not outer or not inner:
        return outer or inner
    return tuple(sorted((*outer, *inner), key=lambda one: one[0] is PRE_INVOCATION))


def _bounds(call: Call, phase: HookEventTypes) -> tuple[float, dict[str, Any]]:
    """How long a handler may take, and what it is given by name."""
    if call.options.hook_options is None:
        return DEFAULT_TIMEOUTS_S[phase], {"exit": call.owner.exit_hook}
    options = call.options.hook_options.get(phase, _NO_OPTIONS)
    timeout_s = options.timeout_s if options.timeout_s is not None else DEFAULT_TIMEOUTS_S[phase]
    return timeout_s, {**options.params, "exit": _policy(call, phase)}


def _policy(call: Call, phase: HookEventTypes) -> bool:
    options = (call.options.hook_options or {}).get(phase, _NO_OPTIONS)
    return options.exit if options.exit is not None else call.owner.exit_hook


def _is_veto(failure: BaseException, phase: HookEventTypes) -> bool:
    return phase is PRE_INVOCATION or isinstance(failure, Vetoed)


@functools.lru_cache(1024)
def _is_async_function(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


def _is_async(handler: Handler) -> bool:
    try:
        return _is_async_function(handler)
    except TypeError:  # it cannot be hashed
        return _is_async_function.__wrapped__(handler)


def _raise_what_is_not_its_own(failure: BaseException) -> None:
    """What a group holds besides a handler's own failures: a cancellation, or the end of the program."""
    cancelled = trio.current_effective_deadline() == -math.inf  # else it is an old one, kept from another scope
    if isinstance(failure, trio.Cancelled) and cancelled:
        raise failure
    if isinstance(failure, BaseExceptionGroup):
        rest = failure.subgroup((KeyboardInterrupt, SystemExit, *((trio.Cancelled,) if cancelled else ())))
        if rest is not None:
            raise rest


def name_of(handler: Callable[..., Any]) -> str:
    """What a handler is called in messages."""
    return getattr(handler, "__qualname__", None) or type(handler).__name__


def _said(failure: BaseException | None) -> str:
    try:
        text = str(failure)
    except Exception:  # noqa: BLE001  # what a handler raised may not even be able to say what it is
        text = "(it cannot be shown)"
    return one_line(masked(f"{type(failure).__name__}: {text}"), 300)


def _ended(call: Call, handled: Handled, status: ms.Status, fault: Fault) -> ms.Mail:
    at_us = now_us()
    return ms.encode(Ended(call.id, status, 0, handled.submitted_us, -1, -1, at_us, fault=fault)), b""


def _vetoed(call: Call, handled: Handled, phase: HookEventTypes, handler: Handler) -> ms.Mail:
    text = f"the {phase.value} handler {name_of(handler)} refused the call: {_said(handled.failure)}; nothing was sent"
    return _ended(call, handled, "aborted", Fault("Vetoed", text))


def _too_late(call: Call, handled: Handled) -> ms.Mail:
    text = "the deadline passed while the handlers before the call ran; nothing was sent"
    return _ended(call, handled, "failed", Fault("DeadlineExceeded", text))


def _failed(mail: ms.Mail, handler: Handler) -> bytes:
    """The end of a completed call that a handler made fail."""
    text = f"the post_invocation handler {name_of(handler)} failed, and the call with it, as its exit policy says"
    fault = Fault("HandlerFailed", f"{text}; the answer is still on the call, and was paid for")
    return ms.encode(msgspec.structs.replace(ms.decode_ended.decode(mail[0]), status="failed", fault=fault))


def _as_own(call: Call, handled: Handled, other: Call) -> ms.Mail:
    """Another call's outcome as this one's, for which nothing was sent."""
    ended, reply = cast(Ended, other.ended), cast(ms.Mail, other.mail)[1]
    times = {"submitted_us": handled.submitted_us, "granted_us": -1, "sent_us": -1, "ended_us": now_us()}
    return ms.encode(msgspec.structs.replace(ended, call_id=call.id, attempts=0, **times)), reply


def _instead(mail: ms.Mail, other: Call) -> ms.Mail:
    """Another call's outcome in place of this one's, whose attempts and times stay its own."""
    own, ended, reply = ms.decode_ended.decode(mail[0]), cast(Ended, other.ended), cast(ms.Mail, other.mail)[1]
    changed = {"status": ended.status, "gave_up": ended.gave_up, "fault": ended.fault}
    return ms.encode(msgspec.structs.replace(own, **changed)), reply
