"""Checkpoints go from any number of processes and any sharding to any other, and to one tensor."""

import shutil

import numpy as np
import pytest
import torch

from recsys.errors import RunError
from recsys.tables import DenseConfig, DenseTable
from recsys.tables.distributed.shard_files import load_whole, saved_shapes
from tests.distributed import training
from tests.distributed.workers import run

STEPS = 5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training.write_data(tmp_path_factory.mktemp("data") / "data").folder


def checkpoint_of(folder):
    return next((folder / "checkpoints").iterdir()) / "tables" / "table"


@pytest.fixture(scope="module")
def saved(data, tmp_path_factory):
    """The run folder of two processes that cut the table unevenly, with what came after."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    results = run(2, training.save_after, data, folder, ("uneven", "adagrad"), STEPS)
    return folder, *results[0]


@pytest.mark.parametrize(
    ("world_size", "sharding"),
    [(1, "table_wise"), (4, "uneven"), (4, "row_wise"), (2, "column_wise")],
)
def test_another_world_size_or_sharding_goes_on_with_the_same_losses(
    world_size, sharding, data, saved, tmp_path
):
    folder, weights, losses = saved
    shutil.copytree(folder, tmp_path / "run")
    found = run(
        world_size, training.load_and_go_on, data, tmp_path / "run", (sharding, "adagrad"), STEPS
    )
    for loaded, later in found:
        for name, value in weights.items():
            np.testing.assert_array_equal(loaded[name], value)
        np.testing.assert_allclose(later, losses, rtol=0, atol=1e-5)


def test_a_sharded_checkpoint_loads_into_a_plain_dense_table(saved):
    folder, weights, _ = saved
    table = DenseTable(DenseConfig(), 61, 32, init_std=1.0)
    table.load_state_dict({"weight": load_whole(checkpoint_of(folder), "weight")})
    np.testing.assert_array_equal(table.weight.detach().numpy(), weights["table.weight"])


def test_the_files_are_safetensors_and_nothing_else(saved):
    files = list(checkpoint_of(saved[0]).iterdir())
    assert files and all(file.suffix == ".safetensors" for file in files)
    assert saved_shapes(checkpoint_of(saved[0])) == {"weight": (61, 32), "sum": (61, 32)}


def test_row_wise_sums_of_column_shards_become_the_mean_of_the_row(data, tmp_path):
    run(2, training.save_after, data, tmp_path / "run", ("uneven", "rowwise_adagrad"), STEPS)
    folder = checkpoint_of(tmp_path / "run")
    widths = {"sum/0-4": 4, "sum/4-8": 4, "sum/8-32": 24}
    assert set(saved_shapes(folder)) == {"weight", *widths}
    parts = {name: load_whole(folder, name).numpy() for name in widths}
    expected = sum(width * parts[name] for name, width in widths.items()) / 32
    for found in run(4, training.sums_after_loading, folder, ("row_wise", "rowwise_adagrad")):
        for (row, rows, _, _), sums in found.items():
            np.testing.assert_allclose(sums, expected[row : row + rows], rtol=1e-6)
    for found in run(1, training.sums_after_loading, folder, ("column_wise", "rowwise_adagrad")):
        np.testing.assert_allclose(found[0, 61, 0, 32], expected, rtol=1e-6)


def test_a_checkpoint_of_another_table_is_refused(saved, tmp_path):
    torch.manual_seed(0)
    table = training.ShardedTable(
        training.table_config("table_wise", "adagrad", 1), 60, 32, init_std=1.0
    )
    with pytest.raises(RunError, match=r"\(61, 32\).*\(60, 32\)"):
        table.load(checkpoint_of(saved[0]))
