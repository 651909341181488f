"""Bundles with sums that fit, whose manifest or links name what is not theirs."""

import json
import shutil

import numpy as np
import pytest

from recsys.errors import DataError
from recsys.retrieval.bundle.loading import load_bundle, verify_bundle
from recsys.retrieval.bundle.manifest import MANIFEST, files_named, read_manifest, seal
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.versions import find_bundle
from recsys.retrieval.bundle.writing import write_bundle
from recsys.retrieval.index.building import index_of
from tests.retrieval.bundles import TIERS, source, write


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    tiers = parse_tiers(TIERS, 32)
    additions = [index_of("ivf,sq8", 8, None)]
    shelf = tmp_path_factory.mktemp("made") / "out"
    return write_bundle(shelf, source(normalize=True), tiers, additions=additions)


@pytest.fixture
def bundle(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "bundle")


def replaced(tree, old, new):
    """A JSON tree with one string in place of another, wherever it stands as a value."""
    if isinstance(tree, dict):
        return {key: replaced(value, old, new) for key, value in tree.items()}
    if isinstance(tree, list):
        return [replaced(value, old, new) for value in tree]
    return new if tree == old else tree


def reseal(bundle, tree):
    (bundle / MANIFEST).write_text(json.dumps(tree))
    seal(bundle)


def refused(bundle, message):
    assert any(message in line for line in verify_bundle(bundle))
    for verify in (True, False):
        with pytest.raises(DataError, match=message):
            load_bundle(bundle, verify=verify)


def test_no_file_outside_the_bundle_is_read_whatever_names_it(bundle):
    manifest = read_manifest(bundle)
    text = json.loads((bundle / MANIFEST).read_text())
    names = sorted(set(files_named(manifest)))
    assert len(names) == len(manifest.files) > 12  # every file of the bundle is one that is named
    for name in names:
        outside = bundle.parent / "outside"
        shutil.copyfile(bundle / name, outside)
        for given in (str(outside), "../outside"):
            # Named in place of the bundle's own, unlisted at first, then with a sum that fits.
            tree = replaced(text, name, given)
            reseal(bundle, tree)
            refused(bundle, "lists no checksum of")
            tree["files"] = {**text["files"], given: text["files"][name]}
            reseal(bundle, tree)
            refused(bundle, "a relative path inside the folder is expected")


def test_a_file_or_folder_that_is_a_link_to_elsewhere_is_refused(bundle):
    for name in ("ids/items.parquet", "users", MANIFEST):
        away = (bundle / name).rename(bundle.parent / "away")
        (bundle / name).symlink_to(away)
        refused(bundle, "points outside its folder")
        (bundle / name).unlink()
        away.rename(bundle / name)
    (bundle / "more").symlink_to(bundle.parent)
    assert verify_bundle(bundle) == ["more was not written by the export"]


def test_a_link_of_the_current_version_to_elsewhere_is_refused(pristine, tmp_path):
    shelf = shutil.copytree(pristine.parent, tmp_path / "out", symlinks=True)
    assert find_bundle(shelf) == shelf / "v000001"
    (shelf / "current").unlink()
    (shelf / "current").symlink_to(pristine)
    with pytest.raises(DataError, match="is not a version in"):
        load_bundle(shelf)


@pytest.mark.parametrize("key, value", [
    ("dtype", "|O"), ("dtype", "<f8"), ("offset", -4), ("shape", [-1, 8]),
])  # fmt: skip
def test_an_array_of_another_kind_is_refused(bundle, key, value):
    tree = json.loads((bundle / MANIFEST).read_text())
    tree["items"]["tiers"][1]["rows"]["values"][key] = value
    reseal(bundle, tree)
    refused(bundle, "items.tiers.1.rows.values")


def test_an_array_that_ends_behind_its_file_is_refused(bundle):
    tree = json.loads((bundle / MANIFEST).read_text())
    tree["items"]["tiers"][1]["rows"]["values"]["shape"] = [10**9, 8]
    reseal(bundle, tree)
    with pytest.raises(DataError, match="fewer than"):
        load_bundle(bundle)


def test_a_bundle_behind_a_link_is_read(bundle):
    (bundle.parent / "link").symlink_to(bundle)
    found = load_bundle(bundle.parent / "link")
    assert np.isfinite(found.items.decode(slice(None), 0, 32)).all()
    assert verify_bundle(bundle.parent / "link") == []


def another(array, **changes):
    array.update(changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda tier: another(next(iter(tier["rows"].values())), dtype="<i4"),
        lambda tier: next(iter(tier["rows"].values()))["shape"].reverse(),
        lambda tier: another(tier, codec="fp32"),
        lambda tier: another(tier, codec="int4"),
    ],
    ids=["dtype", "shape", "fp32", "int4"],
)
def test_arrays_that_the_codec_does_not_write_are_refused(bundle, change):
    tree = json.loads((bundle / MANIFEST).read_text())
    change(tree["items"]["tiers"][0])
    reseal(bundle, tree)
    with pytest.raises(DataError, match=r"writes|holds|bytes"):
        load_bundle(bundle).items.decode(slice(None), 0, 8)


@pytest.mark.parametrize(("written", "told"), [("pq4x4", "pq4"), ("pq4", "pq4x4"), ("pq4", "pq8")])
def test_codebooks_of_other_parts_or_of_other_centroids_are_refused(tmp_path, written, told):
    bundle, _ = write(tmp_path / "out", f"0:8:{written}:ram,8:32:fp16:mmap")
    tree = json.loads((bundle / MANIFEST).read_text())
    tree["items"]["tiers"][0]["codec"] = told
    reseal(bundle, tree)
    with pytest.raises(DataError, match=r"codebooks of shape \(4, .* is expected"):
        load_bundle(bundle)
