"""Indexes in bundles: written with the funnel they were tuned for, verified, opened, refused."""

import json

import numpy as np
import polars as pl
import pytest

from recsys.errors import ConfigError, DataError
from recsys.recipes.bundles.search_options import IndexOptions, search_parts
from recsys.retrieval.bundle.loading import load_bundle, verify_bundle
from recsys.retrieval.bundle.manifest import MANIFEST, seal
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.writing import BundleSource, write_bundle
from recsys.retrieval.bundle_funnel import open_funnel
from recsys.retrieval.filters import make_filters
from recsys.retrieval.funnel import Funnel, Stage, parse_stages
from recsys.retrieval.index.building import index_of, measuring_users, open_index, prefixes
from recsys.retrieval.index.kinds import recall_of
from tests.retrieval.bundles import TIERS, source, vectors
from tests.retrieval.index.indexes import exact

N = 700


def written(folder, kind, size=8, recall=0.9, stages=None, **options):
    made = source(num_items=N, num_users=100, **options)
    additions = [index_of(kind, size, recall, stages)]
    return write_bundle(folder / "out", made, parse_tiers(TIERS, 32), additions=additions)


@pytest.mark.parametrize("kind", ["ivf,sq8", "ivf,pq4x4", "opq,ivf,pqx4", "flat,pqx4", "hnsw"])
def test_an_index_travels_in_the_bundle_with_the_funnel_it_was_tuned_for(tmp_path, kind):
    folder = written(tmp_path, kind, normalize=True)
    bundle = load_bundle(folder)
    entry = bundle.manifest.index
    assert (entry.kind, entry.granularity) == (kind, 8) and entry.recall >= 0.9
    index, again = open_index(bundle, threads=1), open_index(load_bundle(folder), threads=1)
    assert index.search == entry.search and index.nbytes == entry.nbytes
    assert entry.nbytes == (folder / entry.file).stat().st_size
    users = np.ascontiguousarray(vectors(100, 32, 3)[:, :8])
    found, other = (one.find(users, 100, make_filters(100, N)) for one in (index, again))
    np.testing.assert_array_equal(found, other)
    assert recall_of(found, exact(bundle, users, 50)) > 0.75
    funnel = open_funnel(bundle, threads=1)
    stages = parse_stages(bundle.manifest.stages, 10)
    assert funnel.stages == stages
    assert (stages[0].granularity, stages[-1]) == (8, Stage(32, 10))
    assert funnel.finder.kind == index.kind
    # The recall that was written is that of this funnel, beside exact search.
    users = measuring_users(bundle)
    wanted = Funnel(bundle, [Stage(32, 10)], threads=1).search(users).items
    assert recall_of(funnel.search(users).items, wanted) == pytest.approx(entry.recall, abs=1e-3)


def test_a_byte_of_the_index_that_changes_is_noticed(tmp_path):
    folder = written(tmp_path, "ivf,sq8")
    path = folder / load_bundle(folder).manifest.index.file
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert verify_bundle(folder) == ["index.faiss is not what was written (its sha256 differs)"]


def test_stages_that_were_asked_for_are_kept_and_what_is_reached_is_told_beside_them(tmp_path):
    bundle = load_bundle(written(tmp_path, "ivf", stages="8:30,16:20,32"))
    assert bundle.manifest.stages == "8:30,16:20,32"
    funnel, users = open_funnel(bundle, threads=1), measuring_users(bundle)
    wanted = Funnel(bundle, funnel.stages, threads=1).search(users).items
    reached = recall_of(funnel.search(users).items, wanted)
    assert reached == pytest.approx(bundle.manifest.index.recall, abs=1e-3) and reached >= 0.9


def test_an_index_of_all_coordinates_is_ranked_by_these_very_coordinates(tmp_path):
    bundle = load_bundle(written(tmp_path, "ivf,pqx4", size=32, recall=0.95))
    funnel, users = open_funnel(bundle, threads=1), vectors(50, 32, 3)
    assert [stage.granularity for stage in funnel.stages] == [32, 32]
    wanted = Funnel(bundle, [Stage(32, 10)], threads=1).search(users)
    found = funnel.search(users)
    same = found.items == wanted.items
    assert same.mean() > 0.8
    np.testing.assert_allclose(found.scores[same], wanted.scores[same], rtol=1e-5)


