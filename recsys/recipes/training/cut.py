"""`recsys cut`: the smaller model inside a nested one, as a run of its own.

In a nested model no coordinate sees a later one, so the model of a granularity is the leading
corner of every tensor (Wang et al., fMRLRec, EMNLP 2024). What is written is compared with the run
it was cut from before it stands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsys.data.dataset import Dataset
from recsys.data.histories import everyone
from recsys.errors import ConfigError, RunError
from recsys.models import Model
from recsys.prefixes import truncate
from recsys.runs.config import RunConfig
from recsys.runs.folder import check_empty, create_run, new_folder
from recsys.runs.loading import LoadedRun, build_model, open_run
from recsys.runs.records import update_run_info
from recsys.towers.modalities import take_bins
from recsys.training.checkpoint import WEIGHTS, save_weights

TOLERANCE = 1e-5
"""Of any coordinate, relative to the largest one where that is above 1."""
_COMPARED_USERS = 256
_KEPT = ("best_epoch", "seconds", "calibrated")
"""Of `run.json`: what remains true of the smaller model, above all what it was fitted to."""
_TABLES = "of the kinds of model.table, dense, dynamic, hashed and quantized hold smaller ones"


def cut(run: str | Path | LoadedRun, out: str | Path, *, granularity: int) -> Path:
    """Writes the smaller model of a run's granularity as a run of its own.

    Its vectors are the prefixes of the run's; it can be evaluated, exported and cut again.

    Args:
        run: the run folder of a nested model, or an opened run.
        out: the new run folder.
        granularity: which one; the smaller model has those up to it.

    Returns:
        The new run folder.

    Raises:
        RunError: `run` is not a run, something exists at `out`, or what was cut is not the same.
        ConfigError: the model is not nested.
        GranularityError: the run has no such granularity.
    """
    folder = Path(out)
    check_empty(folder)
    loaded = open_run(run)
    loaded.model.granularities.index(granularity, str(loaded.folder))
    _check_nested(loaded, granularity)
    config = smaller_config(loaded.config, granularity)
    small = build_model(config, loaded.dataset)
    cut_weights(loaded.model, small)
    difference = compare(loaded.model, small.eval(), loaded.dataset)
    with new_folder(folder) as temporary:
        create_run(temporary, config, loaded.dataset, resume=False)
        save_weights(small, temporary / WEIGHTS)
        kept = {key: loaded.info[key] for key in _KEPT if key in loaded.info}
        update_run_info(temporary, state="finished", **kept, cut=_origin(loaded, difference))
    return folder


def _origin(loaded: LoadedRun, difference: float) -> dict[str, Any]:
    """What `run.json` says of where the model comes from."""
    return {
        "run": loaded.name,
        "commit": loaded.info["commit"],
        "embedding_dim": loaded.model.granularities.embedding_dim,
        "largest_difference": difference,
    }


def _check_nested(loaded: LoadedRun, granularity: int) -> None:
    model = loaded.config.model
    if not model.nested:
        can_be = hasattr(getattr(model, "encoder", None), "nested")
        remedy = "train with model.encoder.nested=true" if can_be else ""
        remedy = remedy or "train a model that is nested (fmrlrec, or sasrec with encoder.nested)"
        raise ConfigError(
            f"the encoder of {loaded.folder} is not nested: every coordinate of its vectors is "
            f"made of all others, so there is no smaller model in it. To cut one, {remedy}; to "
            "serve shorter vectors of this one, export tiers (`recsys export`)"
        )
    if granularity not in model.blocks:
        raise ConfigError(
            f"the smallest model in {loaded.folder} is that of {model.blocks[0]} coordinates "
            "(model.encoder.nested_from); cut that one and export tiers for shorter vectors, or "
            "train with a smaller nested_from"
        )


def smaller_config(config: RunConfig, granularity: int) -> RunConfig:
    """The config of the model of one of the granularities."""
    tree = config.model_dump(mode="json")
    given = tree["model"]["granularities"]
    given["sizes"] = sizes = [size for size in given["sizes"] if size <= granularity]
    if given["weights"] is not None:
        weights = given["weights"][: len(sizes)]
        given["weights"] = weights if sum(weights) > 0 else None
    metric, slash, size = tree["trainer"]["metric"].partition("/d")
    if slash and int(size) > granularity:
        tree["trainer"]["metric"] = f"{metric}/d{granularity}"
    return RunConfig.model_validate(tree, context={"stored": True})


def cut_weights(whole: torch.nn.Module, small: torch.nn.Module) -> None:
    """Gives `small` the leading corner of every tensor of `whole`.

    Raises:
        ConfigError: a tensor of the smaller model has no counterpart it could be a corner of.
    """
    given, cut_out = whole.state_dict(), {}
    take_bins(small, given)
    for name, tensor in small.state_dict().items():
        origin = given.get(name)
        if origin is None or origin.dim() != tensor.dim() or not _fits(tensor, origin):
            raise ConfigError(
                f"{name} {tuple(tensor.shape)} of the smaller model is not the leading block of a "
                "tensor of "
                f"this run; {_TABLES}"
            )
        cut_out[name] = origin[tuple(slice(length) for length in tensor.shape)]
    small.load_state_dict(cut_out)


def _fits(small: Tensor, whole: Tensor) -> bool:
    return all(a <= b for a, b in zip(small.shape, whole.shape, strict=True))


def compare(whole: Model, small: Model, dataset: Dataset) -> float:
    """The largest difference between the smaller model's vectors and the prefixes of the larger's.

    Of all items, and of users spread over the data set with all they have had.

    Raises:
        RunError: it is more than rounding explains.
    """
    everything = everyone(dataset, timed=whole.config.reads_time != "none")
    known = np.flatnonzero(everything.lengths)
    rows = known[:: max(1, len(known) // _COMPARED_USERS)]
    histories = everything.rows(rows).last(whole.config.history_length)
    size = small.granularities.embedding_dim
    with torch.inference_mode():
        pairs = [
            (small.item_vectors(), truncate(whole.item_vectors(), size)),
            (small.user_vectors(histories), truncate(whole.user_vectors(histories), size)),
        ]
        difference = max(float((given - wanted).abs().max()) for given, wanted in pairs)
        largest = max(float(wanted.abs().max()) for _, wanted in pairs)
    if not difference <= TOLERANCE * max(1.0, largest):
        raise RunError(
            f"the smaller model's vectors differ from the prefixes by {difference:.2g} (largest "
            f"coordinate {largest:.2g}), so it was not written; {_TABLES}"
        )
    return difference
