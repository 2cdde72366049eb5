"""Batches: a file of requests in, a file of results out, each line exactly once, and memory that does not grow.

`lines` says what a line of the input means, `source` reads the lines as they are needed, `models` finds the model each
is for, `results` writes what became of it, and `runner` holds the five together around `Engine.map`. The command line
parses and prints around them; nothing here prints or knows a signal.
"""

from engine.batch.lines import MAX_LINE_BYTES
from engine.batch.models import BatchSettings, Misuse
from engine.batch.results import ResultFile, Sink
from engine.batch.runner import Batch, Gauges, Tally
from engine.batch.source import STANDARD, ByteSource, InputFile, LineReader

__all__ = [
    "MAX_LINE_BYTES",
    "STANDARD",
    "Batch",
    "BatchSettings",
    "ByteSource",
    "Gauges",
    "InputFile",
    "LineReader",
    "Misuse",
    "ResultFile",
    "Sink",
    "Tally",
]
