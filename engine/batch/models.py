"""Which model a line is for: by the name it gives, in the configuration's words or the providers', else the default.

One `iModel` for each name and endpoint, all in one lane but for those the configuration puts elsewhere. The limits of
the whole batch are quotas over all lanes, so they hold whatever the configuration says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from actors.limits import Quota
from engine.accounts import MAX_CONNECTIONS
from engine.batch.lines import CHAT
from engine.call import CallOptions
from engine.config import EngineConfig, LaneSection, ModelSection, SharedQuota
from engine.errors import InvalidCall, MissingKey, UsageError
from engine.imodel import iModel
from engine.providers.lookup import agent_row, resolve, split_model
from engine.usual_transports import check_installed

LANE: Final = "batch"
"""Where calls go whose model names no lane; a configuration may say more about it, as about any other."""

WAITING: Final = 1_000
"""So many calls wait behind those in flight: enough that no room stays unused, few enough to cost no memory."""


class Misuse(UsageError):
    """The batch as a whole cannot be run; nothing was sent."""


class BatchSettings(NamedTuple):
    """What is asked of a batch as a whole; a line's own words go before those that can stand in a line.

    `provider` and `base_url` are for names that `config` does not define. The limits are per `period_s`, over all
    models together; so is `concurrency`, how many calls may be in flight.
    """

    model: str | None = None
    provider: str | None = None
    base_url: str | None = None
    limit_requests: int | None = None
    limit_tokens: int | None = None
    period_s: float = 60.0
    concurrency: int | None = None
    ordered: bool = False
    deadline_s: float | None = None
    timeout_s: float | None = None
    on_unknown: Literal["fail", "retry"] = "fail"
    config: EngineConfig = EngineConfig()

    def check(self) -> None:
        """Refuse what cannot hold for any line.

        Raises:
          UsageError: a limit, a deadline, a timeout or an address is out of range; the message says which.
        """
        self.quotas()
        CallOptions(**self.defaults())
        if self.provider is not None or self.base_url is not None:
            resolve(self.provider or "openai", base_url=self.base_url)

    def quotas(self) -> tuple[Quota, ...]:
        """The limits of the whole batch."""
        asked = {"requests": self.limit_requests, "total_tokens": self.limit_tokens}
        return tuple(
            Quota(dimension, limit, self.period_s, name=f"{LANE} {dimension}")  # type: ignore[arg-type]  # both are one
            for dimension, limit in asked.items()
            if limit is not None
        )

    def engine_config(self) -> EngineConfig:
        """The configuration with the batch's own lane and limits in it."""
        lanes = {LANE: LaneSection(), **self.config.lanes}
        if self.concurrency is not None:
            lanes = {
                name: msgspec.structs.replace(
                    lane, concurrency_limit=min(self.concurrency, lane.concurrency_limit or self.concurrency)
                )
                for name, lane in lanes.items()
            }
        over_all = tuple(SharedQuota(quota, tuple(lanes)) for quota in self.quotas())
        return msgspec.structs.replace(self.config, lanes=lanes, quotas=(*self.config.quotas, *over_all))

    def buffer(self) -> int:
        """How many calls may be queued, in flight and not yet written together."""
        if self.concurrency is not None and self.config.lanes.keys() - {LANE}:
            # The lanes' own permits do not know of each other; what is never begun cannot be in flight.
            return self.concurrency
        return WAITING + min(self.concurrency or MAX_CONNECTIONS, MAX_CONNECTIONS)

    def defaults(self) -> dict[str, Any]:
        """What holds for a line that does not say otherwise, as fields of `CallOptions`."""
        said = {"deadline_s": self.deadline_s, "timeout_s": self.timeout_s, "on_unknown": self.on_unknown}
        return {name: value for name, value in said.items() if value is not None}


class Models:
    """The models of one batch, each made when a line first names it. `environ` is where keys are looked for."""

    def __init__(self, settings: BatchSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._found: dict[tuple[str, str], iModel | UsageError] = {}
        self._is_agent = settings.provider is not None and agent_row(settings.provider) is not None

    def find(self, name: str | None, endpoint: str = CHAT) -> iModel:
        """The model of that name; None is the default one.

        Raises:
          InvalidCall: no name, and no default.
          UnknownEndpoint, MissingKey, AgentNotInstalled: it cannot be used.
        """
        name = name or self._settings.model or ("" if self._is_agent else None)
        if name is None:
            raise InvalidCall(
                'no model: name one for all lines with --model, or in each line as "model". Nothing was sent.',
                argument="model",
            )
        found = self._found.get((name, endpoint))
        if found is None:
            found = self._found[name, endpoint] = self._make(name, endpoint)
        if isinstance(found, UsageError):
            # A fresh one each time: the traceback of one that is kept would grow with every line.
            raise found.with_traceback(None)
        return found

    def _make(self, name: str, endpoint: str) -> iModel | UsageError:
        settings = self._settings
        section = settings.config.models.get(name)
        provider = settings.provider if section is None else None
        agent = agent_row(split_model(name if section is None else section.model, provider)[0])
        # Of agents no more at once than is usual, since the lane that all lines share has no limit of its own.
        usual = agent.defaults.concurrency_limit if agent is not None else None
        connections = max(usual or MAX_CONNECTIONS, settings.concurrency or 0)
        try:
            if section is None:
                model = iModel(
                    settings.provider,
                    settings.base_url,
                    endpoint,
                    model=name,
                    lane=LANE,
                    max_connections=connections,
                )
            else:
                model = iModel(
                    None,
                    section.base_url,
                    endpoint,
                    self._key(name, section),
                    model=section.model,
                    lane=section.lane or LANE,
                    max_connections=connections,
                )
            if not model.model_name.strip() and agent is None:
                return InvalidCall(f"model: {name!r:.60} names a provider and no model of it", argument="model")
            check_installed(model.account().spec)
        except UsageError as error:
            return error
        return model

    def _key(self, name: str, section: ModelSection) -> str | None:
        if section.key_env is None:
            return None
        key = self._environ.get(section.key_env, "")
        if not key.strip():
            raise MissingKey(
                f"models.{name} has its key in {section.key_env}, which is not set. Nothing was sent.",
                variables=(section.key_env,),
            )
        return key
