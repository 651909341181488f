"""`--results` of the verbs: what they keep, and with what they say it was made."""

import json
import shlex
import shutil

import pytest
from typer.testing import CliRunner

import recsys
from recsys.cli import app
from recsys.data.dataset import write_dataset
from recsys.errors import RunError
from recsys.recipes.evaluating.results import as_typed
from recsys.reports.results.record import read_results
from recsys.runs.records import load_run_info, update_run_info
from tests.recipes.test_verbs import config, frame

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project folder with one run."""
    place = tmp_path_factory.mktemp("results")
    write_dataset(place / "data" / "walks", frame(), name="walks")
    run = recsys.train(config(place / "data" / "walks"), out=place / "runs" / "walks")
    update_run_info(run, command="recsys train configs/walks.yaml", commit="1234abc")
    return place


@pytest.fixture
def project(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def call(monkeypatch, line, code=0):
    """A command, as its process would see it."""
    words = shlex.split(line)
    monkeypatch.setattr("sys.argv", words)
    result = RUNNER.invoke(app, words[1:])
    assert result.exit_code == code, result.output
    return result.output


def test_evaluate_keeps_its_figures_with_the_training_and_itself(project, monkeypatch):
    line = "recsys evaluate runs/walks --results results/walks.json"
    call(monkeypatch, line)
    kept = read_results(project / "results" / "walks.json")
    assert [step.command for step in kept.steps] == ["recsys train configs/walks.yaml", line]
    assert kept.steps[0].commit == "1234abc" and kept.seeds == (0,)
    info = load_run_info(project / "runs" / "walks")
    assert kept.data.content_hash == info["dataset"]["content_hash"]
    tree = json.loads((project / "runs" / "walks" / "metrics" / "test-s3rec.json").read_text())
    (row,) = [
        row
        for row in tree["rows"]
        if (row["run"], row["granularity"], row["metric"], row["k"], row["segment"])
        == ("walks", 4, "ndcg", 10, "all")
    ]
    found = kept.find("walks", 4, "ndcg@10")
    assert (found.value, found.low, found.high) == (row["value"], row["low"], row["high"])
    full = kept.find("walks", 8, "ndcg@10").value
    assert kept.find("walks", 4, "keeps").value == pytest.approx(found.value / full)
    assert any(name.startswith("ease") for name in kept.names)


def test_compare_baselines_tradeoff_and_bits_keep_theirs(project, monkeypatch):
    call(monkeypatch, "recsys evaluate runs/walks")
    for line in (
        "recsys compare runs/walks",
        "recsys baselines data/walks popularity",
        "recsys tradeoff runs/walks 'codecs=[int8]' 'indexes=[scan]' 'keeps=[20]' --keep-ndcg 0.1",
        "recsys bits runs/walks --bytes 16 --keep 20",
    ):
        path = project / "results" / f"{line.split()[1]}.json"
        call(monkeypatch, f"{line} --results results/{path.name}")
        kept = read_results(path)
        assert kept.steps[-1].command == f"{line} --results results/{path.name}"
        assert kept.data.name == "walks" and kept.protocol.part == "test"
    names = read_results(project / "results" / "tradeoff.json").names
    assert names == ["exact search", "4 in int8 (scan), 20 ranked by 8"]
    assert [name.split(", ")[1] for name in kept.names] == ["split", "single codec"]


def test_a_results_file_is_refused_before_anything_is_measured(project, monkeypatch):
    told = call(monkeypatch, "recsys evaluate runs/walks --results results/walks.txt", code=1)
    assert "results/NAME.json is expected" in told
    told = call(monkeypatch, "recsys tradeoff data/walks --results results/x.json", code=1)
    assert "not a run folder" in told
    elsewhere = project.parent / "elsewhere"
    told = call(monkeypatch, f"recsys evaluate {elsewhere} --results results/x.json", code=1)
    assert not (project / "results" / "x.json").exists()


def test_commands_are_told_as_they_are_typed_in_the_project_folder(project):
    assert as_typed(f"/opt/recsys/__main__.py train {project}/configs/a.yaml") == (
        "recsys train configs/a.yaml"
    )
    shutil.copytree(project / "data", project / "copied", dirs_exist_ok=True)
    assert as_typed("recsys evaluate /elsewhere/copied/walks --x=/elsewhere/copied") == (
        "recsys evaluate copied/walks --x=copied"
    )
    with pytest.raises(RunError, match="no path of this project"):
        as_typed("recsys evaluate /elsewhere/other")
