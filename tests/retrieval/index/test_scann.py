"""ScaNN as a first stage: what it finds, filters, files in a bundle, what is refused."""

import builtins
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from recsys.errors import ConfigError, DataError, InstallationError
from recsys.retrieval.bundle.loading import load_bundle, verify_bundle
from recsys.retrieval.bundle.manifest import MANIFEST, files_named, seal
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import write_bundle
from recsys.retrieval.bundle_funnel import open_funnel
from recsys.retrieval.filters import make_filters
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.index.building import (
    build_index,
    index_of,
    measuring_users,
    open_index,
    prefixes,
    tune_index,
)
from recsys.retrieval.index.choosing import kinds_for
from recsys.retrieval.index.kinds import num_lists_for, parse_kind, recall_of
from tests.retrieval.bundles import TIERS, source, vectors
from tests.retrieval.index.indexes import catalogue, exact, users_of

N, SIZE = 2000, 8
LEAVES = num_lists_for(N)
METRIC = pytest.mark.parametrize("cosine", [False, True], ids=["dot", "cosine"])
MADE = {}


def built(kind="scann", cosine=False, leaves=None):
    """An index over 8 coordinates that visits all leaves, or so many."""
    if (kind, cosine) not in MADE:
        MADE[kind, cosine] = build_index(catalogue(cosine, N), kind, SIZE, threads=2)
    index = MADE[kind, cosine]
    index.search["leaves"] = leaves or index.limit
    return index


def free(count):
    return make_filters(count, N)


def sets(found):
    return [set(row[row >= 0].tolist()) for row in found]


@METRIC
@pytest.mark.parametrize("kind", ["scann", "scann,pq2x4"])
def test_a_funnel_that_visits_and_keeps_everything_is_exact_search(kind, cosine):
    items, users = catalogue(cosine, N), vectors(20, 32, 5)
    index, stages = built(kind, cosine), [Stage(SIZE, N), Stage(32, 10)]
    assert index.limit == LEAVES and index.size == (N, SIZE)
    found = Funnel(items, stages, finder=index, threads=1).search(users)
    scanned = Funnel(items, stages, threads=1).search(users)
    np.testing.assert_array_equal(found.items, scanned.items)
    np.testing.assert_array_equal(found.scores, scanned.scores)


@METRIC
def test_codes_find_most_of_what_is_near_and_finer_ones_more(cosine):
    users = users_of(60)
    best, recalls = exact(catalogue(cosine, N), users, 20), []
    for kind in ("scann,pq2x4", "scann"):
        found = built(kind, cosine).find(users, 20, free(60))
        assert all(len(row) == 20 for row in sets(found)), "no item twice, no list short"
        recalls.append(recall_of(found, best))
    assert 0.2 < recalls[0] < recalls[1] and recalls[1] > 0.5


def test_more_leaves_find_more_and_cost_more_and_few_leaves_end_with_nothing():
    users, recalls, works = users_of(60), [], []
    best = exact(catalogue(False, N), users, 20)
    for leaves in (1, 4, LEAVES):
        index = built(leaves=leaves)
        found = index.find(users, N, free(60))
        assert ((found[:, -1] >= 0) == (leaves == LEAVES)).all()
        assert [len(row) for row in sets(found)] == [*(found >= 0).sum(axis=1)], "no item twice"
        recalls.append(recall_of(index.find(users, 20, free(60)), best))
        works.append(index.multiply_adds(users, 20))
    assert recalls == sorted(set(recalls)) and works == sorted(set(works))
    once = LEAVES * SIZE + 16 * SIZE
    assert works[-1] == once + N * SIZE / 2
    alone = [(built(leaves=4).find(user[None], N, free(1)) >= 0).sum() for user in users[:32]]
    counted = built(leaves=4).multiply_adds(users[:32], 20)
    assert counted == pytest.approx(once + np.mean(alone) * SIZE / 2)


