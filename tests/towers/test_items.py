"""The item tower: by hand, by parts, by gradients; what is missing, hidden, dropped or new."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

from recsys.data.dataset import write_dataset
from recsys.data.features.loading import load_features
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_categories, write_numbers, write_vectors
from recsys.errors import ConfigError
from recsys.granularity import Granularities
from recsys.tables import DenseConfig, build_table
from recsys.towers.items import ItemsConfig, ItemTower
from recsys.towers.modalities import whiten

ORIGIN = FeatureOrigin(source="made by hand")
SIZES = Granularities(sizes=(2, 4))
NUM = 12
ALL = ("text", "genres", "year")


def write_features(folder, seed=0):
    """Text of all but items 1 and 5, genres of all but 2 and 5, the year of all but 3 and 5."""
    rng = np.random.default_rng(seed)
    write_vectors(folder, "text", rng.normal(size=(NUM, 6)), absent(1, 5), ORIGIN)
    lengths = np.where(absent(2, 5), 2, 0)
    offsets = np.concatenate([[0], lengths.cumsum()])
    genres = rng.integers(3, size=offsets[-1]).astype(np.int32)
    write_categories(folder, "genres", genres, offsets, ["a", "b", "c"], ORIGIN)
    write_numbers(folder, "year", 1990.0 + np.arange(NUM), absent(3, 5), ORIGIN)


def absent(*items):
    mask = np.ones(NUM, bool)
    mask[list(items)] = False
    return mask


@pytest.fixture
def features(tmp_path):
    frame = pl.DataFrame({"user_id": np.arange(NUM) // 2, "item_id": np.arange(NUM)})
    folder = write_dataset(tmp_path / "data", frame, name="small").folder
    write_features(folder)
    return load_features(folder)


def tower_of(features, names=ALL, **settings):
    """With every parameter away from its first value, so that none can be left out unnoticed."""
    config = ItemsConfig(features=names, **settings)
    torch.manual_seed(0)
    table = build_table(DenseConfig(), NUM, 4, init_std=1.0, sizes=SIZES.sizes)
    ids = table if config.ids else None
    tower = ItemTower(config, ids, features, SIZES, init_std=1.0)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.randn_like(parameter))
    return tower.eval()


def parts_by_hand(tower, features, item):
    """`{modality: [D]}` of what the item has."""
    parts = {}
    if tower.ids is not None and tower.trained[item]:
        parts["ids"] = tower.ids.weight[item]
    text, genres, year = (tower.modalities[name] if name in tower.names else None for name in ALL)
    if text is not None and features.vectors["text"].present[item]:
        row = torch.from_numpy(features.vectors["text"].rows(np.array([item])))[0]
        whitened = (row - text.centre) @ text.whitening
        parts["text"] = whitened / whitened.norm() @ text.weight
    if genres is not None and features.categories["genres"].present[item]:
        values, _ = features.categories["genres"].rows(np.array([item]))
        parts["genres"] = sum(genres.weight[value] for value in values) / len(values)
    if year is not None and features.numbers["year"].present[item]:
        value, edges = float(features.numbers["year"].values[item]), year.edges.tolist()
        filled = [min(max((value - lo) / (hi - lo), 0), 1) - 0.5 for lo, hi in pairwise(edges)]
        parts["year"] = torch.tensor(filled) / len(filled) ** 0.5 @ year.weight
    return parts


def by_hand(tower, features, item):
    """One item's vector, coordinate by coordinate and part by part."""
    parts, fusion = parts_by_hand(tower, features, item), tower.fusion
    there = [float(name in parts) for name in tower.names]
    result = torch.zeros(4)
    for m, name in enumerate(tower.names):
        if name not in parts:
            result = result + fusion.missing[m]
        elif tower.config.fusion == "gated_sum":
            logits = fusion.bias[m] + sum(t * fusion.gate[m, k] for k, t in enumerate(there))
            result = result + parts[name] * 2 / (1 + torch.exp(-logits))
        else:
            weight = fusion.weight[m]
            for j in range(4):
                seen = 2 if j < 2 else 4
                add = torch.zeros(4)
                add[j] = parts[name][:seen] @ weight[:seen, j]
                result = result + add
    return result


