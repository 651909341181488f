"""Export of a trained model: vectors, histories and user tower.

Shape legend: N items, U users, K interests of a user, D embedding_dim.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from recsys.arrays import Float32
from recsys.data.dataset import Dataset
from recsys.data.histories import Histories, everyone, item_counts
from recsys.devices import HOST, device_of, is_host, reading, to_indices
from recsys.errors import ConfigError, RunError
from recsys.files.onnx_sessions import open_session
from recsys.models import Model
from recsys.progress import progress
from recsys.retrieval.bundle.manifest import BundleManifest, TowerEntry
from recsys.retrieval.bundle.writing import Addition, BundleSource, UserSource
from recsys.retrieval.interests import shape_of_users
from recsys.serving.onnx_tower import write_onnx

TOWER = "tower.onnx"
_BATCH = 256
_PARITY_USERS = 256
_PARITY = 1e-4


def source_of(
    model: Model,
    dataset: Dataset,
    *,
    with_users: bool,
    model_card: dict[str, Any],
    protocol: dict[str, Any],
    columns: Sequence[str] = (),
) -> BundleSource:
    """Everything of a model in evaluation mode that a bundle holds, but the tower.

    Users are taken as they stand today: their whole history is what is encoded, and what is seen.

    Args:
        model: in evaluation mode.
        dataset: that it was trained on.
        with_users: user vectors and histories go along.
        model_card: of the manifest.
        protocol: of the manifest.
        columns: of the items, to be told with them.

    Raises:
        RunError: vectors are not finite.
        ConfigError: the data set has no such column.
    """
    granularities = model.granularities
    with reading(model):
        items = model.item_vectors().detach().float().cpu()
        scales = tuple(float(scale) for scale in model.scales())
        repeats = repeats_of(model)
    if not torch.isfinite(items).all():
        raise RunError(
            "the item vectors hold NaN or infinite values; lower the learning rate and train again"
        )
    everything = everyone(dataset, timed=model.config.reads_time != "none")
    users = None
    if with_users:
        known = np.flatnonzero(everything.lengths)
        histories = everything.rows(known)
        timeless = model.config.reads_time == "none"
        users = UserSource(
            vectors=user_vectors(model, histories),
            ids=dataset.user_frame()["user_id"].gather(known),
            seen_items=histories.items,
            seen_offsets=histories.offsets,
            seen_times=None if timeless else histories.timestamps,
            at=None if histories.asked_at is None else int(histories.asked_at.max()),
        )
    frame = dataset.item_frame()
    return BundleSource(
        items=items.cpu().numpy(),
        item_ids=frame["item_id"],
        popularity=item_counts(dataset, dataset.offsets[:-1], dataset.offsets[1:]),
        columns=columns_of(frame, columns),
        sizes=granularities.sizes,
        normalize=granularities.normalize,
        scales=scales,
        repeats=repeats,
        users=users,
        interests=model.num_interests,
        model=model_card,
        protocol=protocol,
    )


def columns_of(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame | None:
    """Some columns of the items; None where none are wanted.

    Raises:
        ConfigError: there is no such column.
    """
    known = [name for name in frame.columns if name not in ("item_index", "item_id")]
    if lost := [name for name in names if name not in known]:
        raise ConfigError(
            f"the items have no column {', '.join(lost)}; they have {', '.join(known) or 'none'}"
        )
    return frame.select(names) if names else None


def repeats_of(model: Model) -> dict[int, float]:
    """What a model adds to scores of what a user has had, by granularity; empty: nothing."""
    sizes = model.granularities.sizes
    added = model.score_of_repeats(sizes)
    return {} if added is None else dict(zip(sizes, added.tolist(), strict=True))


def user_vectors(model: Model, histories: Histories) -> Float32:
    """`[U, D]` of non-empty histories, in batches of neighbours in length; `[U, K, D]` of a model
    of K interests.
    """
    dim = model.granularities.embedding_dim
    vectors = np.empty(shape_of_users(len(histories), model.num_interests, dim), np.float32)
    order = np.argsort(histories.lengths, kind="stable")
    with reading(model), progress() as bar:
        task = bar.add_task("user vectors", total=len(order))
        for lo in range(0, len(order), _BATCH):
            rows = order[lo : lo + _BATCH]
            vectors[rows] = model.user_vectors(histories.rows(rows)).float().cpu().numpy()
            bar.advance(task, len(rows))
    return vectors


def why_no_tower(model: Model, dim: int) -> str | None:
    """Why a model's user tower cannot come along with tiers of `dim` coordinates; None: it can.

    The tower reads the whole vectors of a history's items, and nothing else.
    """
    if model.user_tower() is None:
        return f"{type(model).__name__} has no ONNX form: it makes no users of items' vectors alone"
    whole = model.granularities.embedding_dim
    if dim < whole:
        return f"the tiers end at {dim} of {whole} coordinates, the tower reads all"
    return None


def tower_of(model: Model, dataset: Dataset, dim: int) -> Addition:
    """Adds the user tower as ONNX, compared with the model on the data set's own histories.

    Raises:
        ConfigError: `why_no_tower` of this model.
    """
    if reason := why_no_tower(model, dim):
        raise ConfigError(f"{reason}; export without it (--no-tower)")
    tower, whole = model.user_tower(), model.granularities.embedding_dim
    assert tower is not None  # `why_no_tower`

    def write(folder: Path, _: BundleManifest) -> dict[str, Any]:
        write_onnx(
            _on_host(tower),
            folder / TOWER,
            dim=whole,
            longest=model.config.history_length,
            reads_time=model.config.reads_time,
        )
        entry = TowerEntry(
            file=TOWER,
            history_length=model.config.history_length,
            reads_time=model.config.reads_time,
            parity=_parity(model, dataset, folder / TOWER),
        )
        return {"tower": entry}

    return write


def _on_host(tower: nn.Module) -> nn.Module:
    """The tower itself, or a copy of it where the model is on a device."""
    return tower if is_host(device_of(tower)) else copy.deepcopy(tower).to(HOST)


def _parity(model: Model, dataset: Dataset, path: Path) -> float:
    """Largest difference of any coordinate between the ONNX tower and the model.

    Raises:
        RunError: they do not agree.
    """
    everything = everyone(dataset, timed=model.config.reads_time != "none")
    known = np.flatnonzero(everything.lengths)
    every = max(1, len(known) // _PARITY_USERS)
    own = everything.rows(known[::every]).last(model.config.history_length)
    histories = replace(own, users=np.full(len(own), -1))  # of anybody
    run = open_session(str(path)).run
    with reading(model):
        wanted = model.user_vectors(histories).float().cpu()
        rows = model.item_vectors().cpu()[to_indices(histories.items)]
        lengths = to_indices(histories.lengths)
        parts = torch.nn.utils.rnn.pad_sequence(list(rows.split(lengths.tolist())), True)
    inputs = {"vectors": parts.float().numpy(), "lengths": lengths.numpy()}
    if model.config.reads_time != "none":
        assert histories.timestamps is not None  # a run without them is not built
        seen = to_indices(histories.timestamps).split(lengths.tolist())
        inputs["timestamps"] = torch.nn.utils.rnn.pad_sequence(list(seen), True).numpy()
    if model.config.reads_time == "request":
        assert histories.asked_at is not None  # of everyone
        inputs["asked_at"] = histories.asked_at
    try:
        given = run(None, inputs)[0]
    except Exception as error:  # onnxruntime has no base class of its errors
        raise RunError(
            f"the ONNX tower of {type(model).__name__} cannot be run, so it was not exported "
            f"({error}); let user_tower take sizes as vectors.shape[0], or export with --no-tower"
        ) from error
    return check_parity(wanted, given)


def check_parity(wanted: Tensor, given: Float32) -> float:
    """The largest difference of any coordinate.

    Raises:
        RunError: it is more than rounding explains.
    """
    difference = float((wanted - torch.from_numpy(given)).abs().max())
    largest = float(wanted.abs().max())
    if not difference <= _PARITY * max(1.0, largest):
        raise RunError(
            f"the ONNX tower's user vectors differ from the model's by {difference:.2g} (largest "
            f"coordinate {largest:.2g}), so it was not exported; export with --no-tower"
        )
    return difference
