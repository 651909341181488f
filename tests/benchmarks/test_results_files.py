"""Results files that benchmarks write."""

from pathlib import Path

import pytest

from benchmarks.measure import Score
from benchmarks.results_file import check_kept, keep_benchmarks
from benchmarks.retrieval.digest import digest
from recsys.errors import RunError
from recsys.reports.results.record import read_results

MACHINE = {"cpu": "2 x made up", "threads": "2", "capability": "AVX2", "commit": "1234abc"}


def search(title, times):
    return {
        "way": title,
        "title": title,
        "point": {"margin": 1, "keep": 200},
        "recall@10": 0.99,
        "queries/s": 20_000.0,
        "ms": 0.4,
        "resident bytes": 76.1,
        "mapped bytes": 520.0,
        "times": times,
    }


def measured(command):
    ours, theirs = search("ours", 0.8), search("theirs", 1.0)
    quick, slow = ours | {"point": {"margin": 5}}, ours | {"point": {"margin": 9}}
    warm = {"warm p50, ms": 0.3, "warm p99, ms": 0.9}
    return {
        "machine": MACHINE,
        "versions": {"faiss-cpu": "1.15"},
        "command": command,
        "chosen": {"batch at 0.99": [ours, theirs], "one user at 0.99": [quick, theirs]},
        "latency": [quick | warm | {"cold p50, ms": 7.0, "cold p99, ms": 9.0}, slow | warm],
    }


def test_the_digest_keeps_the_fastest_searches_with_machine_commit_and_command():
    command = "python -m benchmarks.retrieval 1000 --like runs/demo --structured"
    kept = digest(measured(command), 0.99)
    (step,) = kept.steps
    assert step.command == command and step.commit == "1234abc"
    assert kept.machine == {
        "cpu": "2 x made up", "threads": "2", "capability": "AVX2", "faiss-cpu": "1.15",
    }  # fmt: skip
    first, second, alone = kept.names
    assert (first, second) == ("ours, margin 1, keep 200", "theirs, margin 1, keep 200")
    assert kept.find(first, None, "times the fastest rival").value == 0.8
    assert alone == "ours, margin 5, one user"
    assert kept.find(alone, None, "cold cache, p99, ms").value == 9.0
    assert kept.find(alone, None, "recall@10") is None


def test_a_run_elsewhere_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="no path of this project"):
        digest(measured("python -m benchmarks.retrieval --run /elsewhere/runs/big"), 0.99)


def test_benchmarks_keep_what_was_measured_and_name_rows_by_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["__main__.py", "steps", "--quick"])
    rows = [{"variant": "six", "items": 1_000_000, "ms": 30.2, "ratio": 1.3}]
    keep_benchmarks(tmp_path / "costs.json", MACHINE, {"a step": rows})
    kept = read_results(tmp_path / "costs.json")
    assert kept.steps[0].command == "python -m benchmarks steps --quick"
    assert kept.names == ["a step, six, items 1,000,000"]
    assert [(row.metric, row.unit) for row in kept.rows] == [("ms", "ms"), ("ratio", "times")]


def test_scores_are_kept_with_their_intervals_and_are_no_part_of_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["__main__.py", "rectools"])
    rows = [{"model": "ours", "s/epoch": 2.0, "steps": 9, "ndcg@10": Score(0.2, 0.1, 0.4)}]
    keep_benchmarks(tmp_path / "kept.json", MACHINE, {"an epoch": rows})
    kept = read_results(tmp_path / "kept.json")
    assert kept.names == ["an epoch, ours"]
    assert [row.metric for row in kept.rows] == ["s/epoch", "steps", "ndcg@10"]
    assert (kept.rows[2].value, kept.rows[2].low, kept.rows[2].high) == (0.2, 0.1, 0.4)


@pytest.mark.parametrize("library", ["rectools", "recbole"])
@pytest.mark.parametrize("given", ["--{} /env/bin/python", "--{}=/env/python"])
def test_an_interpreter_is_no_place_in_a_kept_command(tmp_path, monkeypatch, given, library):
    words = given.format(library).split()
    monkeypatch.setattr("sys.argv", ["__main__.py", library, *words, "--epochs", "2"])
    keep_benchmarks(tmp_path / "kept.json", MACHINE, {"an epoch": [{"s/epoch": 2.0}]})
    (step,) = read_results(tmp_path / "kept.json").steps
    typed = step.command.replace("=", " ")
    assert typed == f"python -m benchmarks {library} --{library} PYTHON --epochs 2"


def test_a_command_that_cannot_be_kept_is_refused_beforehand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["__main__.py", "rectools", "--data", "/elsewhere/data"])
    with pytest.raises(RunError, match="no path of this project"):
        check_kept(Path("results/kept.json"))
