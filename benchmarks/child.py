"""One case in a process of its own: settings as JSON on standard input, measurements as JSON on standard output.

Started by the harness, `python -m benchmarks.child NAME`; to be run by hand as well, under a profiler for instance.
"""

from __future__ import annotations

import json
import sys

from benchmarks import BENCHMARKS


def main() -> None:
    """Measure one case."""
    measured = BENCHMARKS[sys.argv[1]].measure(json.load(sys.stdin))
    json.dump(measured, sys.stdout)


if __name__ == "__main__":
    main()