@pytest.mark.parametrize("kind", ["flat,pq1x4", "ivf,pq2x4", "ivf,rabitq"])
def test_an_index_that_cannot_reach_its_target_is_told_what_could(tmp_path, kind):
    """Items so close together that rounding mixes them up."""
    items = 1 + np.random.default_rng(0).normal(0, 1e-3, (N, 8)).astype(np.float32)
    made = BundleSource(items, pl.Series(range(N)), (8,))
    tiers = parse_tiers("0:8:fp32:ram", 8)
    with pytest.raises(DataError) as error:
        write_bundle(tmp_path / "out", made, tiers, additions=[index_of(kind, 8, 1, "8:12,8")])
    told = str(error.value)
    assert f"index {kind} at 8 coordinates reaches recall 0." in told and "8:12,8" in told
    assert "keeps more, finer codes" in told and "lower --recall" in told
    assert not list((tmp_path / "out").glob("v*"))


@pytest.mark.parametrize("recall", [0, -0.1, 1.01, float("nan")])
def test_a_recall_that_is_no_share_is_refused(recall):
    with pytest.raises(ConfigError, match="recall is"):
        index_of("ivf", 8, recall)


def test_a_bundle_without_an_index_says_so(tmp_path):
    folder = write_bundle(tmp_path / "out", source(), parse_tiers(TIERS, 32))
    with pytest.raises(DataError, match=r"has no index; export it again with .* and --index"):
        open_index(load_bundle(folder))


def rewritten(folder, **changes):
    """The manifest of a bundle with another entry of the index."""
    tree = json.loads((folder / MANIFEST).read_text())
    tree["index"] |= changes
    (folder / MANIFEST).write_text(json.dumps(tree))
    seal(folder)
    return load_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "ivf,int8", "search": {"nprobe": 4}}, "index 'ivf,int8' is not among"),
        ({"search": {"nprobe": 4}}, r"searched by \('margin',\), the manifest names \('nprobe',\)"),
        ({"search": {}}, "searched by"),
        ({"granularity": 16}, "holds 700 prefixes of 8 coordinates"),
    ],
    ids=["kind", "nprobe", "nothing", "size"],
)
def test_an_index_of_an_earlier_version_or_of_another_size_is_refused_with_the_remedy(
    tmp_path, changes, told
):
    bundle = rewritten(written(tmp_path, "ivf,sq8"), **changes)
    size = bundle.manifest.index.granularity
    for opened in (open_index, lambda one: open_funnel(one, stages=f"{size}:50,32")):
        with pytest.raises(DataError, match=rf"{told}.*export it again with `recsys export`"):
            opened(bundle)
    assert open_funnel(bundle, stages="4:50,32").search(vectors(2, 32)).items.shape == (2, 10)


def test_an_index_of_other_items_is_refused(tmp_path):
    folder = written(tmp_path, "ivf,sq8")
    other = write_bundle(
        tmp_path / "other", source(num_items=300), parse_tiers(TIERS, 32),
        additions=[index_of("ivf,sq8", 8, None)],
    )  # fmt: skip
    name = load_bundle(folder).manifest.index.file
    (folder / name).write_bytes((other / name).read_bytes())
    with pytest.raises(DataError, match=r"holds 300 prefixes .* where there are 700 items"):
        open_index(load_bundle(folder, verify=False))


def test_what_is_no_index_is_refused(tmp_path):
    folder = written(tmp_path, "ivf,sq8")
    (folder / load_bundle(folder).manifest.index.file).write_bytes(b"no index")
    with pytest.raises(DataError, match="cannot be read by faiss"):
        open_index(load_bundle(folder, verify=False))


def test_an_index_sees_prefixes_of_norm_1_where_scores_are_cosines(tmp_path):
    bundle = load_bundle(written(tmp_path, "flat", normalize=True))
    seen = prefixes(bundle, 8, np.array([5, 2]))
    np.testing.assert_allclose(np.linalg.norm(seen, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(seen, prefixes(bundle, 8)[[5, 2]])


def test_a_stage_that_keeps_less_than_a_list_is_refused_before_an_index_is_built():
    tiers = parse_tiers("0:32:fp32:ram", 32)
    with pytest.raises(ConfigError, match="stage 32:10 behind 8:5"):
        search_parts(tiers, IndexOptions("ivf", 0.9), "8:5,32")
    assert (
        len(search_parts(tiers, IndexOptions(), "8:5,32")) == 1
    )  # without an index, lists may be short
