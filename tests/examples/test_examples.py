import runpy
from pathlib import Path

import pytest

from recsys.runs.records import load_run_info

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_quickstart_ends_with_a_report(tmp_path, capsys):
    module = runpy.run_path(str(EXAMPLES / "quickstart.py"))
    page = module["main"](tmp_path)
    assert page.name == "report.html" and page.is_file()
    printed = capsys.readouterr().out
    assert " 64 coordinates: ndcg@10 0." in printed and "item vectors (500, 64)" in printed


@pytest.mark.slow
def test_two_agents_on_loopback_train_one_run(tmp_path, capsys):
    module = runpy.run_path(str(EXAMPLES / "two_hosts.py"))
    run = module["main"](tmp_path)
    assert load_run_info(run)["state"] == "finished" and load_run_info(run)["processes"] == 2
    assert "2 hosts, 2 processes: ndcg@10 0." in capsys.readouterr().out
