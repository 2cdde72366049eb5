"""aiXplain's SDK in a process of its own: what it makes of each thing it is told to do, as JSON.

It takes its addresses and its key from the environment at import, sets up the root of all logging and keeps a cache on
disk, so it is not imported beside other tests. Standard input is a list of {"do", "model", "as", "arguments"}, standard
output the list of what came of each. The argument ``"@"`` is the address that was told last.
"""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

MADE = ("id", "name", "supports_streaming", "temperature")
FIELDS = ("data", "details", "completed", "error_message", "used_credits", "run_time", "usage", "url", "error_code")


def told(response: Any) -> dict[str, Any]:
    """A response of the SDK's as data."""
    fields = {name: getattr(response, name, None) for name in FIELDS}
    further = {"asset": getattr(response, "asset", None), "more": getattr(response, "additional_fields", None)}
    return {"status": getattr(response.status, "value", response.status), **fields, **further}


def last_url(results: list[Any]) -> str:
    """The address that the last of the results with one has."""
    return next(str(result["url"]) for result in reversed(results) if isinstance(result, dict) and result.get("url"))


def streamed(streamer: Any) -> dict[str, Any]:
    """All of a stream, and how it ended."""
    chunks, broken = [], ""
    try:
        chunks = [[chunk.status.value, chunk.data] for chunk in streamer]
    except Exception as error:  # noqa: BLE001  # whatever it raises is what is wanted
        broken = type(error).__name__
    return {"chunks": chunks, "status": streamer.status.value, "broken": broken, "error": ""}


def streamed_by_version_2(identity: str) -> dict[str, Any]:
    """A stream, read by what version 2 of the SDK reads streams with."""
    import requests
    from aixplain.utils import config
    from aixplain.v2.model import ModelResponseStreamer

    url = f"{config.MODELS_RUN_URL}/{identity}".replace("/v1/", "/v2/")
    body = {"data": "hello", "options": {"stream": True}}
    with requests.post(url, json=body, headers={"x-api-key": config.TEAM_API_KEY}, stream=True, timeout=10) as reply:
        return streamed(ModelResponseStreamer(reply))


def do(order: dict[str, Any]) -> Any:
    """Carry out one order."""
    from aixplain.enums import Function
    from aixplain.factories import APIKeyFactory, ModelFactory
    from aixplain.modules.model import Model
    from aixplain.modules.model.llm_model import LLM

    action, identity, arguments = order["do"], order.get("model", ""), order.get("arguments", {})
    if action in ("get", "list"):
        found = getattr(ModelFactory, action)(**arguments)
        models = found["results"] if action == "list" else [found]
        return [[type(model).__name__, *(getattr(model, name, None) for name in MADE)] for model in models]
    if action == "limits":
        return [vars(limit) for limit in APIKeyFactory.get_usage_limits()]
    if action == "stream version 2":
        return streamed_by_version_2(identity)
    streams = order.get("streams", True)
    if order.get("as") == "LLM":
        from aixplain.utils import config

        kind = Function.TEXT_GENERATION
        model = LLM(identity, "m", api_key=config.TEAM_API_KEY, function=kind, supports_streaming=streams)
    else:
        model = Model(identity, "m", supports_streaming=streams)
    result = getattr(model, action)(**arguments)
    if arguments.get("stream") or action == "run_stream":
        return streamed(result)
    if action == "to_dict":
        return sorted(result)
    if action == "check_finetune_status":
        return result and [result.status.value, result.epoch, result.training_loss, result.validation_loss]
    return result and told(result)


def main() -> None:
    """Carry out all orders."""
    results: list[Any] = []
    for order in json.load(sys.stdin):
        arguments = order.get("arguments", {})
        arguments = {name: last_url(results) if value == "@" else value for name, value in arguments.items()}
        before = copy.deepcopy(arguments)
        try:
            result = do({**order, "arguments": arguments})
        except Exception as error:  # noqa: BLE001  # whatever it raises is what is wanted
            result = {"raised": f"{type(error).__name__}: {error}"}
        if isinstance(result, dict) and order["do"].startswith("run"):
            result["changed"] = arguments != before
        results.append(result)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
