"""Versions of a bundle: listed, rolled back, pruned, compared."""

import numpy as np
import polars as pl
import pytest

from recsys.errors import ChecksumError, ConfigError, DataError
from recsys.library.drift import drift_of
from recsys.recipes.bundles.shelf import list_versions, prune, rollback
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.versions import current_version
from recsys.retrieval.bundle.writing import BundleSource, UserSource, write_bundle
from tests.command import call


def write(shelf, items, ids, seed=0):
    users = UserSource(
        vectors=np.random.default_rng(9).normal(size=(5, 4)).astype(np.float32),
        ids=pl.Series([f"u{n}" for n in range(5)]),
        seen_items=np.arange(5, dtype=np.int32),
        seen_offsets=np.arange(6),
    )
    source = BundleSource(items=items, item_ids=pl.Series(ids), sizes=(2, 4), users=users)
    return write_bundle(shelf, source, parse_tiers("0:4:fp32:ram", 4))


@pytest.fixture
def shelf(tmp_path):
    """Four versions."""
    vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    for _ in range(4):
        write(tmp_path / "b", vectors, range(20))
    return tmp_path / "b"


def names(shelf):
    return [each.name for each in list_versions(shelf)]


def test_versions_are_listed_with_where_they_come_from(shelf):
    found = list_versions(shelf)
    assert [(each.name, each.manifest.parent) for each in found] == [
        ("v000001", None), ("v000002", "v000001"), ("v000003", "v000002"), ("v000004", "v000003"),
    ]  # fmt: skip
    assert [each.current for each in found] == [False, False, False, True]
    assert found[0].nbytes > 20 * 4 * 4


def test_rolling_back_takes_the_version_before_or_the_one_that_is_named(shelf):
    assert rollback(shelf) == "v000003" == current_version(shelf)
    assert rollback(shelf) == "v000002"
    assert rollback(shelf, "v000004") == "v000004"
    with pytest.raises(DataError, match="no version v000009; it has v000001, v000002"):
        rollback(shelf, "v000009")
    rollback(shelf, "v000001")
    with pytest.raises(DataError, match="no version before v000001"):
        rollback(shelf)


def test_a_damaged_version_is_not_rolled_back_to(shelf):
    (shelf / "v000003" / "ids" / "items.parquet").write_bytes(b"x")
    with pytest.raises(ChecksumError, match="so v000004 stays"):
        rollback(shelf)
    assert current_version(shelf) == "v000004"


def test_pruning_keeps_the_newest_the_current_and_the_one_before_it(shelf):
    rollback(shelf, "v000002")
    assert prune(shelf, keep=1) == ["v000003"]
    assert names(shelf) == ["v000001", "v000002", "v000004"]
    assert prune(shelf, keep=1) == []
    with pytest.raises(ConfigError, match="keep one at least"):
        prune(shelf, keep=0)
    with pytest.raises(DataError, match="recsys export"):
        prune(shelf.parent / "nothing", keep=1)


def test_drift_tells_what_changed(shelf):
    same = drift_of(shelf / "v000001", shelf / "v000002")
    assert same.items == (20, 0, 0)
    assert same.lists == same.neighbours == 1.0
    assert same.cosine == pytest.approx({2: 1.0, 4: 1.0})
    vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    moved = write(shelf, np.concatenate([-vectors[1:], vectors[:4]]), range(1, 24))
    other = drift_of(shelf / "v000001", moved)
    assert other.items == (19, 1, 4)
    assert other.cosine == pytest.approx({2: -1.0, 4: -1.0})
    assert other.lists < 0.8


def test_the_verb_lists_goes_back_and_compares(shelf):
    told = call("bundle", "list", shelf)
    assert "current" in told and "v000004" in told
    assert "v000003" in call("bundle", "rollback", shelf)
    assert "100.0%" in call("bundle", "diff", shelf, "v000001", "v000002")
