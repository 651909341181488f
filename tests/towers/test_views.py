"""Two views of items: groups by mutual information, and the loss that draws views together."""

import numpy as np
import pytest
import torch

from recsys.data.features.loading import (
    CategoricalFeature,
    ItemFeatures,
    NumericFeature,
    VectorFeature,
)
from recsys.errors import ConfigError
from recsys.granularity import Granularities
from recsys.losses.softmax import NestedLossOutput
from recsys.losses.views import view_loss, with_views
from recsys.tables import DenseConfig, build_table
from recsys.towers.items import ItemsConfig, ItemTower
from recsys.towers.views import ViewSampler, correlated_masks, mutual_information

NUM = 300
RNG = np.random.default_rng(0)
KIND, YEAR = RNG.integers(0, 4, NUM), RNG.normal(size=NUM)


def category(values, names):
    return CategoricalFeature(values.astype(np.int32), np.arange(NUM + 1), tuple(names))


@pytest.fixture(scope="module")
def features():
    """`kind`, `brand` and `text` tell the same; `year`, `age` and `worn` tell another thing."""
    centres = np.array([[9, 3], [9, -3], [-9, 3], [-9, -3]])[KIND]
    text = (centres + RNG.normal(size=(NUM, 2)) * 0.1).astype(np.float16)
    about = (YEAR + RNG.normal(size=NUM) * 0.1).astype(np.float32)
    worn = NumericFeature(about, np.arange(NUM) > 9)
    return ItemFeatures(
        NUM,
        {"text": VectorFeature(text, np.ones(NUM, np.bool_))},
        {"kind": category(KIND, "abcd"), "brand": category((KIND + 1) % 4, "wxyz")},
        {
            "year": NumericFeature(YEAR.astype(np.float32), np.ones(NUM, np.bool_)),
            "age": NumericFeature(-YEAR.astype(np.float32), np.arange(NUM) != 3),
            "worn": worn,
        },
        "",
    )


NAMES = ("kind", "year", "brand", "age", "text", "worn")
GROUPS = ({"kind", "brand", "text"}, {"year", "age", "worn"})


def test_views_are_disjoint_groups_by_mutual_information(features):
    sampler = ViewSampler(features, NAMES)
    torch.manual_seed(0)
    seen = set()
    for _ in range(20):
        views = sampler.draw(40)
        first, second = set(views.first), set(views.second)
        assert {frozenset(first), frozenset(second)} == {frozenset(group) for group in GROUPS}
        seen.add(views.second)
        assert 20 < len(views.items) <= 40 and len(set(views.items.tolist())) == len(views.items)
    assert len(seen) == 2
    assert len(sampler.draw(10 * NUM).items) == NUM


def test_only_items_with_a_feature_in_both_views_are_drawn(features):
    sampler = ViewSampler(features, ("kind", "worn"))
    assert set(sampler.draw(10 * NUM).items.tolist()) == set(range(10, NUM))


def test_mutual_information_is_that_of_the_counts(features):
    """Against a loop over the cells of two categories of which one has several values."""
    several = CategoricalFeature(
        np.stack([KIND % 2, KIND // 2 + 2], axis=1).ravel().astype(np.int32),
        np.arange(0, 2 * NUM + 1, 2),
        tuple("abcd"),
    )
    joint = np.zeros((4, 4))
    for item in range(NUM):
        for value in (KIND[item] % 2, KIND[item] // 2 + 2):
            joint[KIND[item], value] += 0.5 / NUM
    outer = joint.sum(1)[:, None] * joint.sum(0)
    some = joint > 0
    wanted = (joint[some] * np.log(joint[some] / outer[some])).sum()
    found = mutual_information([features.categories["kind"], several, features.numbers["worn"]])
    assert found[0, 1] == pytest.approx(wanted) and found[0, 1] == found[1, 0]
    assert found[0, 2] < 0.2 < found[0, 1]
    counts = np.bincount(KIND) / NUM
    assert found[0, 0] == pytest.approx(-(counts * np.log(counts)).sum())  # the entropy


def test_half_of_the_features_are_hidden_the_seed_and_the_nearest():
    information = np.array([[0, 3, 1, 2, 0], [3, 0, 0, 0, 0], [1, 0, 0, 5, 0], [2, 0, 5, 9, 0.0]])
    information = np.vstack([information, np.zeros(5)])
    hidden = correlated_masks(information)
    assert hidden.sum(1).tolist() == [2] * 5 and hidden.diagonal().all()
    assert hidden[0, 1] and hidden[2, 3] and hidden[3, 2]
    assert correlated_masks(np.zeros((3, 3))).sum(1).tolist() == [1] * 3
    with pytest.raises(ConfigError, match="two features"):
        correlated_masks(np.zeros((1, 1)))


def test_the_loss_is_that_of_each_item_among_the_others_at_every_prefix():
    sizes = Granularities(sizes=(2, 4), weights=(1, 3))
    torch.manual_seed(0)
    first, second = torch.randn(5, 4), torch.randn(5, 4)
    wanted = []
    for size in sizes.sizes:
        a, b = (torch.nn.functional.normalize(each[:, :size], dim=1) for each in (first, second))
        wanted.append(torch.nn.functional.cross_entropy(a @ b.T / 0.2, torch.arange(5)))
    found = view_loss(first, second, sizes, temperature=0.2)
    torch.testing.assert_close(found.per_granularity, torch.stack(wanted))
    torch.testing.assert_close(found.total, 0.25 * wanted[0] + 0.75 * wanted[1])
    main = NestedLossOutput(torch.tensor(1.0), torch.tensor([1.0, 2.0]))
    joined = with_views(main, found, 0.5)
    torch.testing.assert_close(joined.total, 1 + 0.5 * found.total)
    torch.testing.assert_close(joined.per_granularity[1], 2 + 0.5 * wanted[1])


def test_a_view_is_what_an_item_with_these_features_alone_would_be(features):
    sizes = Granularities(sizes=(2, 4))
    torch.manual_seed(0)
    table = build_table(DenseConfig(), NUM, 4, init_std=1.0, sizes=sizes.sizes)
    tower = ItemTower(ItemsConfig(features=NAMES), table, features, sizes, init_std=1.0)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.randn_like(parameter))
    items = torch.tensor([0, 3, 50])
    view = tower.view(items, ("kind", "worn"))
    torch.testing.assert_close(view, tower.view(items, ("kind", "worn")))
    tower.eval()
    tower.hide(["ids", "year", "brand", "age", "text"])
    torch.testing.assert_close(view, tower.encode(items))
    tower.hide(tower.names)
    torch.testing.assert_close(tower.nothing(), tower.encode(items)[0])
