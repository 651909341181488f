"""Models that read time, linear models and models of pairs on a device: the figures of the CPU."""

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file

import recsys
from recsys.data.dataset import write_dataset
from recsys.training.checkpoint import WEIGHTS
from tests.pretend.device import NAME, install
from tests.pretend.steps import check_alike, check_checkpoints_cross, figures
from tests.pretend.test_steps import PAIRS, check_no_waits, of_pairs, settings

install()
STILL = {"nested": True, "dropout": 0.0}
TIMED = {
    "sasrec, times of interactions": ("sasrec", {"time": "history"}),
    "sasrec, times of requests": ("sasrec", {"time": "request"}),
    "sasrec, nested": ("sasrec", {"time": "request", "encoder": STILL, "history_dropout": 0.0}),
    "hstu": ("hstu", {"time": "request"}),
    "fuxi": ("fuxi", {"time": "request"}),
    "bert4rec": ("bert4rec", {}),  # reads none
}
DOTS = {"granularities": {"sizes": [4, 8], "normalize": False}}
SOLVED = {"ials": {}, "spectral": DOTS, "micro": DOTS}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Walks on a circle of 40 items, with pauses of a minute to a year."""
    rng = np.random.default_rng(0)
    steps = np.arange(7)
    items = (rng.integers(0, 40, size=(60, 1)) + steps) % 40
    times = 10**9 + (10 ** rng.uniform(1.8, 7.5, (60, 7))).astype(np.int64).cumsum(1)
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(60), 7),
            "item_id": items.ravel(),
            "timestamp": times.ravel(),
        }
    )
    return write_dataset(tmp_path_factory.mktemp("timed") / "data", frame, name="timed").folder


@pytest.mark.parametrize("case", TIMED)
def test_models_that_read_time_take_the_steps_of_the_cpu(case, data, tmp_path):
    name, options = TIMED[case]
    config = settings(data, name, **options)
    check_alike(figures(config, "cpu"), figures(config, NAME))
    check_checkpoints_cross(config, tmp_path)
    check_no_waits(config)


@pytest.mark.parametrize("table", [{}, {"name": "sparse", "kept": 3}])
def test_a_linear_autoencoder_takes_the_steps_of_the_cpu(table, data, tmp_path):
    config = settings(data, "elsa", table=table)
    check_alike(figures(config, "cpu"), figures(config, NAME))
    check_checkpoints_cross(config, tmp_path)
    check_no_waits(config)


@pytest.mark.parametrize("name", PAIRS)
def test_checkpoints_of_models_of_pairs_cross_devices(name, data, tmp_path):
    check_checkpoints_cross(of_pairs(data, name), tmp_path)


@pytest.mark.parametrize("name", SOLVED)
def test_solved_models_have_the_solution_of_the_cpu_and_are_read_on_either(name, data, tmp_path):
    tables = []
    for device in ("cpu", NAME):
        config = settings(data, name, **SOLVED[name]).model_copy(
            update={"device": device, "threads": 1}
        )
        run = recsys.train(config, out=tmp_path / device)
        for there in ("cpu", NAME):
            loaded = recsys.load_run(run, device=there)
            assert loaded.model.device.type == torch.device(there).type
            tables.append(recsys.evaluate(loaded, with_baselines=False).rows["value"].to_numpy())
    one, other = (load_file(tmp_path / device / WEIGHTS) for device in ("cpu", NAME))
    for part, values in one.items():
        np.testing.assert_allclose(values, other[part], rtol=1e-4, atol=1e-5, err_msg=part)
    for table in tables[1:]:
        np.testing.assert_allclose(table, tables[0], atol=1e-5)