@METRIC
@pytest.mark.parametrize("leaves", [1, LEAVES])
def test_lists_stay_full_under_any_filter(leaves, cosine):
    rng, users = np.random.default_rng(0), vectors(12, 32, 6)
    index, prefix = built(cosine=cosine, leaves=leaves), np.ascontiguousarray(users[:, :SIZE])
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 300, 12))])
    seen = rng.integers(0, N, offsets[-1])
    for limits in ({}, {"allowed": rng.choice(N, 60, False)}, {"blocked": np.arange(N - 30)}):
        filters = make_filters(12, N, seen=(seen, offsets), **limits)
        stages = [Stage(SIZE, 50), Stage(32, 20)]
        funnel = Funnel(catalogue(cosine, N), stages, finder=index, threads=1)
        found, own = funnel.search(users, None, filters).items, index.find(prefix, 50, filters)
        left = filters.num_left(N)
        assert ((found >= 0).sum(1) == np.minimum(left, 20)).all()
        if leaves == LEAVES:
            assert ((own >= 0).sum(1) == np.minimum(left, 50)).all()
        for rows in (sets(found), sets(own)):
            for row, shown in enumerate(rows):
                assert not shown & set(seen[offsets[row] : offsets[row + 1]].tolist())
                assert shown <= set(limits.get("allowed", range(N)))
                assert not shown & set(limits.get("blocked", []))


def test_a_user_finds_alone_nearly_what_it_finds_in_a_batch_and_the_same_in_threads():
    index, users = built(leaves=6), users_of(600)
    whole = index.find(users, 15, free(600))
    # ScaNN rounds the sums of one user's codes in another way.
    alone = np.concatenate([index.find(user[None], 15, free(1)) for user in users[:50]])
    assert recall_of(alone, whole[:50]) > 0.85
    whole = sets(whole)
    assert index.find(users[:0], 15, free(0)).shape[0] == 0
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda _: sets(index.find(users, 15, free(600))), range(8))
        assert all(found == whole for found in together)


def test_a_recall_is_reached_by_fewer_leaves_than_there_are():
    items, stages, index = catalogue(True, N), [Stage(SIZE, 150), Stage(32, 10)], built(cosine=True)
    index.search["leaves"] = 1
    tuned = tune_index(items, index, stages, 0.9, vectors(200, 32, 11))
    assert tuned.recall >= 0.9 and tuned.search == index.search
    assert 1 < index.search["leaves"] < LEAVES
    users = vectors(200, 32, 77)
    found = Funnel(items, stages, finder=index, threads=1).search(users).items
    assert recall_of(found, Funnel(items, stages, threads=1).search(users).items) > 0.87


@pytest.mark.parametrize("rows", [16, 20, 60])
def test_small_catalogues_are_found_whole(rows):
    index = build_index(catalogue(False, rows), "scann", SIZE, threads=1)
    found = index.find(users_of(5), 100, make_filters(5, rows))
    assert sets(found) == [set(range(rows))] * 5


def test_too_few_items_are_refused_with_what_else_there_is():
    with pytest.raises(DataError, match="learns 16 centroids, 15 items are too few; choose flat"):
        build_index(catalogue(False, 15), "scann", SIZE)


@pytest.mark.parametrize(
    "kind", ["scann,sq8", "scann,pq4", "scann,rabitq", "opq,scann", "scann,pq3x4"]
)
def test_kinds_that_scann_has_not_are_refused(kind):
    with pytest.raises(ConfigError, match=r"is not among .*scann|is not a divisor"):
        parse_kind(kind, SIZE)
    assert (parse_kind("scann", SIZE).parts, parse_kind("scann,pq2x4", SIZE).parts) == (4, 2)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    made = source(num_items=N, num_users=100, normalize=True)
    additions = [index_of("scann", SIZE, 0.9)]
    shelf = tmp_path_factory.mktemp("made") / "out"
    return write_bundle(shelf, made, parse_tiers(TIERS, 32), additions=additions)


