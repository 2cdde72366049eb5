"""aiXplain's `Model` and `LLM`, in trio: the names, arguments and answers of its SDK over the engine.

    async with open_engine():
        model = await ModelFactory.get("6414bd3cd09663e9225130e8")
        response = await model.run("hello")

Each run is one call with limits, retries and a deadline over request and polls; a reply that says "ask later" is polled
with its permit given back. What a service does is a `ModelResponse`, never an exception. `engine.portal.aixplain` has
the same names, blocking.
"""

from engine.clients.aixplain.asset import Asset
from engine.clients.aixplain.enums import AssetStatus, Function, FunctionType, ResponseStatus, Supplier
from engine.clients.aixplain.factory import KeyLimit, ModelFactory
from engine.clients.aixplain.llm import LLM
from engine.clients.aixplain.model import Model
from engine.clients.aixplain.parameters import FinetuneStatus, ModelParameters, Parameter
from engine.clients.aixplain.response import ModelResponse
from engine.clients.aixplain.streamer import ModelResponseStreamer

__all__ = [
    "LLM",
    "Asset",
    "AssetStatus",
    "FinetuneStatus",
    "Function",
    "FunctionType",
    "KeyLimit",
    "Model",
    "ModelFactory",
    "ModelParameters",
    "ModelResponse",
    "ModelResponseStreamer",
    "Parameter",
    "ResponseStatus",
    "Supplier",
]
