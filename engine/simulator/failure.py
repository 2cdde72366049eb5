"""Why a request gets no answer of the kind it asked for, before that is put into the words of its provider.

The server and the readers of requests say what is wrong once, as a `Failure`; each provider's manner
(`engine.simulator.formats`) turns it into its own status, body and headers.

Pure: no trio, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from engine.simulator.limits import Refusal

Why: TypeAlias = Literal[
    "invalid", "key", "too_large", "limit", "concurrency", "injected", "server_error", "unavailable", "not_found",
    "method",
]  # fmt: skip


class Failure(NamedTuple):
    """What is wrong. `status` and `message` are those of a provider that has no others of its own, `code` and `param`
    OpenAI's. `wait_us` is when to come back, None where nobody knows; `refusal` is the limit's, if one refused;
    `identity` is that of the answer; and `details` are the faults one by one, where a provider lists them."""

    why: Why
    status: int
    message: str
    param: str | None = None
    code: str | None = None
    wait_us: int | None = None
    refusal: Refusal | None = None
    model: str = ""
    identity: str = ""
    details: Sequence[Mapping[str, Any]] = ()

    @property
    def never(self) -> bool:
        """Whether a limit says that the request can never be served."""
        return self.refusal is not None and self.refusal.wait_us is None


CRASH: Final = Failure("server_error", 500, "The server had an error while processing your request. (injected)")
OVERLOAD: Final = Failure(
    "unavailable", 503, "The requested model is overloaded. (injected)", code="server_is_overloaded"
)


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> Failure:
    """What is said of a request that is wrong."""
    return Failure("invalid", 400, message, param, code)
