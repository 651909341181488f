"""The benchmark of long histories: blocks take less memory, and a table tells it."""

import json

from typer.testing import CliRunner

from benchmarks import long_histories
from benchmarks.long_histories import measure
from recsys.layers.timed import query_blocks
from recsys.reports.results.record import read_results


def test_every_model_is_measured_both_ways(tmp_path, monkeypatch):
    asked = []

    def here(kind, way, length, rounds):  # a process for each would take a minute
        asked.append((kind, way, length))
        monkeypatch.setattr(query_blocks, "SCORES", 50)
        return measure(kind, way, length, rounds)

    monkeypatch.setattr(long_histories, "measured_apart", here)
    app = long_histories.typer.Typer()
    app.command()(long_histories.main)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["long_histories.py", "--results", "results/long.json"])
    words = ["--lengths", "12,20", "--rounds", "1", "--out", "found.json"]
    words += ["--results", "results/long.json"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [(row["model"], row["scores"], row["length"]) for row in rows] == asked
    assert len(set(asked)) == 12 and all(row["step_ms"] > 0 for row in rows)
    kept = read_results(tmp_path / "results" / "long.json")
    step = kept.find("hstu, blocks, 20 interactions", None, "training step")
    assert step is not None and step.value > 0 and step.unit == "ms"
    assert len(kept.rows) == 36
