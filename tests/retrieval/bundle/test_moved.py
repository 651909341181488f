"""Bundles on another machine, by ways that know no links."""

import shutil
import subprocess
import zipfile

import pytest

from recsys.errors import DataError
from recsys.retrieval.bundle.loading import load_bundle, verify_bundle
from recsys.retrieval.bundle.versions import find_bundle, is_bundle
from tests.retrieval.bundles import write


def by_tar(shelf, target):
    """As `tar -h` does: a link becomes what it names."""
    target.mkdir()
    packed = subprocess.Popen(["tar", "-chf", "-", "-C", shelf, "."], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-xf", "-", "-C", target], stdin=packed.stdout, check=True)
    packed.stdout.close()
    assert packed.wait() == 0 and not (target / "current").is_symlink()


def by_zip(shelf, target):
    """As most programs zip a folder: files alone, those behind a link too."""
    with zipfile.ZipFile(target.with_suffix(".zip"), "w") as packed:
        for path in sorted([*shelf.rglob("*"), *(shelf / "current").rglob("*")]):
            if path.is_file() and not path.name.startswith("."):
                packed.write(path, path.relative_to(shelf))
    with zipfile.ZipFile(target.with_suffix(".zip")) as packed:
        packed.extractall(target)


def by_upload(shelf, target):
    """As stores of objects take a folder: no links, no empty folders, no hidden files."""
    shutil.copytree(shelf, target, ignore=shutil.ignore_patterns("current", ".*"))


@pytest.mark.parametrize("move", [by_tar, by_zip, by_upload])
def test_a_bundle_that_was_moved_is_read_and_exported_to_again(tmp_path, move):
    version, made = write(tmp_path / "out")
    moved = tmp_path / "moved"
    move(tmp_path / "out", moved)
    assert is_bundle(moved) and verify_bundle(moved) == []
    assert load_bundle(moved).ids("item")["item_id"].to_list() == made.item_ids.to_list()
    newest, _ = write(moved, seed=5)
    assert find_bundle(moved) == newest == moved / max(p.name for p in moved.glob("v*"))
    for path in moved.glob("v*"):
        assert verify_bundle(path) == []
    files = load_bundle(version).manifest.files
    assert load_bundle(moved / "v000001").manifest.files == files


def test_several_versions_without_a_current_one_are_named(tmp_path):
    write(tmp_path / "out")
    write(tmp_path / "out", seed=5)
    by_upload(tmp_path / "out", tmp_path / "moved")
    with pytest.raises(DataError, match=r"name one of them, .*: v000001, v000002"):
        load_bundle(tmp_path / "moved")
    assert is_bundle(tmp_path / "moved") and verify_bundle(tmp_path / "moved" / "v000002") == []
    newest, _ = write(tmp_path / "moved", seed=6)
    assert find_bundle(tmp_path / "moved") == newest


def test_a_folder_that_is_no_version_is_not_replaced(tmp_path):
    write(tmp_path / "out")
    (tmp_path / "out" / "current").unlink()
    (tmp_path / "out" / "current").mkdir()
    (tmp_path / "out" / "current" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="move it away"):
        write(tmp_path / "out")
    assert (tmp_path / "out" / "current" / "thesis.txt").is_file()
