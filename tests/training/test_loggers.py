"""Loggers by name: what they are sent, how they go on when a run is resumed, what is refused."""

from pathlib import Path

import pytest

from recsys import extras
from recsys.config import apply_overrides, parse
from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError, InstallationError
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig
from recsys.runs.loading import load_run
from recsys.runs.records import load_config, load_run_info
from recsys.training.loggers import LoggerConfig
from recsys.training.logs import read_lines
from recsys.training.trainer import StoppedError
from tests.training.test_run_folders import frame, settings

SENT = []
"""What `Listening` was sent."""


class ListeningConfig(LoggerConfig):
    """Options of a logger of these tests."""

    fails_at: int = -1


class Listening:
    """A logger from outside the package."""

    Config = ListeningConfig
    extra = None
    vital = False

    def __init__(self, config, about, kept):
        self.config, self.kept = config, {"token": "t1"}
        SENT.append(("made", about, kept))

    def begin(self, step):
        SENT.append(("begin", step))

    def write(self, event, step, scalars, epoch):
        if step == self.config.fails_at:
            raise TimeoutError("the service is gone")
        SENT.append((event, step, dict(scalars), epoch))

    def close(self, ending):
        SENT.append(("close", ending))


class Vital(Listening):
    """One whose errors end training."""

    vital = True


HERE = f"{__name__}:Listening"


@pytest.fixture(autouse=True)
def nothing_sent():
    SENT.clear()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    place = tmp_path_factory.mktemp("logged")
    return write_dataset(place / "walks", frame(), name="walks").folder


def config_of(data, epochs, logs):
    """A run of several steps an epoch."""
    batching = {"batch_tokens": 64, "bucket_batches": 2}
    return settings(data, epochs, logs=logs, batching=batching)


def stop_after(steps):
    """A callback that stops as SIGTERM does, without its checkpoint."""

    def stop(moment):
        if moment.step >= steps and moment.event == "step":
            raise StoppedError("enough")

    return stop


