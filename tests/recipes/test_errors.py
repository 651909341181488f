"""What the command line prints when something is wrong: a message, never a trace."""

import errno
import os
import shutil

import numpy as np
import polars as pl
import pytest

import recsys
from recsys import doctor
from recsys.data.dataset import write_dataset
from recsys.runs.config import RunConfig
from tests.command import invoke


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    users = np.repeat(np.arange(40), 6)
    items = (np.repeat(np.arange(40) % 12, 6) + np.tile(np.arange(6), 40)) % 12
    frame = pl.DataFrame({"user_id": users, "item_id": items})
    return write_dataset(tmp_path_factory.mktemp("errors") / "data", frame, name="walks").folder


@pytest.fixture(scope="module")
def trained(data):
    tree = {
        "data": str(data),
        "threads": 1,
        "model": {"granularities": {"sizes": [4, 8]}, "history_length": 6},
        "trainer": {"epochs": 1},
    }
    return recsys.train(RunConfig.model_validate(tree), out=data.parent / "run")


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def call(*arguments, code=1):
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stdout
    return result


@pytest.fixture
def raising(monkeypatch):
    """Makes the verb `doctor` fail."""

    def with_error(error):
        def fail():
            raise error

        monkeypatch.setattr(doctor, "diagnose", fail)

    return with_error


def test_a_run_that_cannot_be_written_is_measured_and_shown_before_that_is_said(run):
    shutil.rmtree(run / "metrics", ignore_errors=True)
    (run / "metrics").write_text("a file in the way")
    result = call("evaluate", run, "--no-baselines")
    assert "d8 full" in result.stdout
    assert f"{run / 'metrics'} is a file where a folder is meant" in result.stderr


def test_a_table_of_baselines_that_cannot_be_saved_is_refused_before_it_is_measured(data, tmp_path):
    (tmp_path / "file").write_text("")
    result = call("baselines", data, "popularity", "--out", tmp_path / "file" / "table.json")
    assert not result.stdout and "is a file where a folder is meant" in result.stderr


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no room for a/b.bin"),
        (errno.EROFS, "a/b.bin may not be read or written (read-only file system)"),
        (errno.EACCES, "a/b.bin may not be read or written (permission denied)"),
        (errno.EISDIR, "a/b.bin is a folder where a file is meant"),
        (errno.EIO, "a/b.bin: Input/output error"),
    ],
)
def test_errors_of_the_system_are_one_line_with_the_path(raising, number, words):
    raising(OSError(number, os.strerror(number), "a/b.bin"))
    said = call("doctor").stderr
    assert said.startswith(f"error: {words}") and said.count("\n") == 1


def test_output_that_cannot_be_printed_is_told(raising):
    raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert call("doctor").stderr.startswith("error: no room for the output; what stood there")


@pytest.mark.parametrize("place", [("--debug", "doctor"), ("doctor", "--debug")])
def test_an_unforeseen_error_says_where_to_report_it_and_debug_shows_its_trace(raising, place):
    raising(KeyError("prefix [8]"))
    said = call("doctor").stderr
    assert said.startswith("error: KeyError: 'prefix [8]'. This is a bug of recsys")
    assert "Traceback" not in said
    result = invoke(*place)
    assert "Traceback (most recent call last)" in result.stderr and result.exit_code == 1


def test_an_unknown_option_of_a_baseline_names_the_known_ones(data):
    said = call("baselines", data, "ease", "ease.precison=1").stderr
    assert "precison: unknown key" in said and "Known here: " in said and " l2" in said
