"""Runs whose files are links to what is not theirs."""

import pytest

from recsys.errors import DataError
from recsys.recipes.evaluating.evaluate import compare
from recsys.runs.records import load_config, load_run_info


@pytest.mark.parametrize("name", ["run.json", "config.yaml"])
def test_a_run_that_is_a_link_to_another_is_refused(tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / name).write_text("{}")
    (tmp_path / "run" / name).symlink_to(tmp_path / name)
    with pytest.raises(DataError, match="points outside its folder"):
        (load_run_info if name == "run.json" else load_config)(tmp_path / "run")


@pytest.mark.parametrize("protocol", [None, "s3rec"])
@pytest.mark.parametrize("linked", ["metrics", "metrics/test-s3rec.json"])
def test_a_table_that_is_a_link_to_that_of_another_run_is_not_compared(tmp_path, linked, protocol):
    (tmp_path / "other" / "metrics").mkdir(parents=True)
    (tmp_path / "other" / "metrics" / "test-s3rec.json").write_text("{}")
    place = tmp_path / "run" / linked
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "other" / linked)
    with pytest.raises(DataError, match="points outside its folder"):
        compare([tmp_path / "run"], protocol=protocol)
