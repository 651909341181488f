"""`recsys last-stage`: lists of a run after each chain of steps, and their figures.

Shape legend: U users measured, K candidates, k places, P figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recsys.arrays import Float64, Int64
from recsys.data.histories import Histories
from recsys.evaluation.bootstrap import resample
from recsys.evaluation.held_out import HeldOut, held_out
from recsys.evaluation.lists.metrics import (
    calibration_error,
    intra_list_diversity,
    popularity_lift,
    vendi_score,
)
from recsys.evaluation.metrics import coverage, ndcg, ranks_in
from recsys.evaluation.protocol import Part, ProtocolCard, find_protocol, make_card
from recsys.evaluation.recommend import Recommendations
from recsys.progress import progress
from recsys.rankers.lists.base import Known, Ranked
from recsys.rankers.lists.steps import last_stage
from recsys.recipes.last_stage.config import PLAIN, LastStageConfig, read_last_stage_config
from recsys.recipes.last_stage.knowing import known_of
from recsys.runs.loading import LoadedRun, open_run

COVERAGE = "coverage"


@dataclass(frozen=True)
class LastStages:
    """Figures of lists after each chain of steps."""

    card: ProtocolCard
    k: int
    figures: pl.DataFrame
    """stage, metric, value, low, high, difference, difference_low, difference_high: means over
    users with 95 % intervals, and differences from lists by score of the same users. A figure of
    the catalogue has no intervals."""


def compare_last_stages(
    run: str | Path | LoadedRun,
    config: str | Path | LastStageConfig,
    overrides: Sequence[str] = (),
    *,
    part: Part = "test",
    protocol: str | None = None,
) -> LastStages:
    """Takes the candidates of a run's model and measures lists by score and after each chain.

    Args:
        run: a run folder, or an opened run.
        config: a file, or a config object.
        overrides: `key=value` changes to the file.
        part: `valid` or `test`.
        protocol: a preset; None: the one the run was trained under.

    Raises:
        ConfigError: the config is wrong, or a step needs what the data set has not.
        RunError, DataError, ProtocolError: see their messages.
    """
    settings = (
        config
        if isinstance(config, LastStageConfig)
        else read_last_stage_config(Path(config), list(overrides))
    )
    loaded = open_run(run)
    loaded.check_part(part)
    preset = find_protocol(protocol or loaded.config.protocol)
    held = held_out(loaded.dataset, loaded.split, part)
    histories = held.histories(loaded.dataset, np.arange(len(held.users)))
    wanted = min(settings.candidates, loaded.dataset.num_items)
    ready = Recommendations(loaded.model, loaded.dataset.num_items)
    found = ready.lists(histories, wanted, filter_seen=preset.filter_seen)
    ranked = Ranked(found.items, found.scores)
    known = known_of(loaded, histories, settings)
    card = make_card(loaded.dataset.manifest, preset, part, loaded.fit_on, loaded.split.rule)
    rows: list[dict[str, object]] = []
    stages = {PLAIN: (), **settings.stages}
    plain: dict[str, Float64] = {}
    with progress() as bar:
        for label, steps in bar.track(stages.items(), description="last stages"):
            lists = last_stage(ranked, steps, known, settings.k).items
            values = _values(lists, known, held, histories)
            plain = plain or values
            rows += [_row(label, name, each, plain[name]) for name, each in values.items()]
            counts = np.bincount(lists[lists >= 0], minlength=loaded.dataset.num_items)
            rows.append({"stage": label, "metric": COVERAGE, "value": coverage(counts)})
    return LastStages(card, settings.k, pl.DataFrame(rows, infer_schema_length=None))


def _values(lists: Int64, known: Known, held: HeldOut, histories: Histories) -> dict[str, Float64]:
    """`[U]` of each figure that can be taken."""
    k = lists.shape[1]
    places = -np.arange(k, dtype=np.float64)[None].repeat(len(lists), 0)
    ranks = ranks_in(lists, places, held.targets.astype(np.int64), held.offsets, k)
    found = {f"ndcg@{k}": ndcg(ranks, held.offsets, (k,))[:, 0]}
    if known.vectors is not None:
        found["diversity"] = intra_list_diversity(lists, known.vectors)
        found["vendi score"] = vendi_score(lists, known.vectors)
    if known.categories is not None and known.tastes is not None:
        found["calibration error"] = calibration_error(lists, known.categories, known.tastes)
    if known.popularity is not None:
        history = histories.items.astype(np.int64), histories.offsets
        found["popularity lift"] = popularity_lift(lists, known.popularity, history)
    return found


def _row(label: str, metric: str, values: Float64, plain: Float64) -> dict[str, object]:
    drawn = resample(np.stack([plain, values], axis=1))
    low, high = np.quantile(drawn.draws[:, 1], (0.025, 0.975))
    paired = drawn.paired(0, 1)
    return {
        "stage": label,
        "metric": metric,
        "value": float(values.mean()),
        "low": float(low),
        "high": float(high),
        "difference": paired.difference,
        "difference_low": paired.difference_low,
        "difference_high": paired.difference_high,
    }
