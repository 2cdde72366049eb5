"""`python -m benchmarks` as it is typed: the list, each benchmark at a tiny size in real processes, the plots.

Nothing here says how fast anything is; only that every figure comes out, and what must hold at any speed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import BENCHMARKS
from benchmarks.__main__ import main

ROOT = Path(__file__).parents[2]

# fmt: off
TINY = {
    # All within the first window: whether the second is kept to the millisecond is for a machine at rest to show.
    "throughput_under_limits": ["--calls", "30", "--limit", "40", "--per", "60", "--latency", "0.01"],
    "engine_overhead": ["--calls", "50", "--in-flight", "8", "--repeats", "2"],
    "hooks": ["--calls", "50", "--in-flight", "8", "--repeats", "2"],
    "wire": ["--calls", "20", "--stretches", "2", "--in-flight", "4", "--many", "6", "--most", "8", "--hold", "0.01",
             "--crowd", "50"],
    # Slow enough to be kept to by a busy machine: a server that is late is disturbed, and its run made again.
    "streams": ["--streams", "5", "--events", "6", "--interval", "0.05", "--burst", "3", "--idle", "7"],
    "parse": ["--deltas", "5", "--reads", "2", "--turns", "1", "--rows", "tavily search,groq"],
    "payload": ["--calls", "4", "--repeats", "2", "--large", "20000"],
    "portal": ["--calls", "16", "--repeats", "2"],
    "queue_scale": ["--calls", "200", "--few", "50"],
    # Too short for its changes: that a lane without any limits finds some is all there is time for.
    "learn": ["--cases", "a", "--requests", "40", "--window", "0.5", "--windows", "4", "--latency", "0.01"],
    "faults": ["--calls", "40", "--latency", "0.001", "--refused", "0.1", "--failed", "0.1"],
}
# fmt: on


class Reports(dict[str, Path]):
    """The JSON of every benchmark by its name. Each is run by its command when it is first asked for, so that a process
    which is given some of these tests runs no more benchmarks than those need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __missing__(self, name: str) -> Path:
        path = self.folder / f"{name}.json"
        command = [sys.executable, "-m", "benchmarks", name, "--rounds", "1", "--json", str(path), *TINY[name]]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603  # our own command
        # At such sizes a goal may be missed, which is exit code 1; misuse and failure are 2.
        assert ended.returncode in (0, 1), ended.stderr
        assert BENCHMARKS[name].question in ended.stdout
        self[name] = path
        return path


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    return Reports(tmp_path_factory.mktemp("reports"))


def figures(path: Path) -> dict[str, float]:
    """The figures of a report's first case, by name."""
    report = json.loads(path.read_bytes())["reports"][0]
    return {one["name"]: one["value"] for one in report["figures"]}


