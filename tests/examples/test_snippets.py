"""What README and docs show is run: Python as it stands, commands as far as their options."""

import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.main import get_command

import recsys
from recsys.cli import app
from recsys.data.dataset import write_dataset
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_vectors
from tests.recipes.test_verbs import config, frame

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WIDTH = 3


def blocks(page, language):
    found = re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    return [(f"{page.name}-{number}", text) for number, text in enumerate(found, 1)]


PYTHON = [block for page in PAGES for block in blocks(page, "python")]
COMMANDS = [
    line.partition(" #")[0]
    for page in PAGES
    for _, text in blocks(page, "")
    for line in text.replace("\\\n", " ").splitlines()
    if re.match(r"(recsys|torchrun\b.* -m recsys) ", line)
]


def named_items():
    """Every item that a snippet names, by the quotes around it."""
    return sorted({name for _, text in PYTHON for name in re.findall(r'"(B[0-9A-Z]{9})"', text)})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as the README's is: runs/beauty_content and its bundle, of walks over 25 items."""
    place = tmp_path_factory.mktemp("readme")
    ids = [*named_items(), *(f"other {i}" for i in range(25))][:25]
    walks = frame().with_columns(pl.col("item_id").replace_strict(dict(enumerate(ids))))
    data = write_dataset(place / "data", walks, name="walks").folder
    vectors = np.random.default_rng(0).normal(size=(25, WIDTH))
    write_vectors(data, "text", vectors, np.ones(25, bool), FeatureOrigin(source="made by hand"))
    model = {
        "granularities": {"sizes": [4, 8]}, "history_length": 8, "items": {"features": ["text"]},
    }  # fmt: skip
    run = recsys.train(
        config(data, trainer={"epochs": 1}, model=model), out=place / "runs/beauty_content"
    )
    recsys.export(run, place / "bundles/beauty")
    return place


def test_there_are_snippets_and_commands():
    assert len(PYTHON) >= 2 and len(COMMANDS) >= 15 and len(named_items()) >= 2


@pytest.mark.parametrize("name, text", PYTHON, ids=[name for name, _ in PYTHON])
def test_a_snippet_runs_and_recommends_nothing_that_users_had(name, text, place, monkeypatch):
    monkeypatch.chdir(place)
    names = {"encoded": np.random.default_rng(1).normal(size=(4, WIDTH))}
    exec(compile(text, name, "exec"), names)
    if "found" in names:
        items, offsets = names["histories"]
        lists = names["found"].items
        assert lists.shape == (len(offsets) - 1, 10) and (lists >= 0).all()
        for row, listed in enumerate(lists):
            assert not set(listed) & set(items[offsets[row] : offsets[row + 1]])
        assert names["recommended"] == names["catalogue"].ids(lists)


def test_the_snippet_of_serving_is_among_them():
    """A search without filters finds what users had already: no snippet shows one."""
    serving = [text for _, text in PYTHON if ".search(" in text]
    assert serving and all("filters=" in text for text in serving)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_has_the_options_it_is_shown_with(line):
    _, verb, *arguments = shlex.split(line[line.index("recsys ") :])
    command = get_command(app).commands[verb]
    with command.make_context(verb, arguments) as context:
        assert context.params
