"""The words of aiXplain's SDK: what a response, an asset, a function can be, and who supplies a model.

`Function` and `Supplier` are lists that the platform grows. A function that is not listed here is made when it is first
named, so that code written against a newer list runs; a supplier that is not listed stays what it was given as: a dict,
a text or a number. Values: aiXplain's SDK 0.2.48 (2026-11-20).

Nothing here waits.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Any

from engine.errors import UsageError


class ResponseStatus(StrEnum):
    """How a run stands."""

    IN_PROGRESS = "IN_PROGRESS"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


class AssetStatus(StrEnum):
    """How an asset, or its fine-tuning, stands."""

    DRAFT = "draft"
    HIDDEN = "hidden"
    SCHEDULED = "scheduled"
    ONBOARDING = "onboarding"
    ONBOARDED = "onboarded"
    PENDING = "pending"
    FAILED = "failed"
    TRAINING = "training"
    REJECTED = "rejected"
    ENABLING = "enabling"
    DELETING = "deleting"
    DISABLED = "disabled"
    DELETED = "deleted"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELING = "canceling"
    CANCELED = "canceled"
    DEPRECATED_DRAFT = "deprecated_draft"


class FunctionType(Enum):
    """Of what kind a function is."""

    AI = "ai"
    SEGMENTOR = "segmentor"
    RECONSTRUCTOR = "reconstructor"
    UTILITY = "utility"
    METRIC = "metric"
    SEARCH = "search"
    INTEGRATION = "connector"
    CONNECTION = "connection"
    MCP_CONNECTION = "mcpconnection"
    MCPSERVER = "mcpserver"


class Function(StrEnum):
    """What a model does: ``Function.TEXT_GENERATION``, or ``Function("any-other-id")``."""

    CLASSIFICATION_METRIC = "classification-metric"
    CONNECTOR = "connector"
    DIACRITIZATION = "diacritization"
    DOCUMENT_INFORMATION_EXTRACTION = "document-information-extraction"
    EMOTION_DETECTION = "emotion-detection"
    ENTITY_LINKING = "entity-linking"
    GUARDRAILS = "guardrails"
    IMAGE_CAPTIONING = "image-captioning"
    KEYWORD_EXTRACTION = "keyword-extraction"
    LANGUAGE_IDENTIFICATION = "language-identification"
    NAMED_ENTITY_RECOGNITION = "named-entity-recognition"
    OBJECT_DETECTION = "object-detection"
    OCR = "ocr"
    PARAPHRASING = "paraphrasing"
    QUESTION_ANSWERING = "question-answering"
    SEARCH = "search"
    SENTIMENT_ANALYSIS = "sentiment-analysis"
    SPEECH_RECOGNITION = "speech-recognition"
    SPEECH_SYNTHESIS = "speech-synthesis"
    SUBTITLING = "subtitling"
    SUMMARIZATION = "summarization"
    TEXT_EMBEDDING = "text-embedding"
    TEXT_GENERATION = "text-generation"
    TEXT_SUMMARIZATION = "text-summarization"
    TEXT_TO_IMAGE_GENERATION = "text-to-image-generation"
    TRANSLATION = "translation"
    UTILITIES = "utilities"
    VIDEO_GENERATION = "video-generation"
    VISUAL_QUESTION_ANSWERING = "visual-question-answering"

    @classmethod
    def _missing_(cls, value: object) -> Function | None:
        if not isinstance(value, str) or not value or value != value.strip():
            return None
        made = str.__new__(cls, value)
        made._name_, made._value_ = value.upper().replace("-", "_"), value
        known: Function = cls._value2member_map_.setdefault(value, made)  # type: ignore[assignment]  # a Function each
        return known


class Supplier(Enum):
    """Who supplies a model. The value is what the platform says of him: id, name and code."""

    AIXPLAIN = {"id": 1, "name": "aiXplain", "code": "aixplain"}  # noqa: RUF012  # a member, not a default
    ANTHROPIC = {"id": 66303, "name": "Anthropic", "code": "anthropic"}  # noqa: RUF012
    AWS = {"id": 1763, "name": "AWS", "code": "aws"}  # noqa: RUF012
    AZURE = {"id": 1766, "name": "Microsoft", "code": "azure"}  # noqa: RUF012
    COHERE = {"id": 25059, "name": "Cohere", "code": "cohere"}  # noqa: RUF012
    DEEPGRAM = {"id": 1799, "name": "Deepgram", "code": "deepgram"}  # noqa: RUF012
    ELEVENLABS = {"id": 10482, "name": "ElevenLabs", "code": "elevenlabs"}  # noqa: RUF012
    GOOGLE = {"id": 1769, "name": "Google", "code": "google"}  # noqa: RUF012
    GROQ = {"id": 6839, "name": "Groq", "code": "groq"}  # noqa: RUF012
    HUGGINGFACE = {"id": 1771, "name": "huggingface", "code": "huggingface"}  # noqa: RUF012
    META = {"id": 1768, "name": "meta", "code": "meta"}  # noqa: RUF012
    MISTRALAI = {"id": 14770, "name": "Mistral AI", "code": "mistralai"}  # noqa: RUF012
    OPENAI = {"id": 1777, "name": "OpenAI", "code": "openai"}  # noqa: RUF012
    STABILITYAI = {"id": 1784, "name": "Stability AI", "code": "stabilityai"}  # noqa: RUF012

    def __str__(self) -> str:
        return str(self.value["name"])


def supplier_of(given: Any) -> Any:
    """The supplier that a dict, a text (code or name, in any case) or a number (id) means; else what was given."""
    if given is None or isinstance(given, Supplier):
        return given or Supplier.AIXPLAIN
    for known in Supplier:
        value = known.value
        if isinstance(given, dict):
            same = bool(given) and all(value.get(field) == given.get(field) for field in ("id", "code", "name"))
        elif isinstance(given, str):
            same = given.strip().lower() in (str(value["code"]).lower(), str(value["name"]).lower())
        else:
            same = given == value["id"]
        if same:
            return known
    return given


def function_of(given: Any) -> Function | None:
    """The function that this names; None for None.

    Raises:
      UsageError: it names none.
    """
    if given is None or isinstance(given, Function):
        return given
    named: Any = given.get("id") if isinstance(given, dict) else given
    try:
        return Function(named)
    except ValueError:
        raise UsageError(f"function names what a model does, as Function or a text, not {given!a:.60}") from None


def function_type_of(given: Any) -> FunctionType | None:
    """The kind of function that this names; None for None.

    Raises:
      UsageError: it names none.
    """
    try:
        return FunctionType(given) if given is not None else None
    except ValueError:
        raise UsageError(f"function_type is a FunctionType, or its value, not {given!a:.60}") from None


def status_of(given: Any) -> AssetStatus:
    """The status that this names; what nobody knows is taken for ``onboarded``, as the SDK does."""
    try:
        return AssetStatus(given)
    except ValueError:
        return AssetStatus.ONBOARDED
