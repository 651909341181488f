import numpy as np
import pytest
import torch

from recsys.config import parse
from recsys.data.histories import Histories
from recsys.layers.histories.mean import FIRST_WEIGHT, HistoryMean
from recsys.layers.jagged import layout_of
from recsys.models import SASRec, SASRecConfig
from recsys.runs.config import RunConfig

LENGTHS = [3, 1, 5]


def layout():
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64)
    items = np.arange(offsets[-1]).astype(np.int32)
    return layout_of(Histories(np.arange(len(LENGTHS)), items, offsets))


@pytest.mark.parametrize("window", [1, 3, 9])
def test_each_token_has_the_mean_of_its_users_recent_items(window):
    vectors = torch.randn(9, 8)
    mean = HistoryMean(window, (4, 8), nested=False)
    found = mean(vectors, layout())
    starts = [0, 3, 4]
    for start, length in zip(starts, LENGTHS, strict=True):
        for end in range(start, start + length):
            wanted = vectors[max(start, end + 1 - window) : end + 1].mean(0)
            wanted = torch.nn.functional.layer_norm(wanted, (8,)) * FIRST_WEIGHT
            torch.testing.assert_close(found[end], wanted)
    torch.testing.assert_close(mean(vectors, layout(), last=True), found[layout().last])


def test_a_nested_mean_hides_later_blocks_from_earlier_ones():
    vectors = torch.randn(9, 8)
    mean = HistoryMean(3, (4, 8), nested=True)
    before = mean(vectors, layout())
    vectors[:, 4:] = torch.randn(9, 4)
    after = mean(vectors, layout())
    torch.testing.assert_close(after[:, :4], before[:, :4])
    assert not torch.allclose(after[:, 4:], before[:, 4:])


def test_a_run_of_an_earlier_version_has_no_mean():
    def mean_of(model, stored):
        tree = {"data": "data/x", "model": model}
        return parse(RunConfig, tree, "a config", stored=stored).model.history_mean

    assert mean_of({"name": "sasrec"}, False) == SASRecConfig().history_mean > 0
    assert mean_of({"name": "sasrec"}, True) == mean_of({}, True) == 0
    assert mean_of({"name": "sasrec", "history_mean": 5}, True) == 5
    other = {"data": "data/x", "model": {"name": "hstu"}}
    parse(RunConfig, other | {"protocol": "request-time"}, "a run", stored=True)


@pytest.mark.parametrize("nested", [False, True])
def test_the_tower_of_padded_rows_means_the_same_items(nested):
    torch.manual_seed(0)
    config = SASRecConfig.model_validate(
        {
            "granularities": {"sizes": [4, 8]},
            "history_length": 6,
            "history_mean": 2,
            "encoder": {"nested": nested},
        }
    )
    model = SASRec(config, num_items=9).eval()
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64)
    rows = Histories(np.arange(3), np.arange(9, dtype=np.int32), offsets)
    padded = torch.zeros(3, 5, 8)
    with torch.no_grad():
        for row, (start, length) in enumerate(zip(offsets, LENGTHS, strict=False)):
            padded[row, :length] = model.item_vectors()[start : start + length]
        found = model.user_tower()(padded, torch.tensor(LENGTHS))
        wanted = model.user_vectors(rows)
        torch.testing.assert_close(found, wanted)
        model.mean.window = 5
        assert not torch.allclose(model.user_vectors(rows), wanted)
