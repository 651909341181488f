"""What an error says of a path at which another kind of thing stands than was expected."""

import pytest

from recsys.data.clicks.manifest import CLICKS
from recsys.data.features.manifest import FEATURE_MANIFEST
from recsys.data.manifest import MANIFEST as DATASET
from recsys.files.kinds import MARKS, found_at
from recsys.library.sources.baselines import BASELINE
from recsys.rankers.fitted import MANIFEST as RANKER
from recsys.retrieval.bundle.manifest import MANIFEST as BUNDLE
from recsys.retrieval.bundle.versions import CURRENT
from recsys.runs.records import RUN
from recsys.studies.seed_runs.folder import SEEDS
from recsys.tuning.trials import SEARCH
from tests.command import call

DOORS = [
    ["columns", "PATH", "genres"],
    ["attach", "PATH", "PATH", "--modality", "text"],
    ["baselines", "PATH", "popularity"],
    ["train", "PATH"],
    ["tune", "PATH"],
    ["study", "PATH"],
    ["clicks", "PATH"],
    ["last-stage", "PATH", "PATH"],
    ["cut", "PATH", "out", "--granularity", "4"],
    ["calibrate", "PATH", "out"],
    ["update", "PATH", "PATH"],
    ["compatibility", "PATH", "PATH"],
    ["evaluate", "PATH"],
    ["compare", "PATH", "PATH"],
    ["compare", "--paired", "PATH"],
    ["report", "PATH"],
    ["recommend", "PATH", "--all", "--out", "top.csv"],
    ["show", "PATH"],
    ["rank", "evaluate", "PATH"],
    ["rank", "earlier", "PATH"],
    ["rank", "attach", "PATH", "PATH"],
    ["tradeoff", "PATH"],
    ["bits", "PATH"],
    ["export", "PATH", "out"],
    ["verify", "PATH"],
    ["push", "PATH", "duckdb:out"],
]
"""Verbs whose first path is something that recsys has made, or a config."""


def test_the_marks_are_the_files_by_which_each_kind_is_opened():
    own = {DATASET, CLICKS, RUN, SEEDS, BUNDLE, f"{CURRENT}/{BUNDLE}", RANKER, BASELINE, SEARCH}
    assert set(MARKS) == own | {FEATURE_MANIFEST}


@pytest.mark.parametrize("mark", MARKS)
def test_a_folder_is_known_by_its_mark_and_its_parent_by_what_it_holds(mark, tmp_path):
    (tmp_path / "one" / mark).parent.mkdir(parents=True)
    (tmp_path / "one" / mark).write_text("{}")
    assert found_at(tmp_path / "one") == f"it is {MARKS[mark]}"
    assert found_at(tmp_path) == f"it is a folder that holds {MARKS[mark]}: one"


def test_files_and_folders_without_a_mark_are_told_apart(tmp_path):
    (tmp_path / "full").write_text("text")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    assert found_at(tmp_path / "none") == "nothing is there"
    assert found_at(tmp_path / "full") == "it is a file"
    assert found_at(tmp_path / "empty") == "it is an empty file"
    assert found_at(tmp_path / "folder") == "it is an empty folder"
    assert found_at(tmp_path) == "it is a folder of something else"


@pytest.mark.parametrize("words", DOORS, ids=" ".join)
def test_every_door_says_what_it_found(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feature").mkdir()
    (tmp_path / "feature" / FEATURE_MANIFEST).write_text("{}")
    for path, said in (("none", "nothing is there"), ("feature", "a feature of a dataset folder")):
        printed = call(*(path if word == "PATH" else word for word in words), code=1)
        assert printed.startswith("error: ") and path in printed and said in printed


CONFIGS = {
    "train": "data: data/x\nmodel: {}",
    "study": "run: configs/x.yaml",
    "last-stage": "stages: {}",
    "clicks": "data: data/x\nrankers: []",
    "rank fit": "candidates: {keep: 20}\nranker: {name: lightgbm}",
}


@pytest.mark.parametrize("verb", CONFIGS)
def test_a_config_of_another_verb_is_named_as_one(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for other, text in CONFIGS.items():
        if other == verb:
            continue
        (tmp_path / "config.yaml").write_text(text)
        run = ["run"] if verb in ("last-stage", "rank fit") else []
        printed = call(*verb.split(), *run, "config.yaml", code=1)
        assert f"it is a config of `recsys {other}`" in printed
        assert "unknown key" not in printed and printed.count("\n") == 1


def test_what_is_no_config_is_told_in_a_line(tmp_path):
    path = tmp_path / "config.yaml"
    for written, said in (
        (b"", "data: is missing"),
        (b"- 1\n", "holds a list"),
        (b"words\n", "holds 'words' alone"),
        (b"a: [\n", "is not valid YAML: expected the node content"),
        (b"\xff\xfe\x00", "is not text in UTF-8"),
    ):
        path.write_bytes(written)
        printed = call("train", path, code=1)
        assert said in printed and printed.count("\n") <= 2
