"""`recsys train`: training of a run from its config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from recsys.data.batching import TrainBatches
from recsys.data.dataset import Dataset, load_dataset
from recsys.data.histories import item_counts
from recsys.data.negatives import NegativeSampler
from recsys.data.splitting import Split, make_split
from recsys.devices import find_device
from recsys.errors import ConfigError
from recsys.evaluation.evaluate import EvaluationOptions, RankingOptions, evaluate
from recsys.evaluation.held_out import fit_histories, held_out
from recsys.evaluation.protocol import find_protocol
from recsys.files.atomic import remove
from recsys.files.scratch import missing_folders, remove_empty
from recsys.kernels.threads import limited
from recsys.models import Model
from recsys.processes import Processes, joined
from recsys.progress import console
from recsys.recipes.training.clusters import assign_clusters
from recsys.recipes.training.like import config_like
from recsys.recipes.training.remarks import fewer_epochs, rows_left_out, tell, trained_oddly
from recsys.recipes.updating.start import begin
from recsys.runs.config import RunConfig, read_config
from recsys.runs.finding import find_data
from recsys.runs.folder import change_length, change_logs, check_place, create_run, training
from recsys.runs.idle import idle_options
from recsys.runs.loading import build_model, has_begun, place, tell_rows
from recsys.runs.records import METRICS, RUN, load_config, load_run_info, update_run_info
from recsys.tables.distributed.plan import sharded_tables
from recsys.towers.items import ItemTower
from recsys.training.callbacks import Callback, Validation
from recsys.training.checkpoint import WEIGHTS, TrainState, load_weights
from recsys.training.loggers import About
from recsys.training.loggers.watching import check_loggers, watched
from recsys.training.logs import LOG, read_lines
from recsys.training.solving import solve_rounds
from recsys.training.trainer import StoppedError, drop_checkpoints
from recsys.training.trainer import train as train_loop


def train(
    config: str | Path | RunConfig | None = None,
    overrides: Sequence[str] = (),
    *,
    out: str | Path,
    resume: bool = False,
    like: str | Path | None = None,
    callback: Callback | None = None,
) -> Path:
    """Trains a model and leaves a run folder.

    Under torchrun this is the same function in every process: each takes a share of every batch
    and of the catalogue that is ranked, the first one writes the files.

    Args:
        config: a YAML file, or a config object; None with `like`.
        overrides: `key=value` changes to the file; none with a config object.
        out: the run folder; several processes must see the same one.
        resume: continue the run that stands there; a finished one is left as it is.
        like: a finished run, whose config is taken, and its best epoch as the number of epochs
            where nothing is held out (`fit_on=all`).
        callback: called with a `Moment` after every step, epoch and validation. Where it answers
            with a reason, training ends there, and the run is finished with its best weights.

    Returns:
        The run folder.

    Raises:
        ConfigError, DataError, RunError, ProtocolError: see their messages.
        StoppedError: SIGTERM or Ctrl-C came; the state is saved.
        PeerError: another process of the run has failed, with its reason.
    """
    if (config is None) == (like is None):
        raise ConfigError("name a config file, or a run to train alike (like), and not both")
    if isinstance(config, RunConfig) and overrides:
        raise ConfigError(
            f"overrides {list(overrides)} change a file, and a config object was given; "
            "change the object (model_copy), or give the file"
        )
    settings = _settings(config, overrides, like)
    check_loggers(settings.logs)
    # Threads and random numbers of the caller are as they were in the end.
    with limited(settings.threads), joined() as processes, torch.random.fork_rng(devices=[]):
        if processes.first and not isinstance(config, RunConfig):
            typed = [each.partition("=")[0] for each in overrides]
            tell(idle_options(settings, None if like is None else typed))
        _train(settings, Path(out), processes, resume=resume, callback=callback)
    return Path(out)


def check_trainable(settings: RunConfig, dataset: Dataset) -> None:
    """Returns if a config can be trained, as far as that is known before the first step.

    Raises:
        ConfigError, DataError, InstallationError, ProtocolError: it cannot.
    """
    check_loggers(settings.logs)
    find_device(settings.device)
    split = make_split(dataset, settings.split_rule(dataset))
    build_model(settings, dataset)
    if settings.fit_on == "train":
        held_out(dataset, split, "valid")


def _settings(
    config: str | Path | RunConfig | None, overrides: Sequence[str], like: str | Path | None
) -> RunConfig:
    if like is not None:
        return config_like(like, overrides)
    assert config is not None
    return config if isinstance(config, RunConfig) else read_config(config, overrides)


def _train(
    settings: RunConfig,
    folder: Path,
    processes: Processes,
    *,
    resume: bool,
    callback: Callback | None,
) -> None:
    if processes.first:
        check_place(folder, resume=resume)
    else:
        processes.wait()
    resumed = resume and (folder / RUN).is_file()
    data = _data_of(settings, folder) if resumed else settings.data
    dataset = load_dataset(data, mapped=settings.mapped)
    if processes.first:  # what it maps, the others find
        processes.wait()
    split = make_split(dataset, settings.split_rule(dataset))
    _check_kind(settings, processes)
    # Made before the folder is: what cannot be trained leaves nothing behind.
    model = build_model(settings, dataset)
    table = getattr(model, "table", None)
    if isinstance(table, ItemTower):
        counts = item_counts(dataset, split.start, split.fit_end(settings.fit_on))
        table.note_trained(counts)
    batches = TrainBatches(
        settings.batching,
        dataset,
        split,
        fit_on=settings.fit_on,
        history_length=settings.model.history_length,
        seed=settings.trainer.seed,
        older=settings.model.counts_seen,
        pairs=settings.model.pairs,
    )
    if settings.model.pairs:
        model.note_users(split.fit_end(settings.fit_on) > split.start)
    tell_rows(model, dataset, split, settings.fit_on)
    if settings.fit_on == "train":
        held_out(dataset, split, "valid")  # refuses what has nothing to validate by
    start = None
    if settings.update is None:
        assign_clusters(model, dataset, split, settings.fit_on)
    else:
        start = begin(settings, folder, model, (dataset, split), batches, processes)
    place(model, settings.device)
    made = processes.first and not (folder / RUN).is_file()
    above = missing_folders(folder.absolute().parent)
    if processes.first:
        create_run(folder, settings, dataset, resume=resume)
    (left,) = processes.any(processes.first and _is_left(folder, settings))
    if left:
        threads = limited(load_run_info(folder)["threads"])  # the same number repeats bits
        alone = training(folder) if processes.first else nullcontext()
        with _refusals(folder, above) if made else nullcontext(), alone, threads:
            if start is not None:
                start.write(folder, model, settings)
            elif settings.update is None and not has_begun(folder):
                _begin_anew(settings, dataset, split, model, processes)
            _finish(settings, dataset, split, model, batches, folder, processes, callback)


@contextmanager
def _refusals(folder: Path, above: Sequence[Path]) -> Iterator[None]:
    """A run folder that has just been made goes again, with the folders that were made above it,
    where nothing was trained, whatever the reason: the same command may be given again.
    """
    try:
        yield
    except StoppedError:
        raise
    except BaseException:
        if not has_begun(folder) and not read_lines(folder / LOG):
            remove(folder)
            remove_empty(above)
        raise


def _begin_anew(
    settings: RunConfig, dataset: Dataset, split: Split, model: Model, processes: Processes
) -> None:
    """First values that are made of the training rows: those of the first process for all. Sums of
    other processors, or by more threads, round otherwise, and directions of equal weight turn then.
    """
    torch.manual_seed(settings.trainer.seed)
    told = model.begin(lambda most: fit_histories(dataset, split, settings.fit_on, most=most))
    if told and processes.first:
        tell([told])
    apart = tuple(f"{name}." for name, _ in sharded_tables(model))
    for name, values in model.named_parameters():
        if not name.startswith(apart):
            processes.copy(values.detach())


def _check_kind(config: RunConfig, processes: Processes) -> None:
    """Refuses what the kind of model cannot do."""
    if config.model.solved and processes.world_size > 1:
        raise ConfigError(
            f"{config.model.name} is solved in one process, and there are "
            f"{processes.world_size}; run it without torchrun"
        )
    if config.update is not None and not config.model.updatable:
        raise ConfigError(
            f"{config.model.name} is solved anew, not gone on with: train it on the new data set "
            "(recsys train)"
        )
    if config.update is not None and config.model.solved and config.update.hold != "nothing":
        raise ConfigError(
            f"all item vectors of {config.model.name} are made anew in an update, in the space of "
            "the old ones, and none is held; leave --compatible and update.hold out"
        )


def _data_of(settings: RunConfig, folder: Path) -> Path:
    """Where a run that goes on finds its data: what is named anew must be the right one."""
    named = settings.data if settings.data != load_config(folder).data else None
    there = named is not None and named.exists()
    return find_data(settings, folder, named if there else None)


def _is_left(folder: Path, config: RunConfig) -> bool:
    """Whether there is something to train: a finished run is not so much as touched."""
    finished = load_run_info(folder)["state"] == "finished"
    return not finished or load_config(folder).trainer != config.trainer


def _finish(
    config: RunConfig,
    dataset: Dataset,
    split: Split,
    model: Model,
    batches: TrainBatches,
    folder: Path,
    processes: Processes,
    callback: Callback | None,
) -> None:
    """Trains to the end, and says so in the run folder."""
    epochs = config.trainer.for_histories(batches.num_histories).epochs
    if processes.first:
        change_length(folder, config.trainer)
        change_logs(folder, config)
        update_run_info(folder, processes=processes.world_size, epochs=epochs)
    processes.wait()
    if processes.first:
        tell([*fewer_epochs(config, epochs), *rows_left_out(config, split, batches.num_tokens)])
    logs = config.logs if processes.first else ()
    with watched(logs, _about(config, folder), callback) as told:
        state = _fit(config, dataset, split, model, batches, folder, processes, told)
    if not processes.first:
        return
    if state.ended:
        console.print(f"ended in epoch {state.epoch} of {epochs}: {state.ended}")
    elif state.epoch < epochs:
        console.print(
            f"stopped after epoch {state.epoch} of {epochs}: no better validation "
            f"for {config.trainer.patience} epochs (trainer.patience)"
        )
    remove(folder / METRICS)  # of weights that were not the last
    update_run_info(
        folder,
        state="finished",
        best_epoch=state.best_epoch,
        seconds=state.seconds,
        ended=state.ended,
    )
    if processes.world_size == 1 and not any(sharded_tables(model)):
        load_weights(model, folder / WEIGHTS)
        tell(trained_oddly(model.eval()))
    if not config.trainer.keep_checkpoint:
        drop_checkpoints(folder)


def _about(config: RunConfig, folder: Path) -> About:
    """The run as loggers describe it."""
    info = load_run_info(folder)
    told = {
        "commit": info["commit"],
        "data": info["dataset"]["name"],
        "content_hash": info["dataset"]["content_hash"],
        "features_hash": info["features_hash"],
        "command": info["command"],
        **{f"version.{name}": version for name, version in info["versions"].items()},
    }
    origin = {key: str(value) for key, value in told.items() if value is not None}
    return About(folder.resolve().name, folder, config.model_dump(mode="json"), origin)


def _fit(
    config: RunConfig,
    dataset: Dataset,
    split: Split,
    model: Model,
    batches: TrainBatches,
    folder: Path,
    processes: Processes,
    callback: Callback | None,
) -> TrainState:
    def measured() -> Validation:
        return _validate(model, config, dataset, split, processes)

    validate = measured if config.fit_on == "train" else None
    if config.model.solved:
        rows = fit_histories(dataset, split, config.fit_on)
        return solve_rounds(
            model, rows, config.trainer, folder, validate=validate, callback=callback
        )
    draws = None if config.model.own_loss else config.loss.draws
    sampler = None if draws is None else NegativeSampler(draws, batches.target_counts())
    return train_loop(
        model,
        batches,
        config.trainer,
        folder,
        sampler=sampler,
        validate=validate,
        processes=processes,
        callback=callback,
    )


def _validate(
    model: Model, config: RunConfig, dataset: Dataset, split: Split, processes: Processes
) -> Validation:
    """`trainer.metric` on the validation part; by default the mean over granularities."""
    name, _, size = config.trainer.metric.partition("/d")
    k = int(name.partition("@")[2])
    table = evaluate(
        model,
        dataset,
        split,
        protocol=find_protocol(config.protocol),
        part="valid",
        ks=(k,),
        options=EvaluationOptions(
            extras=False,
            metrics=(name.partition("@")[0],),
            ranking=RankingOptions(processes=processes),
        ),
    )
    figures = {
        f"{row['metric']}@{k}/d{row['granularity']}": row["value"]
        for row in table.rows.iter_rows(named=True)
    }
    chosen = [
        value
        for key, value in figures.items()
        if key.startswith(f"{name}/d") and (not size or key == f"{name}/d{size}")
    ]
    return Validation(sum(chosen) / len(chosen), figures)
