"""Features: against naive counts, one request or many, and blind to what comes later."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from recsys.data.dataset import Dataset
from recsys.data.histories import Histories
from recsys.data.manifest import SplitRule
from recsys.data.splitting import make_split
from recsys.errors import ConfigError, DataError
from recsys.evaluation.held_out import held_out
from recsys.rankers.examples import take
from recsys.rankers.features.config import FeaturesConfig
from recsys.rankers.features.events import make_events
from recsys.rankers.features.knowledge import load_knowledge
from recsys.rankers.features.making import FeatureMaker
from recsys.rankers.features.pairs import top_pairs
from recsys.rankers.features.requests import Requests, recent_items
from recsys.recipes.ranking.knowing import knowledge_of, training_knowledge
from recsys.recipes.ranking.rows import askers_of
from recsys.recipes.ranking.source import RankingSource
from tests.rankers.conftest import COLUMNS

CONFIG = FeaturesConfig(**COLUMNS)


class Opened:
    """A run whose data set was exchanged."""

    def __init__(self, loaded, dataset):
        self.dataset, self.split, self.model = dataset, loaded.split, loaded.model
        self.check_part = loaded.check_part


def made(source, dataset=None, ends=None):
    """The requests of the validation part, and the maker of their features."""
    loaded = source.loaded if dataset is None else Opened(source.loaded, dataset)
    source = replace(source, loaded=loaded)
    ends = source.loaded.split.train_end if ends is None else ends
    maker = FeatureMaker(CONFIG, knowledge_of(loaded.dataset, ends, CONFIG), source.items)
    askers = askers_of(source, "valid")
    return askers, askers.found_by(source.funnel()), maker


@pytest.fixture(scope="module")
def valid(source):
    return made(source)


@pytest.fixture(scope="module")
def rows(valid):
    _, requests, maker = valid
    return maker.examples(requests)


def column(rows, maker, name):
    return rows.numbers[:, maker.schema.numbers.index(name)]


def test_events_are_counted_up_to_the_moment_and_no_further():
    rng = np.random.default_rng(1)
    items, times = rng.integers(0, 6, 200), rng.integers(0, 50, 200)
    events = make_events(items, times, 7)
    asked, moments = rng.integers(0, 7, 300), rng.integers(-5, 60, 300)
    naive = [((items == i) & (times < t)).sum() for i, t in zip(asked, moments, strict=True)]
    np.testing.assert_array_equal(events.before(asked, moments), naive)
    first = events.at(np.arange(6), np.zeros(6, np.int64))
    np.testing.assert_array_equal(first, [times[items == i].min() for i in range(6)])


def test_pairs_are_looked_up_from_the_last_item_backwards():
    dense = np.random.default_rng(2).random((8, 8)).astype(np.float32)
    first, second = (grid.ravel() for grid in np.indices(dense.shape))
    pairs = top_pairs(first, second, dense.ravel(), 8, kept=5)
    kept = np.where(np.argsort(np.argsort(-dense, axis=1), axis=1) < 5, dense, 0)
    items = np.array([3, 1, 4, 7, 2], np.int32)
    histories = Histories(np.arange(2), items, np.array([0, 3, 5]))
    recent = recent_items(histories, 3)
    np.testing.assert_array_equal(recent, [[4, 1, 3], [2, 7, -1]])
    last, total, most = pairs.seen_from(recent, np.array([[0, 5], [6, -1]]))
    np.testing.assert_allclose(last[0], kept[4, [0, 5]])
    want = kept[4, [0, 5]] + kept[1, [0, 5]] / 2 + kept[3, [0, 5]] / 3
    np.testing.assert_allclose(total[0], want, rtol=1e-6)
    np.testing.assert_allclose(most[1, 0], max(kept[2, 6], kept[7, 6]))


def test_every_group_stands_among_the_columns_with_what_it_says(valid, rows, source):
    askers, requests, maker = valid
    numbers = set(maker.schema.numbers)
    assert {"score_d4", "gap_d8", "place_d8", "slice_4_8", "place", "popularity"} <= numbers
    assert {"taken_0.5d", "age", "quiet", "since_last", "rules_sum", "year_step"} <= numbers
    assert {"kind_shared", "ring_like_last", "neighbours_most", "history_length"} <= numbers
    assert [f.name for f in maker.schema.fields] == ["kind", "town", "hour", "weekday"]
    assert "age" in numbers
    found = source.funnel().search(askers.vectors, None, askers.filters)
    lengths = np.linalg.norm(askers.vectors, axis=1, keepdims=True)
    present = found.items >= 0
    np.testing.assert_allclose(
        column(rows, maker, "score_d8"), (found.scores / lengths)[present], atol=1e-5
    )
    np.testing.assert_array_equal(column(rows, maker, "place_d8"), column(rows, maker, "place"))
    data = source.loaded.dataset
    ids, people = data.item_frame()["item_id"], data.user_frame()
    owner, item = requests.histories.users[rows.owners[0]], rows.items[0]
    named = int(ids[int(item)][1:])
    year = column(rows, maker, "year")[0]
    assert year == named if named % 10 else np.isnan(year)
    town = rows.fields[0, 1]
    assert [None, "north", "south"][town] == people["town"][int(owner)]
    hour = askers.moments[0] // 3600 % 24 + 1
    assert (rows.fields[: rows.offsets[1], 2] == hour).all()


def test_a_request_alone_has_the_rows_that_it_has_among_others(valid, rows):
    _, requests, maker = valid
    some = np.array([5, 0, 17])
    alone, wanted = maker.examples(requests.rows(some)), take(rows, some)
    np.testing.assert_allclose(alone.numbers, wanted.numbers, rtol=1e-5, atol=1e-6)
    for name in ("fields", "offsets", "items", "history_items", "history_offsets"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(wanted, name))


def changed_by_the_future(source, ends):
    """Features of the validation part that change as everything after the moments does."""
    data, split = source.loaded.dataset, source.loaded.split
    later = np.zeros(len(data.items), bool)
    for lo, hi in zip(split.train_end, split.end, strict=True):
        later[lo:hi] = True
    items = data.items.copy()
    items[later] = np.random.default_rng(3).integers(0, data.num_items, later.sum())
    scrambled = replace(data, items=items)
    (_, asked, maker), (_, _, other) = made(source, ends=ends), made(source, scrambled, ends)
    one, two = maker.examples(asked), other.examples(asked)
    same = (np.isclose(one.numbers, two.numbers, equal_nan=True)).all(axis=0)
    names = [n for n, kept in zip(maker.schema.numbers, same, strict=True) if not kept]
    fields = (one.fields == two.fields).all(axis=0)
    return names + [f.name for f, kept in zip(maker.schema.fields, fields, strict=True) if not kept]


def test_no_feature_knows_what_comes_after_the_moment(source):
    assert changed_by_the_future(source, source.loaded.split.train_end) == []


def test_a_planted_leak_is_found(source):
    """Counts of all rows, as if the rest of the histories were known."""
    found = changed_by_the_future(source, source.loaded.dataset.offsets[1:])
    assert {"rules_sum", "neighbours_sum", "popularity_step"} <= set(found)
    assert not {"score_d8", "year", "history_length"} & set(found)


def test_counts_by_one_clock_end_at_the_moment_of_each_request(source):
    """Everything from the moment of one request on is changed; its row stays, others change."""
    data = source.loaded.dataset
    rule = SplitRule(name="global-time", valid_quantile=0.6, test_quantile=0.8)
    split = make_split(data, rule)
    held = held_out(data, split, "valid")
    moments = data.timestamps_at(held.end)
    chosen = int(np.argsort(moments, kind="stable")[len(moments) // 2])
    items = data.items.copy()
    later = data.timestamps >= moments[chosen]
    items[later] = np.random.default_rng(4).integers(0, data.num_items, later.sum())
    found = []
    for each in (data, replace(data, items=items)):
        known = training_knowledge(each, split, CONFIG)
        histories = held.histories(data, np.arange(len(held.users)))
        vectors = source.user_vectors(histories)
        candidates = np.tile(np.arange(20), (len(histories), 1))
        maker = FeatureMaker(CONFIG, known, source.items)
        rows = maker.examples(Requests(vectors, histories, candidates, moments))
        place = maker.schema.numbers.index("popularity")
        found.append((take(rows, np.array([chosen])), rows.numbers[:, place]))
    (one, counts), (other, changed) = found
    np.testing.assert_array_equal(one.numbers, other.numbers)
    assert (counts != changed).any()


def test_several_categories_of_an_item_are_columns_of_one_feature(source):
    loaded = source.loaded
    requests = askers_of(source, "valid", 20).found_by(source.funnel())
    ids = loaded.dataset.item_frame()["item_id"]
    for most, width in ((6, 4), (2, 2), (1, 1)):
        config = FeaturesConfig(item_categories=("tags",), most_categories=most)
        known = knowledge_of(loaded.dataset, loaded.split.train_end, config)
        maker = FeatureMaker(config, known, source.items)
        names = [f"tags_{place}" for place in range(1, width + 1)] if width > 1 else ["tags"]
        fields = maker.schema.fields
        assert [field.name for field in fields] == names
        assert {(field.size, field.group) for field in fields} == {(5, "tags" * (width > 1))}
        rows = maker.examples(requests)
        numbers = [int(ids[int(item)][1:]) for item in rows.items]
        own = [[t + 1 for t in range(4) if number >> t & 1] for number in numbers]
        wanted = [[*tags, 0, 0, 0, 0][:width] for tags in own]
        np.testing.assert_array_equal(rows.fields, wanted)
        assert max(map(len, own)) == 4 and min(map(len, own)) == 0


def test_what_is_known_is_kept(valid, tmp_path):
    _, requests, maker = valid
    maker.knowledge.save(tmp_path)
    again = FeatureMaker(CONFIG, load_knowledge(tmp_path), maker.items)
    assert again.schema == maker.schema
    np.testing.assert_array_equal(
        again.examples(requests).numbers, maker.examples(requests).numbers
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"item_numbers": ["kind"]}, "name it in features.item_categories, or make it numbers"),
        ({"item_numbers": ["ring"]}, "name it in features.item_vectors$"),
        ({"user_numbers": ["town"]}, "column town .* holds '.*name it in features.user_categories"),
        ({"user_numbers": ["height"]}, "have no column height; they have age, town"),
    ],
)
def test_columns_are_checked_at_the_door(source, wrong, told):
    loaded = source.loaded
    with pytest.raises((ConfigError, DataError), match=told):
        knowledge_of(loaded.dataset, loaded.split.train_end, FeaturesConfig(**wrong))


def test_columns_of_text_are_numbers_or_categories_as_they_are_asked_for():
    rows = pl.DataFrame({"user_id": ["a", "b", "c"], "item_id": ["x", "x", "y"]})
    people = pl.DataFrame(
        {"user_id": ["a", "b", "c"], "zip": ["007", "7", " "], "clubs": [["x"], [], []]}
    )
    dataset = Dataset.from_frame(rows, order="given", users=people)

    def known(**asked):
        return knowledge_of(dataset, dataset.offsets[1:], FeaturesConfig(**asked))

    np.testing.assert_array_equal(known(user_numbers=["zip"]).user_numbers["zip"], [7, 7, np.nan])
    codes = known(user_categories=["zip"]).user_categories["zip"]
    assert codes.values.tolist() == [1, 2, 0]
    with pytest.raises(DataError, match=r"column clubs .* holds List\(String\)"):
        known(user_categories=["clubs"])


def test_the_source_is_what_the_rows_come_from(source):
    assert isinstance(source, RankingSource) and source.stages == "8"
