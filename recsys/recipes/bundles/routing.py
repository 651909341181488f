"""Routing of a bundle: early stops learned on validation users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.arrays import Float32, Int64
from recsys.errors import ConfigError
from recsys.evaluation.bootstrap import paired_difference
from recsys.evaluation.metrics import ndcg, ranks_in
from recsys.evaluation.tradeoff.sweep import Queries
from recsys.recipes.evaluating.queries import queries_of
from recsys.retrieval.bundle.loading import Bundle
from recsys.retrieval.bundle.manifest import BundleManifest, MeasuredRouting, RoutingEntry
from recsys.retrieval.bundle.writing import Addition
from recsys.retrieval.bundle_funnel import open_funnel
from recsys.retrieval.funnel import Funnel, parse_stages
from recsys.retrieval.learned_routing import learn_routing
from recsys.runs.loading import LoadedRun

K = 10
_USERS = 5000


def routing_of(loaded: LoadedRun, stages: str | None, keep: float) -> Addition:
    """Learns a routing that keeps that share of ndcg@10 of the whole funnel on validation users.

    What it keeps is measured once on test users.

    Raises:
        ConfigError: there are no two stages, or the share is none.
        ProtocolError: the run was trained on its validation part.
    """
    if loaded.model.num_interests > 1:
        raise ConfigError(
            f"users of {loaded.folder} have {loaded.model.num_interests} vectors each, and routing "
            "is learned from the scores of one; leave --route out"
        )
    if stages is None or "," not in stages:
        found = "none are given" if stages is None else f"{stages!r} is one"
        raise ConfigError(f"routing needs at least two stages; {found}: add --stages 32:200,256")
    sizes = [stage.granularity for stage in parse_stages(stages, K)]
    if sizes != sorted(set(sizes)):
        raise ConfigError(
            f"routing lets users stop at shorter prefixes; those of the stages {stages!r} do not "
            "grow. Leave --route out, or give stages like 32:200,256"
        )
    if not 0 < keep <= 1:
        raise ConfigError(f"routing is asked to keep {keep}; a share in 0..1 is expected")
    queries = queries_of(loaded, "valid", None, _USERS)
    others = queries_of(loaded, "test", None, _USERS)

    def write(folder: Path, manifest: BundleManifest) -> dict[str, Any]:
        given = manifest.model_copy(update={"stages": stages, "routing": None})
        funnel = open_funnel(Bundle(folder, given), k=K + 1)  # what stands behind may be a tie
        routing = learn_routing(
            funnel, queries.users, queries.filters, K, keep=keep, quality=_ndcg_of(queries)
        )
        routed = Funnel(funnel.bundle, funnel.stages, finder=funnel.finder, routing=routing)
        learned, measured = (_measure(funnel, routed, users) for users in (queries, others))
        entry = RoutingEntry(
            thresholds=tuple(None if np.isinf(t) else t for t in routing.thresholds),
            k=K,
            kept=learned.kept,
            stopped=learned.stopped,
            measured=measured,
        )
        return {"routing": entry}

    return write


def _ndcg_of(queries: Queries) -> Any:
    """Items and scores `[B, <= K + 1]` of lists -> ndcg of each user."""
    assert queries.targets is not None and queries.offsets is not None
    targets, offsets = queries.targets, queries.offsets

    def quality(items: Int64, scores: Float32) -> npt.NDArray[np.float64]:
        each = ndcg(ranks_in(items, scores, targets, offsets, K), offsets, (K,))
        return np.asarray(each, np.float64).reshape(-1)

    return quality


def _measure(funnel: Funnel, routed: Funnel, queries: Queries) -> MeasuredRouting:
    """What is kept of the whole funnel's ndcg, of these users."""
    quality, found = _ndcg_of(queries), routed.search(queries.users, K, queries.filters)
    stages = funnel.trace(queries.users, queries.filters)
    each = np.stack([quality(s.items[:, : K + 1], s.scores[:, : K + 1]) for s in stages])
    stopped = np.searchsorted([stage.granularity for stage in funnel.stages], found.widths)
    beside = paired_difference(each[-1], each[stopped, np.arange(len(queries))])
    banded = not np.isnan(beside.ratio_low)
    return MeasuredRouting(
        kept=beside.ratio if np.isfinite(beside.ratio) else 1.0,
        kept_low=beside.ratio_low if banded else None,
        kept_high=beside.ratio_high if banded else None,
        stopped=tuple(float((found.widths == stage.granularity).mean()) for stage in funnel.stages),
        num_users=len(queries),
    )
