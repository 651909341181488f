"""Bundles: what comes back, versions, damage of every kind, and death amid an export."""

import json
import random
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from recsys.errors import ChecksumError, ConfigError, DataError, GranularityError
from recsys.retrieval.bundle.loading import load_bundle, verify_bundle
from recsys.retrieval.bundle.manifest import MANIFEST, SEAL, seal
from recsys.retrieval.bundle.tiers import TierSpec, parse_tiers
from recsys.retrieval.bundle.versions import find_bundle, point_to
from recsys.retrieval.bundle.writing import write_bundle
from recsys.retrieval.codecs.registry import CODECS, find_codec
from tests.forked import Child
from tests.retrieval.bundles import TIERS, source, vectors, write


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write(tmp_path_factory.mktemp("made") / "out")


def test_fp32_tiers_give_back_the_very_vectors(tmp_path):
    folder, made = write(tmp_path / "out", "0:8:fp32:ram,8:32:fp32:mmap")
    bundle = load_bundle(folder)
    np.testing.assert_array_equal(bundle.items.decode(slice(None), 0, 32), made.items)
    rows = np.array([7, 3, 3, 299])
    np.testing.assert_array_equal(bundle.items.decode(rows, 5, 20), made.items[rows, 5:20])
    np.testing.assert_array_equal(bundle.users.decode(slice(None), 0, 32), made.users.vectors)


@pytest.mark.parametrize("codec", [*CODECS, "pq4x4"])
def test_a_tier_is_its_codec_applied_to_its_slice_alone(tmp_path, codec):
    folder, made = write(tmp_path / "out", f"0:8:{codec}:mmap,8:32:{codec}:ram")
    bundle, kind = load_bundle(folder), find_codec(codec)
    part = np.ascontiguousarray(made.items[:, 8:32])
    shared = kind.fit(part)
    wanted = kind.decode(kind.encode(part, shared), shared, 24)
    np.testing.assert_array_equal(bundle.items.decode(slice(None), 8, 32), wanted)
    entry = bundle.manifest.items.tiers[1]
    assert entry.max_abs_error == pytest.approx(np.abs(wanted - part).max(), rel=1e-6)


def test_writing_block_by_block_gives_what_writing_at_once_gives(tmp_path, monkeypatch):
    tiers = "0:8:int8:ram,8:16:int8-coordinate:ram,16:32:int4:mmap"
    whole, _ = write(tmp_path / "whole", tiers, normalize=True)
    monkeypatch.setattr("recsys.retrieval.codecs.base.BLOCK", 64)
    blocks, _ = write(tmp_path / "blocks", tiers, normalize=True)
    first, second = load_bundle(whole).manifest, load_bundle(blocks).manifest
    assert first.files.keys() == second.files.keys() and len(first.files) > 10
    for name, entry in first.files.items():
        assert entry.sha256 == second.files[name].sha256, name


def test_norms_are_those_of_the_prefixes_as_stored(tmp_path):
    bundle = load_bundle(write(tmp_path / "out", normalize=True)[0])
    assert bundle.manifest.sizes == (4, 8, 16, 32)
    for size in bundle.manifest.sizes:
        stored = bundle.items.decode(slice(None), 0, size).astype(np.float64)
        np.testing.assert_allclose(bundle.norms(size), np.linalg.norm(stored, axis=1), rtol=1e-6)
    with pytest.raises(GranularityError, match="12 is not among"):
        bundle.norms(12)


def test_ids_and_histories_come_back(made):
    folder, source = made
    bundle = load_bundle(folder)
    assert bundle.ids("item")["item_id"].to_list() == source.item_ids.to_list()
    assert bundle.ids("user")["user_id"].to_list() == source.users.ids.to_list()
    items, offsets = bundle.seen
    np.testing.assert_array_equal(items, source.users.seen_items)
    np.testing.assert_array_equal(offsets, source.users.seen_offsets)


def test_residence_decides_what_is_read_into_memory(made):
    tiers = load_bundle(made[0]).items.parts
    mapped = [isinstance(t.vectors.rows[k], np.memmap) or _base(t.vectors.rows[k])
              for t, k in zip(tiers, ("codes", "values", "values"), strict=True)]  # fmt: skip
    assert mapped == [False, False, True]
    assert load_bundle(made[0]).items.bytes_per_row("ram") == 8 + 4 + 16


def _base(array):
    return isinstance(array.base, np.memmap)


