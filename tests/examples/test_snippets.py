"""What README and docs show is run: Python as it stands, commands as far as their options."""

import re
import shlex

import numpy as np
import pytest
import yaml
from typer.main import get_command

from recsys.cli import app
from recsys.config import parse
from recsys.studies.config import StudyConfig
from recsys.studies.panel.config import PanelConfig
from tests.examples.conftest import WIDTH, named_items
from tests.examples.pages import PAGES, ROOT, blocks

PYTHON = {page.name: blocks(page, "python") for page in PAGES if blocks(page, "python")}
COMMANDS = [
    line.partition(" #")[0]
    for page in PAGES
    for text in blocks(page, "")
    for line in text.replace("\\\n", " ").splitlines()
    if re.match(r"(recsys|torchrun\b.* -m recsys) ", line)
]
STUDIES = [
    text for page in PAGES for text in blocks(page, "yaml") if re.search(r"^run:", text, re.M)
]
VERBS = get_command(app).commands


def test_there_are_snippets_and_commands():
    assert len(PYTHON) >= 6 and len(COMMANDS) >= 30 and STUDIES and len(named_items()) >= 2


@pytest.mark.parametrize("page", PYTHON)
def test_the_snippets_of_a_page_run_in_their_order(page, place, monkeypatch):
    monkeypatch.chdir(place)
    names = {"encoded": np.random.default_rng(1).normal(size=(4, WIDTH))}
    for number, text in enumerate(PYTHON[page], 1):
        exec(compile(text, f"{page}-{number}", "exec"), names)
        if "found" in names:
            check_lists(names)


def check_lists(names):
    """Nobody is recommended what the history holds."""
    items, offsets = names["histories"]
    lists = names["found"].items
    assert lists.shape == (len(offsets) - 1, 10) and (lists >= 0).all()
    for row, listed in enumerate(lists):
        assert not set(listed) & set(items[offsets[row] : offsets[row + 1]])
    assert names["recommended"] == names["catalogue"].ids(lists)


def test_every_search_that_is_shown_has_filters():
    """A search without filters finds what users had already: no snippet shows one."""
    texts = [text for found in PYTHON.values() for text in found]
    searches = [line for text in texts for line in text.splitlines() if ".search(" in line]
    assert searches and all("filters=" in line for line in searches)


def test_pages_include_files_by_lines_that_are_read_as_such():
    """ruff format takes `--8<-- "FILE"` in a block of python for an expression, and spaces it."""
    lines = [line.strip() for page in PAGES for line in page.read_text("utf-8").splitlines()]
    included = [line for line in lines if re.match(r"--\s*8\s*<", line)]
    assert len(included) >= 10 and all(line.startswith('--8<-- "') for line in included)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_has_the_options_it_is_shown_with(line):
    _, verb, *arguments = shlex.split(line[line.index("recsys ") :])
    with VERBS[verb].make_context(verb, arguments) as context:
        assert not context.args  # nothing is left over


def test_every_link_of_the_readme_leads_to_a_file():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text("utf-8"))
    assert len(links) > 15 and [link for link in links if not (ROOT / link).is_file()] == []


def test_the_page_of_the_command_line_has_every_verb():
    rows = re.findall(r"^\| `recsys ([\w-]+)", (ROOT / "docs/command-line.md").read_text(), re.M)
    assert set(rows) == set(VERBS)


@pytest.mark.parametrize("text", STUDIES)
def test_a_study_that_is_shown_can_be_read(text):
    tree = yaml.safe_load(text)
    kind = PanelConfig if "panel" in tree else StudyConfig
    assert parse(kind, tree, "the page").run.is_file()
