"""The README's map: every file of the package has its line, and no line names one that is gone."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAP = (ROOT / "README.md").read_text("utf-8").partition("\n## Map\n")[2].partition("\n## ")[0]
PACKAGES = ("recsys/", "data_prep/")
LINES = re.findall(r"^[ \d-] {2}(\S+\.py) +(.+)$", MAP, flags=re.M)


def test_every_module_has_one_line_which_is_what_it_says_of_itself():
    told = [line for line in LINES if line[0].startswith(PACKAGES)]
    wanted = [
        (path.relative_to(ROOT).as_posix(), ast.get_docstring(ast.parse(path.read_text("utf-8"))))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    ]
    assert sorted(told) == sorted((name, text.partition("\n")[0]) for name, text in wanted)


def test_no_line_names_a_file_that_is_gone():
    assert len(LINES) > 200
    assert [name for name, _ in LINES if not (ROOT / name).is_file()] == []