def test_list_names_each_with_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments: what there is."""
    assert main([]) == 0
    out = capsys.readouterr().out
    for name, benchmark in BENCHMARKS.items():
        assert f"{name} " in out
        assert benchmark.question in out


def test_every_benchmark_is_run_here() -> None:
    """Each has its tiny size, and below a test that reads its report."""
    assert set(TINY) == set(BENCHMARKS)


def test_throughput_reads_the_providers_log(reports: Reports) -> None:
    """30 of 40 in the first window, and nothing could have come earlier than it did."""
    found = figures(reports["throughput_under_limits"])
    expected = {"spent": 1, "spent, of whole windows": 0, "refusals": 0, "worst window / limit": 0.75, "completed": 1}
    assert found == expected


def test_overhead_has_both_sides_of_the_difference(reports: Reports) -> None:
    """The engine costs more than the transport it uses, and the difference is what is reported."""
    report = json.loads(reports["engine_overhead"].read_bytes())["reports"][0]
    (measured,) = [run["measured"] for run in report["runs"]]
    assert len(measured["pair_s"]) == len(measured["engine_s"]) == 2
    added = [(e - d) / p for e, d, p in zip(*(measured[k] for k in ("engine_s", "direct_s", "pair_s")), strict=True)]
    assert min(added) > 0
    assert figures(reports["engine_overhead"])["added by the engine"] == pytest.approx(sum(added) / 2)


def test_plots_are_the_same_bytes_for_the_same_json(reports: Reports, tmp_path: Path) -> None:
    """Drawn twice, from nothing but the JSON."""
    pytest.importorskip("matplotlib")
    files = [str(reports["throughput_under_limits"]), str(reports["engine_overhead"])]
    for folder in ("one", "two"):
        assert main(["plot", *files, "--into", str(tmp_path / folder)]) == 0
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["arrivals.svg", "cpu_per_call.svg", "windows.svg"]
    for name in names:
        drawn = (tmp_path / "one" / name).read_bytes()
        assert drawn == (tmp_path / "two" / name).read_bytes()
        assert b"<svg" in drawn
        assert b"<dc:date>" not in drawn


def test_wire_clients_make_every_call_on_connections_of_their_own(reports: Reports) -> None:
    """By the server's count: as many connections as there are calls in flight, and every call there is."""
    report = json.loads(reports["wire"].read_bytes())["reports"][0]
    assert len(report["runs"]) == 14
    for run in report["runs"]:
        measured, width = run["measured"], run["settings"]["in_flight"]
        if "missing" in measured:
            continue
        # One for each worker, the stretch that warms up, two more, and one in flight for each worker at the end.
        requests, stretches = {"cold": (width, 0), "warm": (3 * width, 1), "tuned": (3 * width, 1)}.get(
            measured["situation"], (2 * width + 3 * 20, 2)
        )
        assert measured["server"]["requests"] == requests
        assert measured["server"]["connections"] == width
        assert len(measured["call_s"]) == stretches
        assert all(call_s > 0 for call_s in measured["call_s"])
        assert (measured["server"]["most_waiting"] > 0) == (run["settings"]["high"] > 0)


def test_crowd_is_in_flight_at_once_before_it_is_counted(reports: Reports) -> None:
    """All connections were opened by then, memory was read, and no wall is shorter than the replies alone take."""
    report = json.loads(reports["wire"].read_bytes())["reports"][0]
    crowds = [run["measured"] for run in report["runs"] if run["measured"]["situation"] in ("warm", "tuned")]
    assert len(crowds) == 3
    for measured in crowds:
        if "missing" in measured:
            continue
        assert measured["server"]["most_waiting"] == 50
        assert measured["bytes_per_call"] > 0
        assert measured["wall_s"] >= measured["ideal_s"] == pytest.approx(0.02)
    goals = [(one["case"], one["name"]) for one in report["figures"] if one["goal"] and "warm" in one["case"]]
    tuned = "engine: 50 of 0.01 s, warm, gc 100,000"
    assert goals == [(tuned, "wall / ideal"), (tuned, "memory per call in flight")]


def test_streams_are_read_whole_by_every_client(reports: Reports) -> None:
    """By the server's count, over as many connections as there are streams; no wall is shorter than the schedule."""
    report = json.loads(reports["streams"].read_bytes())["reports"][0]
    assert len({run["case"] for run in report["runs"]}) == 11
    for run in report["runs"]:
        measured, settings = run["measured"], run["settings"]
        if "missing" in measured:
            continue
        width, warm = settings["streams"], settings["situation"] in ("warm", "bursts")
        assert measured["server"]["connections"] == measured["server"]["most_open"] == width
        assert measured["server"]["requests"] == (2 * width if warm else width)
        assert measured["wall_s"] >= measured["ideal_s"] > 0
        assert measured["event_s"] > 0
        assert (measured["bytes_per_stream"] > 0) == (settings["situation"] == "idle")
    goals = [one["goal"] for one in report["figures"] if one["goal"]]
    assert goals[0] == "<= 1.05"
    assert goals[-2:] == ["<= 0.35", "<= 30720"]


def test_parse_reads_a_row_whose_sdk_there_is_and_names_the_others(reports: Reports) -> None:
    """A row is either both sides' times or the name of what is missing."""
    report = json.loads(reports["parse"].read_bytes())["reports"][0]
    measured = {run["case"]: run["measured"] for run in report["runs"]}
    assert list(measured) == ["groq chat / groq", "tavily search / tavily-python"]
    for case, one in measured.items():
        if "missing" in one:
            assert one["missing"] == case.partition(" / ")[2]
            assert any(f"{one['missing']} is not installed" in figure["name"] for figure in report["figures"])
        else:
            assert min(one["small"]["ours_s"] + one["small"]["sdk_s"] + one["large"]["ours_s"]) > 0


