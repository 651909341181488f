"""Whole runs on the pretend device: trained, resumed elsewhere, measured, exported, asked."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import recsys
from recsys.data.dataset import write_dataset
from recsys.devices import find_device
from recsys.errors import ConfigError, RunError
from recsys.retrieval.bundle.loading import load_bundle
from recsys.runs.records import load_run_info
from recsys.training.logs import read_lines
from recsys.training.optimizers import build_optimizer
from recsys.training.trainer import StoppedError
from tests.pretend.device import NAME, install, waits
from tests.pretend.steps import with_epsilon
from tests.recipes.test_verbs import config as whole
from tests.recipes.test_verbs import frame

install()


def config(data, **changes):
    """Several steps an epoch."""
    return whole(data, batching={"batch_tokens": 100}, **changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("pretend")


@pytest.fixture(scope="module")
def data(place):
    return write_dataset(place / "data", frame(), name="walks").folder


@pytest.fixture(scope="module", autouse=True)
def steady_steps():
    """Adam makes whole steps of gradients that are nothing but rounding; here it does not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "recsys.training.trainer.build_optimizer",
            lambda model, settings: with_epsilon(build_optimizer(model, settings)),
        )
        yield


@pytest.fixture(scope="module")
def runs(place, data):
    """The same run on the CPU and on the device."""
    return [
        recsys.train(config(data, device=device), out=place / device) for device in ("cpu", NAME)
    ]


def losses(run):
    lines = read_lines(run / "log.jsonl")
    return np.array([line["loss/d8"] for line in lines if line["event"] == "train"])


def weights(run):
    return load_file(run / "model.safetensors")


def check_weights(one, other):
    assert weights(one).keys() == weights(other).keys()
    for name, array in weights(one).items():
        np.testing.assert_allclose(array, weights(other)[name], rtol=1e-4, atol=1e-5, err_msg=name)


def figures(table):
    rows = table.rows.filter(table.rows["metric"] == "ndcg")
    return rows["value"].to_numpy()


def test_a_run_has_the_figures_of_the_cpu(runs):
    np.testing.assert_allclose(losses(runs[0]), losses(runs[1]), rtol=1e-5)
    check_weights(*runs)
    tables = [
        recsys.evaluate(recsys.load_run(run, device=device), with_baselines=False)
        for run in runs
        for device in ("cpu", NAME)
    ]
    for table in tables[1:]:
        np.testing.assert_allclose(figures(tables[0]), figures(table), atol=1e-5)


@pytest.mark.parametrize(("first", "then"), [("cpu", NAME), (NAME, "cpu")])
def test_a_run_begun_on_one_device_goes_on_on_another(first, then, data, runs, tmp_path):
    def stop(moment):
        if moment.step == 3:
            raise StoppedError("enough for today")

    settings = config(data, trainer={"epochs": 2, "checkpoint_seconds": 0})
    before = settings.model_copy(update={"device": first})
    with pytest.raises(StoppedError):
        recsys.train(before, out=tmp_path / "run", callback=stop)
    after = settings.model_copy(update={"device": then})
    run = recsys.train(after, out=tmp_path / "run", resume=True)
    assert load_run_info(run)["state"] == "finished"
    np.testing.assert_allclose(losses(runs[0]), losses(run), rtol=1e-5)
    check_weights(runs[0], run)


def test_bundles_and_recommendations_are_those_of_the_cpu(runs, tmp_path):
    bundles, lists = [], []
    for device in ("cpu", NAME):
        opened = recsys.load_run(runs[0], device=device)
        recsys.export(opened, tmp_path / device, tower=True)
        bundles.append(load_bundle(tmp_path / device))
        made = recsys.load(runs[0], device=device)
        lists.append(made.recommend(made.users[:20], k=5))
    one, other = (bundle.items.decode(slice(None), 0, bundle.dim) for bundle in bundles)
    np.testing.assert_allclose(one, other, atol=1e-6)
    same = lists[0]["item_id"] == lists[1]["item_id"]
    assert same.all()
    np.testing.assert_allclose(lists[0]["score"], lists[1]["score"], rtol=1e-5)


def test_the_losses_of_many_steps_are_read_at_once(data, tmp_path):
    with waits() as found:
        recsys.train(
            config(data, device=NAME, fit_on="train+valid", trainer={"epochs": 1}),
            out=tmp_path / "run",
        )
    assert read_lines(tmp_path / "run" / "log.jsonl")[-1]["step"] >= 5
    assert found.count("_local_scalar_dense") <= 2  # of the run as a whole


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gpu", "device 'gpu' is unknown; choose auto, cpu, cuda, cuda:1"),
        ("cuda:x", "device 'cuda:x' is unknown"),
    ],
)
def test_unknown_devices_are_refused_with_what_is_allowed(name, told, data, tmp_path):
    with pytest.raises(ValueError, match=told):
        config(data, device=name)
    with pytest.raises(ConfigError, match=told):
        find_device(name)


def test_a_gpu_that_is_not_there_is_refused_before_a_folder_is_made(data, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"device cuda: torch .* choose device=cpu"):
        recsys.train(config(data, device="cuda"), out=tmp_path / "run")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ConfigError, match="there is no GPU 5; this machine has cuda:0, cuda:1"):
        find_device("cuda:5")


def full(*_, **__):
    raise torch.OutOfMemoryError("tried to allocate 2.00 GiB")


def test_memory_that_is_not_enough_names_the_settings_that_help(data, runs, tmp_path, monkeypatch):
    run = recsys.load_run(runs[0], device=NAME)
    monkeypatch.setattr("recsys.training.trainer._Loop._step", full)
    with pytest.raises(RunError, match=r"too little memory .*batching.batch_tokens"):
        recsys.train(config(data, device=NAME), out=tmp_path / "run")
    told = r"pretend:0 has too little memory \(tried .*--device cpu"
    made = recsys.load(runs[0], device=NAME)
    monkeypatch.setattr("recsys.models.sasrec.SASRec.user_vectors", full)
    for read in (
        lambda: recsys.evaluate(run, with_baselines=False),
        lambda: recsys.export(run, tmp_path / "bundle"),
        lambda: made.recommend(made.users[:3], k=2),
    ):
        with pytest.raises(RunError, match=told):
            read()
    assert not (tmp_path / "bundle").exists()
