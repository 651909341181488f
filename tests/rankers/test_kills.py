"""`recsys rank fit` that is killed, and two of them at once: rankers and bundles stay whole."""

import itertools
import shutil
import signal

import pytest

import recsys
from recsys.files.scratch import is_scratch
from recsys.rankers.fitted import load_ranker
from recsys.retrieval.bundle.loading import verify_bundle
from recsys.retrieval.bundle.versions import find_bundle
from tests.forked import Child

WORDS = [
    *("candidates.keep=40", "rows.folds=3", "rows.most=150", "ranker.num_trees=5"),
    *("ranker.least_rows=5", "ranker.threads=1", "features.neighbours=null"),
]
FIT = """
import sys
from pathlib import Path
import recsys
from tests.faults.injection import Fault
source, run, after, *words = sys.argv[1:]
if after != "never":  # so many changes of files in the source are made before the kill
    Fault("killed", int(after)).arm(Path(source))
recsys.rank_fit(source, None, words, run=run or None)
"""


@pytest.fixture
def copy(run, tmp_path):
    """The run, without rankers."""
    ignored = shutil.ignore_patterns("rankers", "ranking")
    return shutil.copytree(run, tmp_path / "run", ignore=ignored)


@pytest.fixture(scope="module")
def expected(run, place):
    """Seed -> the trees of a fit that nobody disturbs."""

    def trees(seed):
        found = recsys.rank_fit(run, None, [*WORDS, f"seed={seed}"], out=place / f"whole-{seed}")
        return (found.folder / "model" / "trees.txt").read_bytes()

    return {seed: trees(seed) for seed in (0, 1)}


def fit(source, after, seed, run=""):
    return Child("-c", FIT, source, run, after, *WORDS, f"seed={seed}")


def trees_in(folder):
    """Of a ranker, every byte of which is what was written."""
    load_ranker(folder)
    return (folder / "model" / "trees.txt").read_bytes()


def test_a_kill_leaves_the_ranker_of_before_or_the_new_one_and_the_same_command_goes_on(
    copy, expected
):
    folder = copy / "rankers" / "lightgbm"
    before = None
    for seed, step in ((0, 2), (1, 3)):  # where no ranker is, and where one is
        for killed in itertools.count():
            child = fit(copy, killed * step, seed)
            if not child.wait():
                break
            assert child.returncode == -signal.SIGKILL, child.stderr
            found = trees_in(folder) if folder.exists() else None
            assert found in (before, expected[seed])
        assert killed >= 3
        before = trees_in(folder)
        assert before == expected[seed]
        assert [path.name for path in folder.parent.iterdir()] == ["lightgbm"]


def test_of_two_at_once_one_stays_whole(copy, expected):
    folder = copy / "rankers" / "lightgbm"
    children = [fit(copy, "never", seed) for seed in (0, 1)]
    assert [child.wait() for child in children] == [0, 0], [child.stderr for child in children]
    assert trees_in(folder) in expected.values()
    assert [path.name for path in folder.parent.iterdir()] == ["lightgbm"]


def test_a_bundle_stays_whole_under_kills_and_two_at_once(run, tmp_path):
    shelf = tmp_path / "shelf"
    recsys.export(run, shelf, tiers="0:8:fp32:ram", tower=False)
    for after in (0, 5, 12):
        child = fit(shelf, after, 0, run)
        assert child.wait() == -signal.SIGKILL, child.stderr
        assert find_bundle(shelf).name == "v000001" and verify_bundle(shelf) == []
    children = [fit(shelf, "never", seed, run) for seed in (0, 1)]
    assert [child.wait() for child in children] == [0, 0], [child.stderr for child in children]
    versions = sorted(path for path in shelf.glob("v*") if not is_scratch(path))
    assert [path.name for path in versions] == ["v000001", "v000002", "v000003"]
    assert all(verify_bundle(version) == [] for version in versions)
    assert find_bundle(shelf).name == "v000003"
    assert len(recsys.load(shelf).recommend(["u1"], k=5, ranker=True)) == 5