SUBSETS = [("text",), ("genres",), ("year",), ("text", "genres"), ALL]


@pytest.mark.parametrize("fusion", ["gated_sum", "projection"])
@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("names", SUBSETS)
def test_any_subset_of_features_gives_what_is_worked_by_hand(names, ids, fusion, features):
    tower = tower_of(features, names, ids=ids, fusion=fusion)
    tower.note_trained(np.array([0, *[3] * (NUM - 1)]))
    expected = torch.stack([by_hand(tower, features, item) for item in range(NUM)])
    torch.testing.assert_close(tower.vectors(), expected)
    places = torch.tensor([[5, 0], [5, 7]])
    torch.testing.assert_close(tower(places), expected[places])
    torch.testing.assert_close(tower(places, size=2), expected[places][..., :2])


@pytest.mark.parametrize("fusion", ["gated_sum", "projection"])
@pytest.mark.parametrize("name", ["ids", *ALL])
def test_what_is_hidden_counts_as_missing_and_nothing_of_it_is_read(name, fusion, features):
    tower = tower_of(features, fusion=fusion)
    before = tower.vectors()
    tower.hide([name])
    hidden = tower.vectors()
    assert not tower.present(torch.arange(NUM))[:, tower.names.index(name)].any()
    part = tower.ids if name == "ids" else tower.modalities[name]
    with torch.no_grad():
        part.weight.add_(7.0)
    torch.testing.assert_close(tower.vectors(), hidden)
    if name != "ids":  # item 5 has an id and nothing else: nothing was taken from it
        torch.testing.assert_close(hidden[5], before[5])
    assert not torch.allclose(hidden[0], before[0])
    tower.hide([])
    with torch.no_grad():
        part.weight.sub_(7.0)
    torch.testing.assert_close(tower.vectors(), before)


def test_an_item_of_which_nothing_is_known_has_the_vector_of_the_unknown(features):
    tower = tower_of(features)
    tower.note_trained(absent(5).astype(np.int64))
    torch.testing.assert_close(tower.vectors()[5], tower.fusion.missing.sum(0))


@pytest.mark.parametrize("fusion", ["gated_sum", "projection"])
def test_a_prefix_of_the_result_is_made_of_prefixes_of_the_parts(fusion, features):
    tower = tower_of(features, fusion=fusion)
    before = tower.vectors()
    with torch.no_grad():
        tower.ids.weight[:, 2:] += 5.0
        for part in tower.modalities.values():
            part.weight[:, 2:] += 5.0
    after = tower.vectors()
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert not torch.allclose(after[:, 2:], before[:, 2:])


@pytest.mark.parametrize("fusion", ["gated_sum", "projection"])
def test_gradients_reach_every_part(fusion, features):
    tower = tower_of(features, fusion=fusion)
    tower.note_trained(absent(0).astype(np.int64))
    tower(torch.arange(NUM)).square().sum().backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert tower.ids.weight.grad[0].abs().sum() == 0  # an id that is not there learns nothing


def test_only_items_that_are_looked_up_are_encoded_and_each_once(features):
    tower = tower_of(features)
    asked = []
    for name in ALL:
        tower.modalities[name].register_forward_pre_hook(lambda _, args: asked.append(args[0]))
    tower.ids.register_forward_pre_hook(lambda _, args: asked.append(args[0]))
    tower(torch.tensor([3, 3, 8, 3, 8]))
    assert [items.tolist() for items in asked] == [[3, 8]] * 4


