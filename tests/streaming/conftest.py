"""The tests of streams use the scripted server and the ways of a worker that the tests of the wire are made of.

Those stand in the neighbouring room, which pytest makes importable only when it collects it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "transports"))