@pytest.fixture
def folder(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "bundle")


def test_it_travels_in_the_bundle_with_the_funnel_it_was_tuned_for(folder):
    bundle = load_bundle(folder)
    entry = bundle.manifest.index
    assert entry.file in bundle.manifest.files and len(entry.more) == 5
    assert sorted(set(files_named(bundle.manifest))) == sorted(bundle.manifest.files)
    assert verify_bundle(folder) == []
    users = measuring_users(bundle)
    index, again = open_index(bundle, threads=1), open_index(load_bundle(folder), threads=2)
    assert index.search == entry.search and index.nbytes == entry.nbytes
    prefix = np.ascontiguousarray(users[:, :SIZE])
    found, other = (sets(one.find(prefix, 100, free(100))) for one in (index, again))
    assert found == other
    assert np.allclose(np.linalg.norm(prefixes(bundle, SIZE), axis=1), 1, atol=1e-5)
    funnel = open_funnel(bundle, threads=1)
    assert funnel.finder.kind.name == "scann"
    wanted = Funnel(bundle, [Stage(32, 10)], threads=1).search(users).items
    assert recall_of(funnel.search(users).items, wanted) == pytest.approx(entry.recall, abs=5e-3)


def test_a_byte_of_any_of_its_files_that_changes_is_noticed(folder):
    entry = load_bundle(folder).manifest.index
    for name in (entry.file, *entry.more):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert verify_bundle(folder) == [f"{name} is not what was written (its sha256 differs)"]
        (folder / name).write_bytes(data)


def opened(folder):
    return open_index(load_bundle(folder, verify=False), threads=1)


def test_a_pickle_beside_it_is_never_read(folder):
    (folder / "scann" / "scann_docids.pkl").write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
    with pytest.raises(DataError, match="other files than recsys writes"):
        opened(folder)


@pytest.mark.parametrize("given", ["/etc/passwd", "../outside", "hashed_dataset.npy"])
def test_assets_elsewhere_are_never_read(folder, given):
    path = folder / "scann" / "scann_assets.pbtxt"
    path.write_text(path.read_text().replace("ah_codebook.pb", given))
    with pytest.raises(DataError, match="other files than recsys writes"):
        opened(folder)


def test_a_link_to_elsewhere_is_refused(folder):
    codes = folder / "scann" / "hashed_dataset.npy"
    away = codes.rename(folder.parent / "away")
    codes.symlink_to(away)
    with pytest.raises(DataError, match="points outside its folder"):
        opened(folder)


@pytest.mark.parametrize("name", ["hashed_dataset.npy", "scann_config.pb", "scann_assets.pbtxt"])
def test_what_is_no_index_is_refused(folder, name):
    (folder / "scann" / name).unlink()
    with pytest.raises(DataError, match=r"cannot be read by ScaNN.*export it again"):
        opened(folder)


def test_an_index_of_other_items_is_refused(folder):
    tree = json.loads((folder / MANIFEST).read_text())
    tree["index"]["granularity"] = 16
    (folder / MANIFEST).write_text(json.dumps(tree))
    seal(folder)
    with pytest.raises(DataError, match="holds 2000 prefixes of 8 coordinates"):
        opened(folder)


def test_where_scann_is_missing_the_line_that_installs_it_is_told(folder, monkeypatch):
    assert ("scann", 32) in kinds_for([8, 32])
    own = builtins.__import__

    def without(name, *args):
        if name.startswith("scann"):
            raise ModuleNotFoundError(name, name=name)
        return own(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("recsys.retrieval.index.choosing.find_spec", lambda name: None)
    told = r"not installed: pip install 'recsys\[scann\]'"
    with pytest.raises(InstallationError, match=told):
        build_index(catalogue(False, N), "scann", SIZE)
    with pytest.raises(InstallationError, match=told):
        opened(folder)
    assert ("scann", 32) not in kinds_for([8, 32])
