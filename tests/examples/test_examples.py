import runpy
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_quickstart_ends_with_a_report(tmp_path, capsys):
    module = runpy.run_path(str(EXAMPLES / "quickstart.py"))
    page = module["main"](tmp_path)
    assert page.name == "report.html" and page.is_file()
    printed = capsys.readouterr().out
    assert " 64 coordinates: ndcg@10 0." in printed and "item vectors (500, 64)" in printed
