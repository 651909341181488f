"""What a user is told of a run whose figures say little."""

import pytest
import torch
from rich.console import Console

from recsys.data.splitting import make_split
from recsys.recipes.evaluating.evaluate import evaluate
from recsys.recipes.training import remarks
from recsys.recipes.training.remarks import num_distinct, rows_left_out
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig
from recsys.runs.loading import load_run
from recsys.training.checkpoint import WEIGHTS, save_weights
from tests.contract import checkerboard


@pytest.fixture
def told(monkeypatch):
    """What remarks print."""
    console = Console(record=True, width=500)
    monkeypatch.setattr(remarks, "console", console)
    return console.export_text


def trained(tmp_path, **model):
    tree = {
        "data": str(checkerboard(tmp_path / "board").folder),
        "threads": 1,
        "model": {"granularities": {"sizes": [4, 8]}, "history_length": 12, **model},
        "batching": {"batch_tokens": 64},
        "trainer": {"epochs": 1},
    }
    return train(RunConfig.model_validate(tree), out=tmp_path / "run")


def test_a_run_whose_items_coincide_says_so_when_it_is_measured(tmp_path, told):
    run = trained(tmp_path)
    assert "distinct vectors" not in told()
    model = load_run(run).model
    with torch.no_grad():
        model.table.weight[3:] = model.table.weight[2]
    save_weights(model, run / WEIGHTS)
    evaluate(run, with_baselines=False)
    assert "3 distinct vectors stand for 20 items" in told()


def test_items_that_coincide_are_told_when_training_ends(tmp_path, told):
    trained(tmp_path, table={"name": "hashed", "method": "hash", "share": 0.25})
    text = told()
    assert "distinct vectors stand for 20 items" in text
    assert int(text.split(" distinct")[0].split()[-1]) <= 5


def test_rows_that_are_cut_without_having_been_trained_so_short_are_told(tmp_path, told):
    """One epoch of three steps ends before the ramp does."""
    table = {"name": "widths", "share": 0.75, "start": 0.4, "ramp": 0.5}
    run = trained(tmp_path, table=table)
    assert "of the ramp, so rows are cut" in told()
    evaluate(run, with_baselines=False)
    assert "rows are cut to the share of 0.75 without having been trained so" in told()


def test_targets_that_a_short_history_leaves_out_are_counted_as_the_model_takes_them(tmp_path):
    """Of a sequence the first row is not a target, of pairs each row is one."""
    dataset = checkerboard(tmp_path / "board")
    split = make_split(dataset)
    rows = int((split.train_end - split.start).sum())
    for name, possible in {"sasrec": rows - dataset.num_users, "two_tower": rows}.items():
        config = RunConfig.model_validate({"data": ".", "model": {"name": name}})
        assert f"10 of {possible:,} targets" in rows_left_out(config, split, 10)[0]


def test_rows_that_differ_are_counted_whatever_their_signs_and_zeros():
    rows = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert num_distinct(rows) == 4
    many = torch.randn(40_000, 3)
    assert num_distinct(torch.cat([many, many])) == 40_000
