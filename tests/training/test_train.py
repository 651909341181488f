import shutil

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from threadpoolctl import threadpool_info, threadpool_limits

from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError, DataError, ProtocolError, RunError
from recsys.layers.spectrum import start_rows
from recsys.models import next_item
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig, read_config
from recsys.runs.loading import build_model, load_run
from recsys.runs.records import load_config, load_run_info, update_run_info
from recsys.training.checkpoint import load_weights, save_weights
from recsys.training.logs import read_lines
from recsys.training.optimizers import OptimizerConfig, build_optimizer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Users walk the circle of 30 items forward: the next item follows from the last one."""
    rng = np.random.default_rng(0)
    starts, lengths = rng.integers(0, 30, size=200), rng.integers(6, 12, size=200)
    users = np.repeat(np.arange(200), lengths)
    items = np.concatenate(
        [(start + np.arange(length)) % 30 for start, length in zip(starts, lengths, strict=True)]
    )
    frame = pl.DataFrame({"user_id": users, "item_id": items})
    return write_dataset(tmp_path_factory.mktemp("circle") / "data", frame, name="circle").folder


def settings(data, **changes):
    tree = {
        "data": str(data),
        "threads": 1,
        "model": {"granularities": {"sizes": [4, 16]}, "history_length": 10},
        "batching": {"batch_tokens": 128},
        "trainer": {"epochs": 30, "optimizer": {"learning_rate": 0.01}},
    }
    return RunConfig.model_validate({**tree, **changes})


@pytest.fixture(scope="module", params=["softmax", "sampled_softmax", "gbce"])
def run(request, data):
    loss = {"name": request.param}
    if request.param != "softmax":
        loss["negatives"] = {"uniform": 16, "in_batch": True}
    return train(settings(data, loss=loss), out=data.parent / request.param)


def test_it_learns_the_next_item_at_every_granularity(run):
    records = read_lines(run / "log.jsonl")
    losses = [record["loss/d16"] for record in records if record["event"] == "train"]
    looks = [record for record in records if record["event"] == "valid"]
    assert losses[-1] < losses[0]
    assert looks[-1]["ndcg@10/d16"] > 0.95
    assert looks[-1]["ndcg@10/d4"] > 0.6  # 30 items in 4 coordinates; by chance 0.15


def test_the_run_folder_says_how_it_was_made(run, data):
    info = load_run_info(run)
    assert info["state"] == "finished" and info["best_epoch"] >= 1
    assert info["dataset"]["name"] == "circle" and len(info["dataset"]["content_hash"]) == 64
    assert info["versions"]["torch"] == torch.__version__
    assert load_config(run).data == data
    assert list((run / "tensorboard").iterdir())


def test_every_weight_has_moved(run, data):
    loaded = load_run(run)
    fresh = build_model(loaded.config, loaded.dataset)
    for (name, now), before in zip(
        loaded.model.named_parameters(), fresh.parameters(), strict=True
    ):
        assert not torch.equal(now, before), name


def test_a_run_is_not_overwritten_and_not_resumed_with_another_config(run, data):
    config = load_config(run)
    with pytest.raises(RunError, match="holds a run already; continue it with --resume"):
        train(config, out=run)
    before = (run / "model.safetensors").read_bytes()
    train(config, out=run, resume=True)
    assert (run / "model.safetensors").read_bytes() == before
    other = config.model_copy(update={"threads": 2})
    with pytest.raises(ConfigError, match="threads: 1 -> 2"):
        train(other, out=run, resume=True)


def test_a_run_on_other_data_is_refused(data, tmp_path):
    mine = shutil.copytree(data, tmp_path / "mine")
    run = train(settings(mine, trainer={"epochs": 1}), out=tmp_path / "run")
    frame = pl.DataFrame({"user_id": [1] * 5, "item_id": [1, 2, 3, 4, 5]})
    write_dataset(mine, frame, name="other")
    with pytest.raises(RunError, match="was trained on data with content hash"):
        load_run(run)


def test_damaged_weights_are_refused(data, tmp_path):
    run = train(settings(data, trainer={"epochs": 1}), out=tmp_path / "run")
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RunError, match="damaged"):
        load_run(run)


def test_weights_that_another_version_has_written_are_not_called_damaged(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(torch.nn.Linear(2, 3, bias=False), path)
    told = r"bias should be \(3,\) and is absent. It is another run's file, or another version .* "
    with pytest.raises(RunError, match=f"{told}train again"):
        load_weights(torch.nn.Linear(2, 3), path)


def test_fitting_on_train_and_valid_trains_exactly_the_epochs(data, tmp_path):
    run = train(settings(data, fit_on="train+valid", trainer={"epochs": 2}), out=tmp_path / "run")
    assert [record["event"] for record in read_lines(run / "log.jsonl")] == ["train", "train"]
    assert load_run_info(run)["best_epoch"] == 2


def test_many_histories_are_read_in_fewer_epochs(data, tmp_path, capsys):
    rate = {"optimizer": {"learning_rate": 0.01}}
    counted = train(settings(data, trainer={"epochs": 3, **rate}), out=tmp_path / "counted")
    asked = settings(
        data, trainer={"epochs": 20, "histories": 3 * 200 + 40, "least_epochs": 2, **rate}
    )
    assert "in place of" not in capsys.readouterr().err
    folder = train(asked, out=tmp_path / "asked")
    assert "3 epochs in place of 20" in capsys.readouterr().err
    assert load_config(folder) == asked
    assert load_run_info(folder)["epochs"] == load_run_info(counted)["epochs"] == 3
    assert (folder / "model.safetensors").read_bytes() == (
        counted / "model.safetensors"
    ).read_bytes()
    assert train(asked, out=folder, resume=True) == folder, "the same config goes on"
    for least, epochs in ((2, 2), (30, 20)):
        few = asked.trainer.model_copy(update={"histories": 1, "least_epochs": least})
        assert few.for_histories(200).epochs == epochs


def test_epochs_that_are_asked_for_are_not_made_fewer(data):
    trainer = {"optimizer": {"learning_rate": 0.01}}
    for model in ({}, {"name": "sasrec"}):
        assert settings(data, model=model, trainer=trainer).trainer.histories == 450_000
        assert settings(data, model=model).trainer.histories is None, "30 epochs are asked for"
    assert settings(data, model={"name": "mf"}, trainer=trainer).trainer.histories is None
    with pytest.raises(ValueError, match=r"trainer\.histories is of models trained by gradients"):
        settings(data, model={"name": "ials"}, trainer={"histories": 100})


def test_a_run_on_mapped_histories_ends_with_the_same_weights(data, tmp_path):
    weights = []
    for mapped in (False, True):
        run = train(
            settings(data, mapped=mapped, trainer={"epochs": 2}), out=tmp_path / f"{mapped}"
        )
        weights.append((run / "model.safetensors").read_bytes())
        assert load_run(run).dataset.mapped is not None or not mapped
    assert weights[0] == weights[1]


def test_patience_ends_a_run_that_gets_no_better(data, tmp_path):
    trainer = {"epochs": 50, "patience": 2, "optimizer": {"learning_rate": 1e-9}}
    run = train(settings(data, trainer=trainer), out=tmp_path / "run")
    epochs = [r["epoch"] for r in read_lines(run / "log.jsonl") if r["event"] == "valid"]
    assert epochs[-1] - load_run_info(run)["best_epoch"] == 2 and epochs[-1] < 50


def test_training_does_not_give_up_before_its_first_validation(data):
    with pytest.raises(ValueError, match="stop before it is first validated"):
        settings(data, trainer={"patience": 2, "validate_every": 3})


def test_early_stopping_goes_by_the_named_metric(data, tmp_path):
    for name, metric in (("mean", "recall@5"), ("one", "ndcg@3/d4")):
        run = train(settings(data, trainer={"epochs": 1, "metric": metric}), out=tmp_path / name)
        record = read_lines(run / "log.jsonl")[-1]
        key, _, size = metric.partition("/d")
        values = [record[f"{key}/d{d}"] for d in ((size,) if size else (4, 16))]
        assert record["value"] == pytest.approx(sum(values) / len(values))
    with pytest.raises(ValueError, match=r"not among \(4, 16\)"):
        settings(data, trainer={"metric": "ndcg@10/d8"})
    with pytest.raises(ValueError, match="pattern"):
        settings(data, trainer={"metric": "loss"})


def test_what_cannot_be_trained_leaves_no_folder(data, tmp_path):
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": [1, 2]})
    lonely = write_dataset(tmp_path / "lonely", frame, name="lonely").folder
    with pytest.raises(DataError, match="no training examples"):
        train(settings(lonely), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="num_heads 3 does not divide embedding_dim 16"):
        settings(data, model={"granularities": {"sizes": [16]}, "encoder": {"num_heads": 3}})


def test_first_values_that_cannot_be_made_are_told_and_refused_where_asked_for(tmp_path, capsys):
    """Three items stand near each other, all alike: there is one direction and no second one."""
    walks = np.add.outer(np.arange(12), np.arange(8)) % 3
    frame = pl.DataFrame({"user_id": np.repeat(np.arange(12), 8), "item_id": walks.ravel()})
    data = write_dataset(tmp_path / "data", frame, name="alike").folder
    model = {"granularities": {"sizes": [4, 16]}}
    alike = settings(data, model=model, trainer={"epochs": 1})
    train(alike, out=tmp_path / "usual")
    assert "begin with normal values (model.init): all items" in capsys.readouterr().err
    asked = settings(data, model=model | {"init": "spectral"}, trainer={"epochs": 1})
    with pytest.raises(ConfigError, match=r"spectral has nothing to begin with.*model.init=normal"):
        train(asked, out=tmp_path / "asked")
    assert not (tmp_path / "asked").exists()  # the same place takes the mended config
    with pytest.raises(ConfigError, match="spectral has nothing"):
        train(asked, out=tmp_path / "asked", resume=True)
    train(
        settings(data, model=model | {"init": "normal"}, trainer={"epochs": 1}),
        out=tmp_path / "asked",
    )
    assert "begin with" not in capsys.readouterr().err


def test_fewer_directions_than_coordinates_are_told_in_one_line(tmp_path, capsys):
    """Items that are had in pairs: more than one direction, and fewer than sixteen."""
    walks = np.add.outer(np.arange(12), np.arange(8)) % 6
    frame = pl.DataFrame({"user_id": np.repeat(np.arange(12), 8), "item_id": walks.ravel()})
    data = write_dataset(tmp_path / "data", frame, name="few").folder
    for case, model in enumerate(
        ({}, {"name": "lightgcn"}, {"name": "ltgnn"}, {"name": "svd_gcn", "directions": 6})
    ):
        more = {"granularities": {"sizes": [4, 16]}}
        train(settings(data, model=model | more, trainer={"epochs": 1}), out=tmp_path / str(case))
        told = capsys.readouterr().err
        assert (told.count("of 16 coordinates begin") == 1) is (case < 3)
        assert (told.count("of 6 directions (model.directions)") == 1) is (case == 3)


def test_first_values_take_the_threads_of_the_config_in_numpy_too(data, tmp_path, monkeypatch):
    """numpy's BLAS sums in another order with other threads; the caller's number comes back."""
    seen = []

    def noted(*arguments, **options):
        seen.append((blas_threads(), torch.get_num_threads()))
        return start_rows(*arguments, **options)

    monkeypatch.setattr(next_item, "start_rows", noted)
    for mine, asked in ((2, 1), (1, 2)):
        with threadpool_limits(mine, "blas"):
            config = settings(data, threads=asked, trainer={"epochs": 1})
            train(config, out=tmp_path / f"run-{asked}")
            assert blas_threads() == {mine}
    assert seen == [({1}, 1), ({2}, 2)]


def blas_threads():
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_a_run_that_has_not_ended_is_only_measured_when_asked(data, tmp_path):
    run = train(settings(data, trainer={"epochs": 1}), out=tmp_path / "run")
    update_run_info(run, state="started")
    with pytest.raises(RunError, match="has not ended"):
        load_run(run)
    assert load_run(run, unfinished=True).name == "run"
    (run / "metrics").mkdir()
    train(load_config(run), out=run, resume=True)
    assert not (run / "metrics").exists()


def test_a_damaged_run_file_is_named(data, tmp_path):
    run = train(settings(data, trainer={"epochs": 1}), out=tmp_path / "run")
    (run / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        load_run(run)


def test_a_diverging_run_says_what_to_lower(data, tmp_path):
    trainer = {"epochs": 5, "optimizer": {"learning_rate": 1e18, "warmup_steps": 0}}
    with pytest.raises(RunError, match=r"lower trainer\.optimizer\.learning_rate"):
        train(settings(data, trainer=trainer), out=tmp_path / "run")


def test_a_split_that_contradicts_the_protocol_is_refused(data, tmp_path):
    with pytest.raises(ProtocolError, match="needs leave-last-out"):
        train(settings(data, split={"name": "global-time"}), out=tmp_path / "run")


def test_files_and_overrides_make_a_config(tmp_path, data):
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({"data": str(data)}))
    config = read_config(path, ["model.encoder.num_layers=2", "trainer.seed=5"])
    assert config.model.encoder.num_layers == 2 and config.trainer.seed == 5
    with pytest.raises(ConfigError, match=r"model\.encoder\.num_layer: unknown key; did you mean"):
        read_config(path, ["model.encoder.num_layer=2"])


def test_the_learning_rate_warms_up_and_follows_the_cosine():
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=9, schedule="cosine")
    assert config.rate(0, 0.0) == pytest.approx(0.1)
    assert config.rate(9, 0.0) == pytest.approx(1.0)
    assert config.rate(100, 0.5) == pytest.approx(0.05 + 0.95 / 2)
    assert config.rate(100, 1.0) == pytest.approx(0.05)


def test_tables_and_matrices_decay_but_vectors_do_not(run):
    model = load_run(run).model
    config = OptimizerConfig(weight_decay=0.1, table_weight_decay=0.2)
    decay = {
        id(p): group["weight_decay"]
        for group in build_optimizer(model, config).param_groups
        for p in group["params"]
    }
    assert decay[id(model.table.weight)] == 0.2
    assert decay[id(model.encoder.layers[0].attention.query.weight)] == 0.1
    assert decay[id(model.encoder.layers[0].attention.query.bias)] == 0.0
    assert len(decay) == len(list(model.parameters()))
