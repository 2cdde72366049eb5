"""`iModelManager`: models by name, as a program uses several; and those that a configuration file names.

It holds models and nothing else: no loop, no limits of its own. A name stands for one model at a time. Models of the
configuration share lanes by their names, with the numbers that stand there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TypeVar

from engine.config import EngineConfig, LaneSection, ModelSection, parse_config
from engine.errors import MissingKey, UsageError
from engine.imodel import iModel
from engine.transports.files import read_text

Self = TypeVar("Self", bound="iModelManager")


class NoSuchModel(UsageError, KeyError):
    """No model of that name was registered."""


class iModelManager(Mapping[str, iModel]):  # noqa: N801  # the name its users know
    """Models by name.

        models = iModelManager(chat=iModel(model="gpt-4o"), parse=iModel(model="gpt-4o-mini"))
        await models.chat.invoke(messages=[...])

    Args:
      *models: models that are called what their endpoint is: ``chat``, ``embed``, ...
      **named: models under names of your own.

    Raises:
      UsageError: something is no model, or two models would have one name.
    """

    def __init__(self, *models: iModel, **named: iModel) -> None:
        self._models: dict[str, iModel] = {}
        for model in models:
            name = _checked(model).endpoint.spec.endpoint
            if name in self._models or name in named:
                raise UsageError(f"two models would be called {name!r}; give them names: iModelManager(small=..., ...)")
            self._models[name] = model
        for name, model in named.items():
            self.register_imodel(name, model)

    @classmethod
    async def from_config(cls: type[Self], config: str | os.PathLike[str] | EngineConfig) -> Self:
        """The models of a configuration, given as the path of a file or parsed: see `models_of`.

        Raises:
          UsageError: the file cannot be read, or is no configuration. MissingKey: as `models_of`.
        """
        if isinstance(config, EngineConfig):
            return cls(**models_of(config))
        if not isinstance(config, str | os.PathLike):
            raise UsageError(f"config is the path of a TOML file or an EngineConfig, not {type(config).__name__}")
        path = os.fspath(config)
        return cls(**models_of(parse_config(await read_text(path), path)))

    def register_imodel(self, name: str, model: iModel) -> None:
        """Put a model under a name, in place of the one that had it."""
        given: object = name
        if not isinstance(given, str) or not given:
            raise UsageError(f"a model's name is a text that is not empty, not {given!a:.60}")
        self._models[name] = _checked(model)

    @property
    def chat(self) -> iModel:
        """The model called ``chat``. Raises `UsageError` if there is none."""
        return self["chat"]

    @property
    def parse(self) -> iModel:
        """The model called ``parse``. Raises `UsageError` if there is none."""
        return self["parse"]

    def __getitem__(self, name: str) -> iModel:
        try:
            return self._models[name]
        except KeyError:
            raise NoSuchModel(f"there is no model {name!a:.60}; there are: {', '.join(self._models)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def __repr__(self) -> str:
        return f"<iModelManager: {', '.join(f'{name}={model!r}' for name, model in self._models.items())}>"

    async def shutdown(self) -> None:
        """Close every model; the first failure is raised after all were closed. They can be used again."""
        failures = []
        for model in dict.fromkeys(self._models.values()):
            try:
                await model.close()
            except Exception as error:  # noqa: BLE001  # raised below
                failures.append(error)
        if failures:
            raise failures[0]

    async def __aenter__(self: Self) -> Self:
        """Use the models; leaving the block closes them."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.shutdown()


def models_of(config: EngineConfig) -> dict[str, iModel]:
    """The models that a configuration names, by their names.

    Each says the numbers of its lane as they stand in the configuration, so that these hold in an engine opened with it
    and in any other. Quotas over several lanes (``[[quotas]]``) hold only in an engine opened with it.

    Raises:
      MissingKey: a variable that a model's `key_env` names is not set.
      UnknownEndpoint: a model is of no provider that is known.
    """
    return {name: _model(name, section, config) for name, section in config.models.items()}


def _model(name: str, section: ModelSection, config: EngineConfig) -> iModel:
    key = None
    if section.key_env is not None:
        key = os.environ.get(section.key_env, "")
        if not key.strip():
            raise MissingKey(
                f"models.{name} has its key in {section.key_env}, which is not set. Nothing was sent.",
                variables=(section.key_env,),
            )
    if section.lane is None:
        return iModel(base_url=section.base_url, api_key=key, model=section.model)
    lane = config.lanes.get(section.lane, LaneSection())
    return iModel(
        base_url=section.base_url,
        api_key=key,
        model=section.model,
        lane=section.lane,
        quotas=lane.quotas,
        queue_capacity=lane.queue_capacity,
        concurrency_limit=lane.concurrency_limit,
        ageing_s=lane.ageing_s,
        weights=lane.weights,
        limits=lane.limits,
        interval=lane.interval_s,
    )


def _checked(model: object) -> iModel:
    if not isinstance(model, iModel):
        raise UsageError(f"a manager holds models made by iModel, not {type(model).__name__}")
    return model