def test_each_export_is_a_new_version_and_current_names_the_last(tmp_path):
    first, _ = write(tmp_path / "out")
    second, _ = write(tmp_path / "out", seed=5)
    assert (first.name, second.name) == ("v000001", "v000002")
    assert find_bundle(tmp_path / "out") == second
    point_to(tmp_path / "out", "v000001")
    assert find_bundle(tmp_path / "out") == first and verify_bundle(tmp_path / "out") == []
    with pytest.raises(DataError, match="no version 'v000009'"):
        point_to(tmp_path / "out", "v000009")


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_refused_version_leaves_nothing_where_there_was_nothing(tmp_path):
    def refuse(*_):
        raise ConfigError("no such index")

    for out in (tmp_path / "out", tmp_path / "above" / "out"):
        with pytest.raises(ConfigError, match="no such index"):
            write_bundle(out, source(), parse_tiers(TIERS, 32), additions=[refuse])
        assert not list(tmp_path.iterdir())
    first, _ = write(tmp_path / "out")
    with pytest.raises(ConfigError, match="no such index"):
        write_bundle(tmp_path / "out", source(), parse_tiers(TIERS, 32), additions=[refuse])
    assert find_bundle(tmp_path / "out") == first  # what stood there stays
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no such index"):
        write_bundle(tmp_path / "empty", source(), parse_tiers(TIERS, 32), additions=[refuse])
    assert (tmp_path / "empty").is_dir()  # somebody else has made it


def test_a_writer_that_waits_for_one_that_is_refused_makes_the_shelf_anew(tmp_path):
    inside, go = threading.Event(), threading.Event()

    def refuse(*_):
        inside.set()
        go.wait(30)
        raise ConfigError("no such index")

    with ThreadPoolExecutor(2) as pool:
        tiers = parse_tiers(TIERS, 32)
        first = pool.submit(write_bundle, tmp_path / "out", source(), tiers, additions=[refuse])
        inside.wait(30)
        second = pool.submit(write, tmp_path / "out")
        time.sleep(0.3)  # it waits for the lock
        go.set()
        assert isinstance(first.exception(), ConfigError)
        assert second.result()[0].name == "v000001"


def test_what_stands_there_and_is_no_bundle_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="holds no bundles"):
        write(tmp_path / "out")
    assert _names(tmp_path / "out") == ["thesis.txt"]


def test_a_run_folder_which_is_locked_too_takes_no_versions(tmp_path):
    for name in (".lock", "run.json"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="holds no bundles"):
        write(tmp_path)
    assert _names(tmp_path) == [".lock", "run.json"]


def test_a_failed_export_leaves_the_older_version_current(tmp_path):
    first, _ = write(tmp_path / "out")
    with pytest.raises(DataError, match="too few"):
        write(tmp_path / "out", "0:32:pq:ram", num_items=100)
    assert find_bundle(tmp_path / "out") == first
    assert _names(tmp_path / "out") == [".lock", "current", "v000001"]


def _damage(folder, rng, other):
    """One random act of damage; says what was done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(files)
    act = rng.choice(["flip", "flip", "flip", "truncate", "append", "swap", "delete", "foreign"])
    data = path.read_bytes()
    if act == "flip":
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    elif act == "truncate":
        path.write_bytes(data[: rng.randrange(len(data))])
    elif act == "append":
        path.write_bytes(data + b"\0")
    elif act == "swap":
        second = rng.choice([file for file in files if file.read_bytes() != data])
        path.write_bytes(second.read_bytes())
        second.write_bytes(data)
    elif act == "foreign":
        path.write_bytes((other / path.relative_to(folder)).read_bytes())
        if path.read_bytes() == data:  # the same in both: no damage was done, so do some
            path.unlink()
    else:
        path.unlink()
    return f"{act} {path.name}"


def test_a_thousand_random_corruptions_are_found_and_none_loads(tmp_path):
    rng = random.Random(7)
    folder, _ = write(tmp_path / "out", normalize=True, num_items=40, num_users=5)
    other, _ = write(tmp_path / "other", normalize=True, num_items=40, num_users=5, seed=9)
    pristine = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for _ in range(1000):
        done = _damage(folder, rng, other)
        assert verify_bundle(folder) != [], done
        with pytest.raises(DataError):
            load_bundle(folder)
        for path, data in pristine.items():
            if not path.is_file() or path.read_bytes() != data:
                path.write_bytes(data)
    assert verify_bundle(folder) == []


def test_every_single_byte_of_the_manifest_is_watched(tmp_path):
    folder, _ = write(tmp_path / "out", num_items=20, num_users=2)
    for name in (MANIFEST, SEAL):
        data = (folder / name).read_bytes()
        for at in range(0, len(data), 7):
            (folder / name).write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            assert verify_bundle(folder) != []
        (folder / name).write_bytes(data)
    assert verify_bundle(folder) == []


def test_a_file_that_was_not_exported_is_reported(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "copy")
    (tmp_path / "copy" / "items" / "extra").write_text("")
    assert verify_bundle(tmp_path / "copy") == ["items/extra was not written by the export"]


def test_a_bundle_of_another_schema_is_refused_even_when_sealed(made, tmp_path):
    copy = shutil.copytree(made[0], tmp_path / "copy")
    tree = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(tree | {"schema_version": 99}))
    seal(copy)
    with pytest.raises(DataError, match="schema_version 99, this version reads 1"):
        load_bundle(copy)
    (copy / MANIFEST).write_text(json.dumps(tree | {"surprise": 1}))
    seal(copy)
    assert "unknown key" in verify_bundle(copy)[0]


def test_no_folder_and_a_dangling_current_are_said(tmp_path):
    with pytest.raises(DataError, match="is not a bundle"):
        load_bundle(tmp_path)
    folder, _ = write(tmp_path / "out")
    shutil.rmtree(folder)
    with pytest.raises(DataError, match="names v000001, which is not a version"):
        load_bundle(tmp_path / "out")


CHILD = """
import sys
from tests.retrieval.bundles import write
from pathlib import Path
write(Path(sys.argv[1]).parent / "first", num_items=3000)  # imports, caches
print("ready", flush=True)
while True:
    write(Path(sys.argv[1]), num_items=3000, normalize=True)
