"""What a model's arguments say of its lane: its limits as quotas, its queue, its permits, its flows.

Said in the words of the seed systems (`limit_requests`, `interval`, ...); where nothing is said, what the provider
publishes for everybody holds. What is wrong is refused with a sentence that names the argument.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from actors.limits import Quota, is_count, is_number
from engine.accounts import LaneDescription
from engine.config import Seconds, fault_in, weight_fault
from engine.errors import UsageError, one_line
from engine.providers.catalogue import Defaults

_SHORT_WINDOW_S = 1.0


Given = TypeVar("Given")


def check_count(name: str, value: Given) -> Given:
    """The value, if it is a whole number of at least 1, or None where that may be."""
    if value is not None and not is_count(value):
        raise UsageError(f"{name} must be a whole number of at least 1, not {one_line(ascii(value), 80)}")
    return value


def lane_of(
    name: str | None,
    own_name: str,
    quotas: tuple[Quota, ...],
    defaults: Defaults,
    *,
    queue_capacity: int | None,
    concurrency_limit: int | None,
    ageing_s: object,
    weights: object,
    learn_s: float | None,
) -> LaneDescription:
    """The lane of this name, or one of its own called `own_name`, where `defaults` hold for what was not said.

    A lane that is named may say itself what the model does not.
    """
    check_count("queue_capacity", queue_capacity)
    check_count("concurrency_limit", concurrency_limit)
    return LaneDescription(
        name=name or own_name,
        quotas=(quotas or None) if name else quotas,
        queue_capacity=queue_capacity,
        concurrency_limit=concurrency_limit if name else (concurrency_limit or defaults.concurrency_limit),
        ageing_s=_ageing(ageing_s),
        weights=_weights(weights),
        learn_s=learn_s,
        published=not name and learn_s is None,
    )


def quotas_of(
    limit_requests: int | None,
    limit_tokens: int | None,
    interval: float | None,
    capacity_refresh_time: float,
    further: tuple[Quota, ...],
    *,
    warn: bool,
) -> tuple[Quota, ...]:
    """The limits that were said, as quotas. `warn`: of a window so short that something else may have been meant."""
    name, period_s = "capacity_refresh_time", capacity_refresh_time
    if interval is not None:
        name, period_s = "interval", interval
    if not is_number(period_s) or not 1e-6 <= period_s <= 366 * 86_400:
        raise UsageError(f"{name} must be seconds between 1e-6 and a year, not {period_s!r}")
    check_count("limit_requests", limit_requests)
    check_count("limit_tokens", limit_tokens)
    quotas: list[Quota] = []
    if limit_requests is not None:
        quotas.append(Quota("requests", limit_requests, period_s))
    if limit_tokens is not None:
        quotas.append(Quota("total_tokens", limit_tokens, period_s))
    if warn and quotas and interval is not None and interval < _SHORT_WINDOW_S:
        warnings.warn(
            f"interval={interval} is the window the limits count in, not how often the queue is looked at; leave it "
            "out for limits of a minute",
            stacklevel=4,  # who made the model
        )
    quotas.extend(_checked(quota) for quota in further)
    return tuple(quotas)


def learn_s_of(limits: object, interval_s: float) -> float | None:
    """The window in which limits are to be learned, if they are."""
    if limits not in (None, "learn"):
        raise UsageError(f'limits is "learn" or left out, not {limits!a:.80}; quotas= and limit_requests= state limits')
    return interval_s if limits else None


def _ageing(ageing_s: object) -> float | None:
    if ageing_s is None:
        return None
    if fault := fault_in(ageing_s, Seconds):
        raise UsageError(f"ageing_s, in seconds, {fault}")
    return msgspec.convert(ageing_s, Seconds)


def _weights(weights: object) -> tuple[tuple[str, int], ...] | None:
    if weights is None:
        return None
    if not isinstance(weights, Mapping):
        raise UsageError(f'weights= maps flows to their weights, like {{"tenant-a": 3}}; not {type(weights).__name__}')
    for flow, weight in weights.items():
        if fault := weight_fault(flow, weight):
            raise UsageError(f"weights[{flow!a:.80}] {fault}")
    return tuple(sorted(weights.items()))


def _checked(quota: object) -> Quota:
    if not isinstance(quota, Quota):
        raise UsageError(f"quotas= holds Quota objects, not {type(quota).__name__}")
    return quota