def test_payload_is_timed_apart_from_its_encoding(reports: Reports) -> None:
    """For each size and repetition all three stretches, and a submit is longer than the encoding inside it."""
    report = json.loads(reports["payload"].read_bytes())["reports"][0]
    (measured,) = [run["measured"] for run in report["runs"]]
    for size in ("small", "large"):
        encodings, submits, ways = (measured[f"{size}_{stretch}_s"] for stretch in ("encode", "submit", "way"))
        assert len(encodings) == len(submits) == len(ways) == 2
        assert all(0 < encode < submit for encode, submit in zip(encodings, submits, strict=True))
        assert min(ways) > 0
    assert figures(reports["payload"])["a hop, large / small"] > 0


def test_handlers_are_the_difference_of_calls_with_and_without(reports: Reports) -> None:
    """Two handlers cost something, and that is what is reported."""
    report = json.loads(reports["hooks"].read_bytes())["reports"][0]
    (measured,) = [run["measured"] for run in report["runs"]]
    added = [(h - p) / u for h, p, u in zip(*(measured[k] for k in ("handled_s", "plain_s", "pair_s")), strict=True)]
    assert len(added) == 2
    assert figures(reports["hooks"])["added by two async handlers"] == pytest.approx(sum(added) / 2)


def test_portal_is_measured_beside_the_engines_own_loop(reports: Reports) -> None:
    """Every way, one call at a time and many; what is added is the difference, in empty calls of anyio's portal."""
    report = json.loads(reports["portal"].read_bytes())["reports"][0]
    assert [run["case"] for run in report["runs"]] == ["asyncio", "asyncio, 64 tasks", "one thread", "8 threads"]
    for run in report["runs"]:
        assert all(len(run["measured"][f"{way}_s"]) == 2 for way in ("native", "portal", "empty", "beside"))
        assert min(run["measured"]["portal_s"] + run["measured"]["empty_s"]) > 0
    found = figures(reports["portal"])
    assert found["added"] == pytest.approx(found["through the portal"] - found["native"])
    assert found["added / an empty portal.call"] == pytest.approx(found["added"] / found["an empty portal.call"])


def test_queue_counts_memory_and_time(reports: Reports) -> None:
    """A waiting call takes at least its own body's bytes."""
    found = figures(reports["queue_scale"])
    assert found["memory per queued call"] > 200
    assert found["submit a call"] > 0


def test_faults_are_all_explained(reports: Reports) -> None:
    """At any size: every call ends once, every attempt is a call's first or follows a fault."""
    found = figures(reports["faults"])
    assert found["calls that ended, once"] == 1
    assert found["attempts unexplained (engine)"] == found["attempts unexplained (provider)"] == 0
    assert found["faults injected"] > 0


def test_learning_is_judged_beside_plain_retry(reports: Reports) -> None:
    """Each kind of limit with and without headers, by two clients; the engine's calls all complete."""
    report = json.loads(reports["learn"].read_bytes())["reports"][0]
    assert [run["case"].partition(":")[2].strip() for run in report["runs"]] == [
        "requests, headers", "requests, headers, plain retry",
        "requests, refusals alone", "requests, refusals alone, plain retry",
    ]  # fmt: skip
    for run in report["runs"]:
        measured = run["measured"]
        assert measured["calls"] > 0
        assert measured["failed"] == 0
        assert 0 < measured["spent"][0] <= 1.001
    goals = {(one["case"], one["name"]) for one in report["figures"] if one["goal"]}
    assert ("a: requests, headers", "429s / allowed") in goals
    assert not any("plain" in case for case, _ in goals)


def test_unreadable_json_is_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not a traceback."""
    pytest.importorskip("matplotlib")
    (tmp_path / "wrong.json").write_text("{}")
    assert main(["plot", str(tmp_path / "wrong.json")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_unknown_case_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped case ends with a sentence and exit code 2."""
    assert main(["throughput_under_limits", "--cases", "q"]) == 2
    assert "the cases are a b c d e f" in capsys.readouterr().err
