import signal
import time

import pytest

from data_prep import SOURCES, PrepareOptions, prepare
from recsys.data.dataset import SplitRule, load_dataset
from recsys.errors import ConfigError, DataError
from tests.forked import Child

ROWS = "user_id,item_id,rating,timestamp\n1,a,5,1\n1,b,4,2\n2,a,1,3\n"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


def test_every_name_has_a_description_of_one_line():
    assert {"ml-100k", "s3rec", "recbole", "csv", "synthetic"} <= SOURCES.keys()
    assert all(source.description and "\n" not in source.description for source in SOURCES.values())


def test_an_unknown_name_names_the_nearest(tmp_path):
    with pytest.raises(DataError, match="'ml100k'; did you mean 'ml-100k'"):
        prepare("ml100k", out=tmp_path / "out")


@pytest.mark.parametrize("name", ["csv", "tsv", "parquet", "jsonl", "s3rec", "recbole"])
def test_a_source_is_needed_and_must_be_there(tmp_path, name):
    with pytest.raises(DataError, match="give --source PATH"):
        prepare(name, out=tmp_path / "out")
    with pytest.raises(DataError, match=r"there is no .*absent"):
        prepare(name, source=tmp_path / "absent", out=tmp_path / "out")


def test_the_default_place_is_data_and_the_name(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare("csv", source=source)
    assert load_dataset("data/csv").manifest.num_interactions == 3


def test_the_manifest_never_holds_a_local_path(source, tmp_path):
    prepare("csv", source=source, out=tmp_path / "out")
    assert str(tmp_path) not in (tmp_path / "out" / "dataset.json").read_text()


def test_the_split_of_the_options_is_the_dataset_s_own(source, tmp_path):
    rule = SplitRule(name="global-time", valid_quantile=0.5, test_quantile=0.75)
    dataset = prepare("csv", PrepareOptions(split=rule), source=source, out=tmp_path / "out")
    assert dataset.manifest.split == rule
    options = PrepareOptions(split=rule, time_column="none")
    with pytest.raises(DataError, match=r"has no times.*time_column=NAME"):
        prepare("csv", options, source=source, out=tmp_path / "untimed")


def test_a_failed_prepare_leaves_the_dataset_that_stood_there(source, tmp_path):
    before = prepare("csv", source=source, out=tmp_path / "out").manifest
    with pytest.raises(DataError, match="no interactions are left"):
        prepare("csv", PrepareOptions(min_rating=6), source=source, out=tmp_path / "out")
    assert load_dataset(tmp_path / "out", verify=True).manifest == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "rows.csv"]


def test_another_folder_is_not_replaced(source, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a")
    with pytest.raises(DataError, match="not replaced"):
        prepare("csv", source=source, out=tmp_path / "notes")


KILLED = """
import sys
from data_prep import PrepareOptions, SyntheticOptions, prepare
sizes = SyntheticOptions(num_users=200_000, num_interactions=20_000_000, chunk_interactions=10_000)
prepare("synthetic", PrepareOptions(synthetic=sizes), out=sys.argv[1])
"""


def test_sigkill_leaves_no_dataset_and_the_next_run_cleans_up(tmp_path):
    out = tmp_path / "out"
    child = Child("-c", KILLED, out)
    while not list(tmp_path.glob(".out.*.tmp/out/interactions.parquet")):
        assert child.poll() is None, child.stderr
        time.sleep(0.02)
    assert child.kill() == -signal.SIGKILL
    left = next(tmp_path.iterdir())
    assert not out.exists()
    for folder in (out, left, left / "out"):
        with pytest.raises(DataError):
            load_dataset(folder)
    prepare("synthetic", out=out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_synthetic_takes_no_source_and_no_filters(source, tmp_path):
    with pytest.raises(ConfigError, match="generated, not read"):
        prepare("synthetic", source=source, out=tmp_path / "out")
    with pytest.raises(ConfigError, match="takes no filters"):
        prepare("synthetic", PrepareOptions(min_item_count=5), out=tmp_path / "out")
