"""BERT4Rec: what is hidden, what is seen, and that training asks what ranking asks."""

import numpy as np
import pytest
import torch

from recsys.config import parse
from recsys.data.batching import Batch
from recsys.errors import ConfigError
from recsys.losses.softmax import Negatives
from recsys.models.bert4rec import BERT4Rec, BERT4RecConfig
from recsys.recipes.training.train import train
from recsys.runs.loading import load_run
from tests.contract import check_model, checkerboard
from tests.models.test_models import histories, settings


def made(*, share=0.0, layers=2, objective=None):
    """A model of random weights; `objective`: what is called in place of a loss."""
    torch.manual_seed(0)
    tree = {
        "granularities": {"sizes": [4, 8], "normalize": False},
        "history_length": 5,
        "hidden_share": share,
        "encoder": {"num_layers": layers, "dropout": 0.0},
    }
    more = {} if objective is None else {"objective": objective}
    model = BERT4Rec(BERT4RecConfig.model_validate(tree), num_items=30, **more)
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_()
    return model


class Asked:
    """An objective that keeps what it is given."""

    def __call__(self, users, items, targets, *_, negatives=None):
        self.users, self.items, self.targets, self.negatives = users, items, targets, negatives


def test_it_passes_the_checkerboard(tmp_path):
    board, counter = checkerboard(tmp_path / "board"), iter(range(9))

    def fit(_board, _rows):
        config = settings("bert4rec", board.folder, hidden_share=0.3)
        return load_run(train(config, out=tmp_path / f"run{next(counter)}")).model

    check_model(fit, tmp_path)


@pytest.mark.parametrize("layers", [1, 2])
def test_training_asks_at_the_mask_that_ranking_puts_behind_the_history(layers):
    asked = Asked()
    model = made(layers=layers, objective=asked)
    some = histories([1, 2, 3], [4, 7])
    for last in (9, 17):  # what is asked for is not seen
        model.loss(Batch(some, np.array([2, 3, last, 7, last])), None)
        assert asked.targets.tolist() == [last, last]
        torch.testing.assert_close(asked.users, model.user_vectors(some), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(asked.items, model.item_vectors())


def test_hidden_tokens_are_not_seen_and_see_both_sides():
    asked = Asked()
    model = made(share=0.5, objective=asked)

    def users(items, last):
        torch.manual_seed(3)
        model.loss(Batch(histories(items), np.array([*items[1:], last])), None)
        return dict(zip(asked.targets.tolist(), asked.users.detach(), strict=True))

    found = users([11, 12, 13, 14], 15)
    assert len(found) == 3 and 15 in found
    place = next(item - 11 for item in found if item < 15)
    items = [11, 12, 13, 14]
    items[place] = 20
    others = users(items, 15)
    torch.testing.assert_close(others[20], found[11 + place])
    torch.testing.assert_close(others[15], found[15])
    for seen in (place for place in range(4) if place + 11 not in found):
        items = [11, 12, 13, 14]
        items[seen] = 20
        changed = users(items, 15)
        assert all(not torch.allclose(changed[item], found[item]) for item in found)


def test_what_is_hidden_is_the_last_of_each_and_a_share_of_the_others():
    model = made(share=0.25)
    some = histories(*[list(range(9)) for _ in range(8)])
    whole, layout = model._whole(Batch(some, np.tile(np.arange(1, 10), 8)))
    assert whole.items[:10].tolist() == list(range(10))
    drawn = torch.zeros(80)
    for _ in range(300):
        hidden = model._hidden(layout, 80)
        assert len(set(hidden.tolist())) == len(hidden) == 8 + 18
        assert set(layout.last.tolist()) <= set(hidden.tolist())
        drawn[hidden] += 1
    others = drawn.view(8, 10)[:, :9]
    assert others.min() > 300 * 0.25 * 0.5 and others.max() < 300 * 0.25 * 1.5


def test_sampled_negatives_stand_before_the_targets():
    asked = Asked()
    model = made(share=0.5, objective=asked)
    drawn = Negatives(torch.tensor([5, 6]), None)
    model.loss(Batch(histories([1, 2, 3]), np.array([2, 3, 4])), drawn)
    wanted = model.item_vectors()[torch.cat([drawn.items, asked.targets])]
    torch.testing.assert_close(asked.items, wanted)


@pytest.mark.parametrize("layers", [1, 2])
def test_padded_rows_and_batches_do_not_matter(layers):
    model = made(layers=layers).eval()
    lists = ([1, 2, 3], [4], [5, 6, 7, 8, 9])
    users = model.user_vectors(histories(*lists))
    alone = torch.cat([model.user_vectors(histories(items)) for items in lists])
    torch.testing.assert_close(users, alone, rtol=1e-4, atol=1e-5)
    padded = torch.full((3, 5, 8), 1e3)
    for row, items in enumerate(lists):
        padded[row, : len(items)] = model.item_vectors()[items]
    lengths = torch.tensor([len(items) for items in lists])
    torch.testing.assert_close(model.user_tower()(padded, lengths), users, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"encoder": {"nested": True}}, "encoder.nested is of models that read"),
        ({"encoder": {"distances": 4}}, "encoder.distances is of models"),
        ({"encoder": {"num_heads": 3}}, "num_heads 3 does not divide"),
        ({"seen_negatives": True}, "seen_negatives is of models"),
        ({"repeat_bias": True}, "repeat_bias is of models"),
        ({"time": "history"}, "bert4rec reads no time"),
    ],
)
def test_options_of_other_models_are_refused(changed, text):
    with pytest.raises(ConfigError, match=text):
        parse(BERT4RecConfig, changed, "the options of bert4rec")