"""


def test_sigkill_at_random_points_never_leaves_a_half_bundle(tmp_path):
    rng, shelf, finished = random.Random(3), tmp_path / "out", 0
    for _ in range(8):
        child = Child("-c", CHILD, shelf)
        while child.stdout != "ready\n":
            assert child.poll() is None, child.stderr
            time.sleep(0.01)
        time.sleep(rng.random() * 0.4)
        assert child.kill() == -signal.SIGKILL
        versions = sorted(shelf.glob("v*"))
        finished += bool(versions)
        for version in versions:
            assert verify_bundle(version) == [], version
        if (shelf / "current").is_symlink():
            assert verify_bundle(shelf) == []
    assert finished, "every child was killed before it finished anything"
    write(shelf)
    assert not list(shelf.glob(".*.tmp")) and verify_bundle(shelf) == []


def test_tiers_are_read_as_they_are_written():
    specs = parse_tiers("0:32:int8:ram, 32:256:fp16:mmap", 256)
    assert specs == (TierSpec(0, 32, "int8", "ram"), TierSpec(32, 256, "fp16", "mmap"))
    assert ",".join(map(str, specs)) == "0:32:int8:ram,32:256:fp16:mmap"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8:32:int8:ram", "does not begin where"),
        ("0:8:int8:ram,9:32:int8:ram", "does not begin where"),
        ("0:8:int8:ram,4:32:int8:ram", "does not begin where"),
        ("0:0:int8:ram", "does not begin where"),
        ("0:64:int8:ram", "beyond the 32"),
        ("0:32:int8:disk", "'disk' is not among"),
        ("0:32:int8", "not of the form"),
        ("0:x:int8:ram", "not of the form"),
        ("0:32:int7:ram", "codec 'int7'"),
    ],
)
def test_tiers_that_cannot_be_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_tiers(text, 32)


def test_sources_that_do_not_fit_together_are_refused(tmp_path):
    made, tiers = source(), parse_tiers(TIERS, 32)
    with pytest.raises(DataError, match="300 item vectors, but 299"):
        write_bundle(tmp_path / "a", replace(made, item_ids=made.item_ids[1:]), tiers)
    users = replace(made.users, vectors=vectors(3))
    with pytest.raises(DataError, match="3 user vectors"):
        write_bundle(tmp_path / "b", replace(made, users=users), tiers)
    broken = made.items.copy()
    broken[5, 3] = np.inf
    with pytest.raises(DataError, match="not finite"):
        write_bundle(tmp_path / "c", replace(made, items=broken), tiers)
    assert not (tmp_path / "c" / "current").exists()


def test_damage_is_an_error_that_names_the_file_and_the_remedy(made, tmp_path):
    copy = shutil.copytree(made[0], tmp_path / "copy")
    (copy / "ids" / "items.parquet").unlink()
    with pytest.raises(ChecksumError, match=r"items.parquet is missing"):
        load_bundle(copy)
