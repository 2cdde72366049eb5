"""For tests of programs that use Penstock: a provider that follows a script, and a clock that never makes them wait.

    @in_virtual_time
    async def test_a_refusal_costs_two_seconds():
        provider = ScriptedProvider([error_reply(429, retry_after_s=2), "Paris"])
        async with scripted_engine(provider):
            assert await ask("What is the capital of France?") == "Paris"  # the function under test
        assert provider.times == [0.0, 2.1]

Everything but the network is the real thing. The pytest fixtures are in `engine.testing.fixtures`; nothing here needs
pytest, and nothing of `engine` may import this package.
"""

from engine.testing.provider import ScriptedConnection, ScriptedProvider, ScriptedTransport
from engine.testing.replies import FAULTS, FaultName, ProviderReply, Says, chat_reply, error_reply, fault
from engine.testing.script import Request, Script
from engine.testing.virtual import PATIENCE_S, assert_quiet, in_virtual_time, run_virtual, same_order, scripted_engine

__all__ = [
    "FAULTS",
    "PATIENCE_S",
    "FaultName",
    "ProviderReply",
    "Request",
    "Says",
    "Script",
    "ScriptedConnection",
    "ScriptedProvider",
    "ScriptedTransport",
    "assert_quiet",
    "chat_reply",
    "error_reply",
    "fault",
    "in_virtual_time",
    "run_virtual",
    "same_order",
    "scripted_engine",
]
