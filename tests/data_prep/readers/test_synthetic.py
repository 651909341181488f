import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from data_prep import PrepareOptions, SyntheticOptions, prepare
from data_prep.readers.synthetic import uniform

SIZES = {"num_users": 300, "num_items": 200, "num_interactions": 6_000, "num_clusters": 8}


def make(folder, **options):
    sizes = SyntheticOptions(**(SIZES | options))
    return prepare("synthetic", PrepareOptions(synthetic=sizes), out=folder)


def rows_of(dataset):
    return np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))


def test_the_sizes_are_exactly_those_asked_for(tmp_path):
    dataset = make(tmp_path / "d", min_history=5)
    manifest = dataset.manifest
    found = (manifest.num_users, manifest.num_items, manifest.num_interactions)
    assert found == (300, 200, 6_000)
    lengths = np.diff(dataset.offsets)
    assert lengths.min() >= 5
    assert lengths.max() <= 100
    assert lengths.std() > 5, "some users are more active than others"


def test_no_user_meets_an_item_twice_even_when_histories_are_half_the_catalogue(tmp_path):
    dataset = make(tmp_path / "d", num_items=40, num_interactions=300 * 20, zipf_exponent=2.0)
    pairs = rows_of(dataset) * 40 + dataset.items
    assert len(np.unique(pairs)) == 6_000


def test_the_rows_follow_from_the_seed_alone_whatever_the_chunks(tmp_path):
    hashes = {
        make(tmp_path / "d", chunk_interactions=size).manifest.content_hash
        for size in (1, 77, 1_000, 10**6)
    }
    assert len(hashes) == 1
    assert make(tmp_path / "d", seed=1).manifest.content_hash not in hashes


def test_times_of_a_user_ascend_strictly(tmp_path):
    dataset = make(tmp_path / "d")
    same_user = np.diff(rows_of(dataset)) == 0
    assert (np.diff(dataset.timestamps)[same_user] > 0).all()


def test_popular_items_take_the_share_that_zipf_gives_them(tmp_path):
    # Everyone follows popularity alone, and histories are too short for repetitions to matter.
    sizes = {"num_users": 20_000, "num_interactions": 20_000, "min_history": 1, "noise": 1.0}
    dataset = make(tmp_path / "d", **sizes, zipf_exponent=1.0)
    counts = np.sort(np.bincount(dataset.items, minlength=200))[::-1]
    shares = 1 / np.arange(1, 201)
    expected = 20_000 * shares / shares.sum()
    # Five standard deviations of a binomial count; the order of close ranks may change.
    assert (np.abs(counts - expected)[:10] < 5 * np.sqrt(expected[:10])).all()


def clusters_of(dataset):
    return dataset.item_frame()["cluster"].to_numpy()[dataset.items]


def moves(dataset, num_clusters):
    """Steps along the ring between consecutive interactions."""
    clusters = clusters_of(dataset)
    same_user = np.diff(rows_of(dataset)) == 0
    return (np.diff(clusters) % num_clusters)[same_user]


def test_every_cluster_has_its_part_of_the_items(tmp_path):
    counts = make(tmp_path / "d").item_frame().group_by("cluster").len()
    assert counts.sort("cluster")["cluster"].to_list() == list(range(8))
    assert set(counts["len"]) == {25}


def test_interests_stay_without_drift_and_walk_along_the_ring_with_it(tmp_path):
    sizes = {"num_items": 4_000, "zipf_exponent": 0.0, "noise": 0.0}
    still = moves(make(tmp_path / "still", **sizes, drift=0.0), 8)
    # A few users have met every item they can draw before, and go on to the next interest.
    assert (still == 0).mean() > 0.999
    steps = moves(make(tmp_path / "drift", **sizes, drift=0.5), 8)
    shares = np.bincount(steps, minlength=8) / len(steps)
    # 0.5 stay and a fifth of the other half jumps anywhere, also to the same or the next.
    expected = [0.5 + 0.1 / 8, 0.4 + 0.1 / 8, *[0.1 / 8] * 6]
    assert shares == pytest.approx(expected, abs=0.03)


def test_random_numbers_do_not_depend_on_what_is_drawn_with_them():
    together = uniform(3, 1, np.arange(100))
    assert (uniform(3, 1, np.array([41, 7])) == together[[41, 7]]).all()
    assert ((together >= 0) & (together < 1)).all()
    assert not np.isin(uniform(3, 2, np.arange(100)), together).any()
    many = uniform(0, 0, np.arange(100_000))
    assert np.histogram(many, bins=10, range=(0, 1))[0] == pytest.approx(10_000, abs=500)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_interactions": 500}, "too few for 300 users"),
        ({"num_clusters": 201}, "201 clusters for 200 items"),
        ({"num_interactions": 300 * 101}, "more than half of 200 items"),
        ({"min_history": 101, "num_interactions": 300 * 101}, "more than half of 200 items"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        SyntheticOptions(**(SIZES | options))


def test_users_and_items_have_text_ids_like_any_data_set(tmp_path):
    dataset = make(tmp_path / "d")
    assert dataset.user_frame()["user_id"].dtype == pl.String
    assert dataset.item_frame()["item_id"].to_list()[:3] == ["0", "1", "2"]
