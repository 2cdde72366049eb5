"""`python -m benchmarks`: list the benchmarks, run one or all, make the plots.

    python -m benchmarks                                   # what there is, and the question each answers
    python -m benchmarks engine_overhead --rounds 5 --json overhead.json
    python -m benchmarks throughput_under_limits --limit 50 --per 2 --calls 400 --latency 1.5
    python -m benchmarks all --json all.json
    python -m benchmarks plot all.json                     # writes docs/*.svg; needs matplotlib

Figures go to standard output, progress to standard error. Exit code 0: every goal reached, 1: one missed, 2: misuse.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from benchmarks import BENCHMARKS
from benchmarks.harness import ROOT, Benchmark, ChildFailed, Report, Settings, load, run, save, table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Benchmarks of the engine.")
    commands = parser.add_subparsers(dest="command", metavar="NAME")
    for benchmark in BENCHMARKS.values():
        one = commands.add_parser(benchmark.name, help=benchmark.question, description=benchmark.question)
        _shared(one)
        for option in benchmark.options:
            shown = f"{option.help} ({option.default})" if option.default is not None else option.help
            one.add_argument(f"--{option.name}", type=option.kind, default=option.default, help=shown)
    _shared(commands.add_parser("all", help="all of them, with their defaults"))
    plot = commands.add_parser("plot", help="make the plots in docs/ from the JSON of runs")
    plot.add_argument("files", nargs="+", type=Path, metavar="FILE")
    plot.add_argument("--into", type=Path, default=ROOT / "docs", help="the folder the plots go to (docs/)")
    return parser


def _shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, help="how often each case is run (3 or 5)")
    parser.add_argument("--json", metavar="FILE", help="write everything measured to a file; - for standard output")


def _options(benchmark: Benchmark, given: argparse.Namespace) -> Settings:
    names = [option.name.replace("-", "_") for option in benchmark.options]
    defaults = {name: option.default for name, option in zip(names, benchmark.options, strict=True)}
    return {name: getattr(given, name, default) for name, default in defaults.items()}


def _run(given: argparse.Namespace) -> int:
    chosen = list(BENCHMARKS.values()) if given.command == "all" else [BENCHMARKS[given.command]]
    if given.rounds is not None and given.rounds < 1:
        print("--rounds must be at least 1", file=sys.stderr)
        return 2
    out = sys.stderr if given.json == "-" else sys.stdout
    reports: list[Report] = []
    for benchmark in chosen:
        try:
            reports.append(run(benchmark, _options(benchmark, given), given.rounds or benchmark.rounds, sys.stderr))
        except (ValueError, ChildFailed) as error:
            print(error, file=sys.stderr)
            return 2
        print(table(reports[-1]), end="\n\n", file=out, flush=True)
        # After each one, so that a long run that is interrupted leaves what it has.
        _write(given.json, reports, last=benchmark is chosen[-1])
    return 0 if all(one.met is not False for report in reports for one in report.figures) else 1


def _write(path: str | None, reports: list[Report], *, last: bool) -> None:
    if path == "-":
        if last:
            print(save(reports).decode())
    elif path:
        Path(path).write_bytes(save(reports) + b"\n")


def _plot(files: list[Path], into: Path) -> int:
    try:
        from benchmarks.plots import draw  # matplotlib is needed for this alone
    except ModuleNotFoundError as error:
        print(f"{error.name} is missing: pip install 'penstock[bench]'", file=sys.stderr)
        return 2
    try:
        reports = [report for file in files for report in load(file.read_bytes())]
    except (OSError, msgspec.DecodeError) as error:
        print(f"cannot be read as the JSON of a run: {error}", file=sys.stderr)
        return 2
    for path in draw(reports, into):
        print(path)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line, return the exit code."""
    given = _parser().parse_args(arguments)
    if given.command is None:
        width = max(map(len, BENCHMARKS))
        for benchmark in BENCHMARKS.values():
            print(f"{benchmark.name:<{width}}  {benchmark.question}")
        print(f"\n{'all':<{width}}  runs them all; plot FILE... draws; NAME --help tells of a benchmark's own options")
        return 0
    return _plot(given.files, given.into) if given.command == "plot" else _run(given)


if __name__ == "__main__":
    sys.exit(main())