def interrupted(config, out):
    """Trains, is stopped in the second epoch, and goes on."""
    steps = []
    train(config, out=out.with_name("whole"), callback=lambda m: steps.append(m.step) or None)
    SENT.clear()
    with pytest.raises(StoppedError):
        train(config, out=out, callback=stop_after(max(steps) // 2 + 2))
    train(config, out=out, resume=True)
    return max(steps)


def test_names_and_sections_choose_loggers(data):
    config = settings(data, logs=["tensorboard", {"name": "mlflow", "experiment": "x"}])
    assert [each.name for each in config.logs] == ["tensorboard", "mlflow"]
    assert config.logs[1].experiment == "x"
    tree = apply_overrides({"data": str(data)}, ["logs=[tensorboard, wandb]"])
    assert [each.name for each in parse(RunConfig, tree, "it").logs] == ["tensorboard", "wandb"]
    assert [each.name for each in settings(data).logs] == ["tensorboard"]
    for wrong, words in (
        (["tensorboard", "tensorboard"], "stands twice"),
        (["nothing"], "no logger named 'nothing'; known: tensorboard, wandb, mlflow"),
        ("wandb", "a list of loggers is expected"),
        ([{"name": "mlflow", "uri": "x"}], "uri"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse(RunConfig, {"data": str(data), "logs": wrong}, "it")


def test_a_logger_is_sent_origin_steps_epochs_and_validations(data, tmp_path):
    config = config_of(data, 2, logs=[{"name": HERE, "every": 1}])
    run = train(config, out=tmp_path / "run")
    (_, about, kept), begin, *sent, close = SENT
    info = load_run_info(run)
    assert kept is None and begin == ("begin", 1) and close == ("close", "finished")
    assert about.name == "run" and about.config["trainer"]["epochs"] == 2
    assert about.origin["content_hash"] == info["dataset"]["content_hash"]
    assert about.origin["commit"] == str(info["commit"])
    steps = [each[1] for each in sent if each[0] == "step"]
    assert steps == list(range(1, len(steps) + 1))
    assert set(sent[0][2]) == {"loss/d4", "loss/d8", "learning_rate"}
    logged = {(r["event"], r["step"]): r for r in read_lines(run / "log.jsonl")}
    others = [each for each in sent if each[0] != "step"]
    assert len(others) == len(logged) == 4
    for event, step, scalars, epoch in others:
        record = logged[event, step]
        assert scalars == {key: record[key] for key in scalars} and record["epoch"] == epoch
    first = [each[2]["loss/d8"] for each in sent if each[0] == "step" and each[3] == 0]
    assert sum(first) / len(first) == pytest.approx(others[0][2]["loss/d8"])


def test_steps_are_sent_as_often_as_asked_for(data, tmp_path):
    train(config_of(data, 1, logs=[{"name": HERE, "every": 0}]), out=tmp_path / "run")
    assert [each[0] for each in SENT] == ["made", "begin", "train", "valid", "close"]


def test_a_resumed_run_goes_on_in_the_same_place(data, tmp_path):
    config = config_of(data, 2, logs=[{"name": HERE, "every": 1}])
    interrupted(config, tmp_path / "run")
    made = [each for each in SENT if each[0] == "made"]
    assert [each[2] for each in made] == [None, {"token": "t1"}]
    assert [each[1] for each in SENT if each[0] == "close"] == ["stopped", "finished"]


def test_a_service_that_fails_is_told_once_and_training_goes_on(data, tmp_path, capsys):
    logs = [{"name": HERE, "every": 1, "fails_at": 1}, "tensorboard"]
    run = train(config_of(data, 2, logs=logs), out=tmp_path / "run")
    told = capsys.readouterr().err
    assert told.count("fails (TimeoutError: the service is gone)") == 1
    assert [each[0] for each in SENT] == ["made", "begin"]
    assert load_run_info(run)["state"] == "finished"
    vital = [{"name": f"{__name__}:Vital", "every": 1, "fails_at": 1}]
    with pytest.raises(TimeoutError):
        train(config_of(data, 2, logs=vital), out=tmp_path / "other")
    assert SENT[-1] == ("close", "failed")


def test_a_missing_package_is_told_before_anything_is_made(data, tmp_path, monkeypatch):
    run = train(config_of(data, 1, logs=[]), out=tmp_path / "kept")
    assert not (run / "tensorboard").exists()
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("logs: []", "logs: [{name: wandb}]"))
    found = extras.find_spec
    monkeypatch.setattr(
        extras, "find_spec", lambda n: None if n in ("wandb", "mlflow") else found(n)
    )
    for name in ("wandb", "mlflow"):
        with pytest.raises(InstallationError, match=rf"pip install 'recsys\[{name}\]'"):
            train(config_of(data, 1, logs=[name]), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert load_run(run).config.logs[0].name == "wandb", "figures of the run need no logger"


def test_mlflow_has_parameters_origin_and_each_value_once(data, tmp_path):
    tracking = pytest.importorskip("mlflow.tracking")
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    logs = [{"name": "mlflow", "tracking_uri": store, "experiment": "walks", "every": 1}]
    last = interrupted(config_of(data, 2, logs=logs), tmp_path / "run")
    client = tracking.MlflowClient(tracking_uri=store)
    found = client.search_runs([client.get_experiment_by_name("walks").experiment_id])
    assert sorted(run.info.run_name for run in found) == ["run", "whole"]
    run = next(each for each in found if each.info.run_name == "run")
    info = load_run_info(tmp_path / "run")
    assert run.info.status == "FINISHED"
    assert run.data.params["trainer.epochs"] == "2" and run.data.params["model.name"] == "sasrec"
    assert run.data.tags["recsys.content_hash"] == info["dataset"]["content_hash"]
    assert run.data.tags["recsys.commit"] == str(info["commit"])
    history = client.get_metric_history(run.info.run_id, "step/loss/d8")
    assert sorted(each.step for each in history) == list(range(1, last + 1))
    looks = client.get_metric_history(run.info.run_id, "valid/ndcg_at_10/d8")
    records = [r for r in read_lines(tmp_path / "run" / "log.jsonl") if r["event"] == "valid"]
    assert [each.value for each in looks] == [r["ndcg@10/d8"] for r in records]


def test_mlflow_that_cannot_be_reached_is_refused(data, tmp_path):
    pytest.importorskip("mlflow")
    logs = [{"name": "mlflow", "tracking_uri": "nowhere://x"}]
    with pytest.raises(ConfigError, match="logger mlflow cannot write to nowhere://x"):
        train(config_of(data, 1, logs=logs), out=tmp_path / "run")


def test_wandb_writes_offline_and_goes_on_with_the_same_run(data, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    out = tmp_path / "run"
    interrupted(config_of(data, 2, logs=["wandb", "tensorboard"]), out)
    sessions = sorted(Path(out / "wandb").glob("offline-run-*"))
    # offline-run-TIME-ID, and -1 behind it where both began within a second.
    assert len({each.name.split("-")[3] for each in sessions}) == 1
    assert any((session / f).stat().st_size for session in sessions for f in _files(session))
    assert list((out / "tensorboard").iterdir())


def _files(session):
    return [path.name for path in session.glob("*.wandb")]


@pytest.mark.parametrize("event", ["step", "epoch", "validation"])
def test_a_callback_may_end_training_at_any_moment_beside_loggers(data, tmp_path, event):
    def enough(moment):
        return "enough" if moment.event == event and moment.step >= 2 else None

    logs = [{"name": HERE, "every": 1}]
    run = train(config_of(data, 3, logs=logs), out=tmp_path / "run", callback=enough)
    info = load_run_info(run)
    assert info["ended"] == "enough" and info["state"] == "finished"
    assert SENT[-1] == ("close", "finished") and load_run(run).dataset.manifest.name == "walks"


def test_a_resumed_run_may_have_other_loggers_and_notes_them(data, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(StoppedError):
        train(config_of(data, 2, logs=[]), out=out, callback=stop_after(2))
    train(config_of(data, 2, logs=[{"name": HERE}]), out=out, resume=True)
    assert [each.name for each in load_config(out).logs] == [HERE]
    assert SENT[-1] == ("close", "finished")
    before = len(SENT)
    train(config_of(data, 2, logs=["tensorboard"]), out=out, resume=True)
    assert len(SENT) == before and load_config(out).logs[0].name == HERE, "it has finished"