def test_modality_dropout_leaves_out_whole_parts_in_training_alone(features):
    tower = tower_of(features, modality_dropout=0.4, id_dropout=0.7)
    first = tower.vectors()
    torch.testing.assert_close(tower.vectors(), first)
    tower.train()
    read: list[torch.Tensor] = []
    tower.fusion.register_forward_pre_hook(lambda _, args: read.append(args[1]))
    items = torch.arange(NUM).repeat(60_000 // NUM)
    had = tower.present(items)
    tower.encode(items)
    (left,) = read
    assert not (left & ~had).any()
    assert left.any(1).equal(had.any(1))  # of what an item has, something stays
    assert left[had.sum(1) == 1].equal(had[had.sum(1) == 1])
    # Beyond that the rates are what was asked for.
    free = torch.rand(60_000, 4) >= torch.tensor([0.7, 0.4, 0.4, 0.4])
    free = free | ~free.any(1, keepdim=True)
    torch.testing.assert_close(
        left[had.all(1)].float().mean(0), free.float().mean(0), atol=0.02, rtol=0
    )


def test_without_dropout_training_sees_what_evaluation_sees(features):
    tower = tower_of(features, modality_dropout=0.0, id_dropout=0.0)
    torch.testing.assert_close(tower.train().vectors(), tower.eval().vectors())


def test_ids_of_items_without_a_training_row_are_not_read(features):
    tower = tower_of(features)
    tower.note_trained(absent(4, 9).astype(np.int64))
    before = tower.vectors()
    with torch.no_grad():
        tower.ids.weight.add_(1.0)
    moved = (tower.vectors() != before).any(1)
    assert moved.tolist() == absent(4, 9).tolist()


def test_sparse_lookups_give_the_gradients_of_dense_ones(features):
    gradients = []
    for sparse in (False, True):
        tower = tower_of(features)
        tower(torch.tensor([2, 2, 6]), sparse=sparse).sum().backward()
        gradients.append(tower.ids.weight.grad)
    assert gradients[1].is_sparse
    torch.testing.assert_close(gradients[1].to_dense(), gradients[0])


def test_frozen_vectors_are_no_part_of_the_weights(features):
    names = set(tower_of(features).state_dict())
    shapes = {name: tuple(value.shape) for name, value in tower_of(features).state_dict().items()}
    assert "trained" in names
    assert (NUM, 6) not in shapes.values()
    assert {name for name in names if "text" in name} == {
        "modalities.text.weight", "modalities.text.centre", "modalities.text.whitening",
    }  # fmt: skip


def test_whitened_vectors_have_no_common_direction_and_no_preferred_one(tmp_path):
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({"user_id": np.zeros(4000, int), "item_id": np.arange(4000)})
    folder = write_dataset(tmp_path / "many", frame, name="many").folder
    mixed = rng.normal(size=(4000, 5)) @ rng.normal(size=(5, 5)) + rng.normal(size=5) * 4
    present = rng.random(4000) < 0.9
    write_vectors(folder, "text", mixed, present, ORIGIN)
    feature = load_features(folder).vectors["text"]
    centre, whitening = whiten(feature, 3)
    rows = (feature.rows(np.flatnonzero(present)) - centre) @ whitening
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(3), atol=1e-2)
    variances = np.linalg.eigvalsh(np.cov(feature.rows(np.flatnonzero(present)).T))[::-1][:3]
    np.testing.assert_allclose(1 / np.square(whitening).sum(0), variances, rtol=1e-2)
    for strength, power in ((0.0, 0.0), (0.5, 0.5)):
        _, partly = whiten(feature, 3, strength)
        np.testing.assert_allclose(1 / np.square(partly).sum(0), variances**power, rtol=1e-2)


def test_a_feature_no_item_has_and_a_number_that_never_varies_do_no_harm(features, tmp_path):
    frame = pl.DataFrame({"user_id": np.arange(NUM) // 2, "item_id": np.arange(NUM)})
    folder = write_dataset(tmp_path / "odd", frame, name="odd").folder
    write_vectors(folder, "text", np.zeros((NUM, 6)), np.zeros(NUM, bool), ORIGIN)
    write_numbers(folder, "year", np.full(NUM, 7.0), np.ones(NUM, bool), ORIGIN)
    tower = tower_of(load_features(folder), ("text", "year"))
    assert torch.isfinite(tower.vectors()).all()


def test_what_cannot_be_is_refused_with_what_can(features):
    with pytest.raises(ConfigError, match=r"not made of sound; .* ids, text, genres, year"):
        tower_of(features).hide(["sound"])
    with pytest.raises(ValidationError, match="named twice"):
        ItemsConfig(features=("text", "text"))
    with pytest.raises(ValidationError, match="ids: true"):
        ItemsConfig(features=("ids",))
    with pytest.raises(ValidationError):
        ItemsConfig(features=())
