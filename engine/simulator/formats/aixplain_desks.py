"""What aiXplain answers besides runs: polls, records of models, deletions, the log of a training, the use of a key.

Polls and the log of a training take the key as ``x-api-key``, the others as ``Authorization: Token``. A poll is in vain
as often as the model's identifier says (`aixplain_ids`), then tells what the run came to; it may be asked again. Every
identifier has a record but those with the word ``missing``; a ``kept`` one cannot be deleted, and a deletion changes
nothing. Shapes from the SDK 0.2.48, as of 2026-11-27; the record is the least that it reads.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import parse_qs

from engine.simulator.chat import read_object
from engine.simulator.failure import Failure
from engine.simulator.formats.aixplain import bearer, job_named, last_answer
from engine.simulator.formats.aixplain_ids import behaviour_of
from engine.simulator.formats.desk import Asked, Desk, House
from engine.simulator.formats.manner import HeadersSeen, header
from engine.simulator.reply import Answer, encode

PAGE: Final = 20
_HTML: Final = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"
_TOKEN: Final = b"Token "
_TRAINING: Final = ((1.0, 0.5, None), (1.0, None, 0.6), (2.0, 0.3, 0.4))


class Poll(Desk):
    """``/api/v1/data/{job}`` and the same at v2."""

    def credential(self, headers: HeadersSeen) -> bytes:
        return bearer(headers)

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        job = job_named(asked.name)
        if job is None:
            return Failure("not_found", 404, "There is no such job.")
        said, number = behaviour_of(job.model), asked.number
        if said.poll_status and (not said.poll_times or number <= said.poll_times):
            if said.poll_status == 200:
                return Answer(200, [(b"content-type", b"text/html; charset=utf-8")], _HTML)
            wait_us = 1_000_000 if said.poll_status == 429 else None
            text = f"The poll is answered {said.poll_status}. (simulated)"
            return Failure("unavailable", said.poll_status, text, wait_us=wait_us)
        if number - said.poll_times <= (1 if said.polls is None else said.polls):
            return _told({"completed": False, "status": "IN_PROGRESS"})
        text = house.text(int(job.identity, 16), job.cost.output_tokens)
        return _told(last_answer(job, text, said, polled=True))


class Platform(Desk):
    """What the platform's own paths have in common."""

    def credential(self, headers: HeadersSeen) -> bytes:
        shown = header(headers, b"authorization")
        return b"Bearer " + shown.removeprefix(_TOKEN) if shown.startswith(_TOKEN) else b""

    def error(self, failure: Failure) -> object:
        return {"statusCode": failure.status, "message": failure.message}


class Record(Platform):
    """``/sdk/models/{model}`` and ``/sdk/models/by-name/{name}``."""

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        return _missing(asked.name) or _told(_record(asked.name))


class Deletion(Platform):
    """A ``DELETE`` of ``/sdk/models/{model}``."""

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        if behaviour_of(asked.name).record == "kept":
            return Failure("invalid", 403, "You are not the owner of this model.")
        return _missing(asked.name) or _told({"id": asked.name})


class ModelPage(Platform):
    """``/sdk/models/paginate``: a page of the models of the configuration whose identifiers have ``q`` in them."""

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        arguments = read_object(asked.body)
        if isinstance(arguments, Failure):
            return arguments
        query, number, size = (arguments.get(name) for name in ("q", "pageNumber", "pageSize"))
        found = [model for model in house.models if not isinstance(query, str) or query in model]
        start, many = (value if type(value) is int and value >= 0 else None for value in (number, size))
        many = PAGE if many is None else many
        page = found[(start or 0) * many :][:many]
        return _told({**_items(page), "total": len(found), "pageNumber": start or 0})


class ModelsNamed(Platform):
    """``/sdk/models?ids=a,b``: all on the first page; a ``pageNumber`` asks for those that follow, which are none."""

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        query = parse_qs(asked.query)
        names = ",".join(query.get("ids", [])).split(",")
        found = [name for name in names if name and behaviour_of(name).record != "missing"]
        return _told({**_items(found if query.get("pageNumber", ["0"]) == ["0"] else []), "total": len(found)})


class TrainingLog(Platform):
    """``/sdk/finetune/{model}/ml-logs``: by ``epochs-N`` so many epochs, two rows each."""

    def credential(self, headers: HeadersSeen) -> bytes:
        return bearer(headers)

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        count = behaviour_of(asked.name).epochs
        rows: Iterable[tuple[float, float | None, float | None]] = _TRAINING
        if count is not None:
            epochs = range(1, count + 1)
            rows = [row for n in epochs for row in ((float(n), 1 / n, None), (float(n), None, 2 / n))]
        logs = [{"epoch": epoch, "trainLoss": train, "evalLoss": held} for epoch, train, held in rows]
        told = {"finetuneStatus": "in_progress", "modelStatus": "training", "logs": logs}
        return _missing(asked.name) or _told(told)


class KeyUse(Platform):
    """``/sdk/api-keys/usage-limits``: the limits with the least room left, and how full they are."""

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        totals = house.statistics()
        used = {"request": totals.accepted, "token": totals.input_tokens + totals.output_tokens}
        told: dict[str, int | None] = {}
        for name, count in used.items():
            stands = house.limits.standing(house.now.at_us, f"{name}s")
            told[f"{name}Count"] = count if stands is None else stands.limit - stands.remaining
            told[f"{name}CountLimit"] = None if stands is None else stands.limit
        return _told([told])


def _told(value: object) -> Answer:
    return Answer(200, [], encode(value))


def _missing(model: str) -> Failure | None:
    if behaviour_of(model).record != "missing":
        return None
    return Failure("not_found", 404, "There is no such model.")


def _items(models: list[str]) -> dict[str, Any]:
    return {"items": [_record(model) for model in models], "pageTotal": len(models)}


def _record(model: str) -> dict[str, Any]:
    """The record of a model: a language model with a temperature, or one that translates."""
    said = behaviour_of(model)
    least = {"required": False, "values": [], "availableOptions": []}
    temperature = {"name": "temperature", "dataType": "number", "defaultValues": [{"value": "0.7"}], **least}
    text = {"name": "text", "dataType": "text", "defaultValues": [], **least, "required": True}
    return {
        "id": model,
        "name": model,
        "description": "A simulated model.",
        "status": "onboarded",
        "function": {"id": "text-generation" if said.llm else "translation"},
        "functionType": "ai",
        "supplier": {"id": 1, "name": "aiXplain", "code": "aixplain"},
        "pricing": {"price": 0.000001, "unitType": "TOKEN"},
        "version": {"id": "1.0"},
        "supportsStreaming": said.streams,
        "createdAt": "2026-11-27T00:00:00.000Z",
        "params": [text, temperature] if said.llm else [text],
    }
