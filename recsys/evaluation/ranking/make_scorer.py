"""Construction of a scorer from a model of any kind.

Shape legend: B users of a batch, K interests of a user, N items, D coordinates, G granularities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.data.histories import Histories
from recsys.errors import GranularityError, RunError
from recsys.evaluation.ranking.compiled import BATCH_USERS, CompiledRanking
from recsys.evaluation.ranking.distributed import SharedRanking, shared_items, shared_users
from recsys.evaluation.ranking.interest_scores import interest_blocks
from recsys.evaluation.ranking.repeat_bias import with_repeats
from recsys.evaluation.ranking.scorer import BlockScores, Scorer, SharedScorer, VectorScorer
from recsys.evaluation.ranking.shared_scores import SharedScores
from recsys.granularity import Granularities
from recsys.model_protocols import (
    FlatModel,
    RepeatModel,
    ScoreModel,
    SharedModel,
    VectorModel,
    interests_of,
)
from recsys.prefixes import prefix_norms, prefix_scores
from recsys.processes import ALONE, Processes

DEFAULT_BUDGET = 64 << 20
"""Bytes that blocks of scores may take."""
BYTES_PER_SCORE = 16
"""Working memory for one score: the float, its comparison, and its key while lists are filled."""
MAX_USERS = 256
"""Enough rows to keep a matrix product busy, few enough to keep its block in the cache."""
MAX_WIDTH = 2048
"""With that many users, a block of scores and its comparison are 4 MiB."""
DEVICE_USERS = 1024
"""On a device: nothing is kept in a cache, and few large products are soonest done."""
_OWN_ITEMS = 100_000
"""Items of a user that a SharedModel scores apart, at most about."""


def make_scorer(
    model: VectorModel | ScoreModel,
    num_items: int,
    *,
    granularities: Granularities | None = None,
    budget_bytes: int,
    processes: Processes = ALONE,
) -> Scorer:
    """Fits the blocks to `budget_bytes` and takes the item vectors.

    Args:
        model: either kind.
        num_items: N.
        granularities: prefixes to score instead of the model's own (any sizes up to D); what it
            does not name, such as `normalize`, is the model's own.
        budget_bytes: what the blocks of scores may take; one score at least.
        processes: each scores its share of the catalogue; all of them make a scorer and rank the
            same users. A model without vectors, or of several interests, is scored by each as a
            whole.

    Raises:
        GranularityError: a prefix is longer than the vectors, or the model has none.
        RunError: the vectors are of another catalogue, or are not finite.
    """
    flat = isinstance(model, FlatModel)
    if isinstance(model, VectorModel) and not (flat and granularities):
        own = model.granularities
        wanted = own if granularities is None else granularities.inherit(own)
        if processes.world_size > 1 and not flat and interests_of(model) == 1:
            return _shared_scorer(model, num_items, wanted, budget_bytes, processes)
        scorer = _vector_scorer(model, num_items, wanted, budget_bytes)
        return replace(scorer, sizes=(None,)) if flat else scorer
    elements = max(1, budget_bytes // BYTES_PER_SCORE)
    if granularities is not None:
        raise GranularityError(
            f"{type(model).__name__} has no nested vectors, so it cannot be evaluated at the "
            f"granularities {granularities.sizes}; leave them out"
        )
    if isinstance(model, SharedModel):
        return _shared_scorer_of(model, num_items, elements)
    num_users = int(np.clip(elements // num_items, 1, MAX_USERS))
    width = int(np.clip(elements // num_users, 1, MAX_WIDTH))
    device, dense = torch.device("cpu"), cast(ScoreModel, model)
    return Scorer(
        (None,), num_users, width, num_items, device, lambda batch: _score_blocks(dense, batch)
    )


def _shared_scorer_of(model: SharedModel, num_items: int, elements: int) -> SharedScorer:
    scores = model.shared_scores().float().cpu()
    _check_scores(scores, model)
    if len(scores) != num_items:
        raise RunError(
            f"the model scores {len(scores)} items, the data set has {num_items}; fit it again"
        )
    num_users = int(np.clip(elements // min(num_items, _OWN_ITEMS), 1, MAX_USERS))

    def own(histories: Histories) -> sp.csr_matrix:
        found = model.own_scores(histories)
        _check_scores(torch.from_numpy(found.data), model)
        return found

    def no_blocks(_: Histories) -> BlockScores:
        raise RunError("scores that users share are not ranked block by block")

    device = torch.device("cpu")
    shared = SharedScores(scores.numpy())
    return SharedScorer((None,), num_users, num_items, num_items, device, no_blocks, shared, own)


def _vector_scorer(
    model: VectorModel, num_items: int, granularities: Granularities, budget_bytes: int
) -> VectorScorer:
    items, count = model.item_vectors().float(), interests_of(model)
    _check_vectors(items, num_items, granularities)

    def user_vectors(histories: Histories) -> Tensor:
        users = model.user_vectors(histories).float().to(items.device)
        if users.dim() != 2 + (count > 1):
            raise RunError(
                f"{type(model).__name__} gives user vectors of shape {list(users.shape)}, and its "
                f"num_interests is {count}: [users, D] is expected, or [users, num_interests, D]"
            )
        _check_finite(users, "user vectors")
        return users

    norms, bias = None, _repeat_bias(model, granularities)
    if can_compile(items) and count == 1:
        compiled = CompiledRanking(items, granularities, budget_bytes)
        num_users, width = BATCH_USERS, num_items
    else:
        compiled, norms = None, prefix_norms(items, granularities)
        elements = max(1, budget_bytes // BYTES_PER_SCORE)
        most, widest = (MAX_USERS, MAX_WIDTH) if can_compile(items) else (DEVICE_USERS, num_items)
        num_users = max(1, int(np.clip(elements // 64, 1, most)) // count)
        width = int(np.clip(elements // (num_users * count), 1, widest))

    def blocks(histories: Histories) -> BlockScores:
        users = user_vectors(histories)
        if users.dim() == 3 and norms is not None:
            best = interest_blocks(users, items, granularities, norms)
            return best if bias is None else with_repeats(best, histories, bias(users))

        def block(lo: int, hi: int) -> Iterator[Tensor]:
            own = None if norms is None else norms[:, lo:hi]
            for _, scores in prefix_scores(users, items[lo:hi], granularities, item_norms=own):
                yield scores

        return block if bias is None else with_repeats(block, histories, bias(users))

    return VectorScorer(
        granularities.sizes, num_users, width, num_items, items.device, blocks,
        user_vectors, compiled, bias,
    )  # fmt: skip


def _repeat_bias(
    model: VectorModel, granularities: Granularities
) -> Callable[[Tensor], Tensor] | None:
    added = None
    if isinstance(model, RepeatModel):
        added = model.score_of_repeats(granularities.sizes)
    if added is None:
        return None
    amount = added.float()[:, None]

    def bias(users: Tensor) -> Tensor:
        if not granularities.normalize or users.dim() == 3:  # the best of cosines as they are
            return amount.to(users.device).expand(-1, len(users))
        # Scores are ranked as cosines times the length of the user's prefix (`prefix_scores`).
        return amount.to(users.device) * prefix_norms(users, granularities)

    return bias


def _shared_scorer(
    model: VectorModel,
    num_items: int,
    granularities: Granularities,
    budget_bytes: int,
    processes: Processes,
) -> VectorScorer:
    items = shared_items(model, num_items, processes)
    if items is None:
        whole = model.item_vectors().float()
        _check_vectors(whole, num_items, granularities)
        lo, hi = processes.share(num_items)
        items = whole[lo:hi]
    _check_width(items, granularities)
    _check_finite(items, "item vectors")
    items = items.cpu()  # its kernels count and merge what the processes tell each other

    def user_vectors(histories: Histories) -> Tensor:
        users = model.user_vectors(histories).float().cpu()
        _check_finite(users, "user vectors")
        return users

    def no_blocks(_: Histories) -> BlockScores:
        raise RunError("a catalogue that is shared among processes is not scored in blocks")

    ranking = SharedRanking(items, num_items, granularities, budget_bytes, processes)
    return VectorScorer(
        granularities.sizes, BATCH_USERS, num_items, num_items, items.device, no_blocks,
        shared_users(user_vectors, processes), ranking, _repeat_bias(model, granularities),
    )  # fmt: skip


def can_compile(items: Tensor) -> bool:
    """Whether the kernels take these vectors; elsewhere torch scores them block by block."""
    return items.device.type == "cpu"


def _score_blocks(model: ScoreModel, histories: Histories) -> BlockScores:
    scores = _check_scores(model.scores(histories).float().cpu(), model)
    return lambda lo, hi: iter((scores[:, lo:hi],))


def _check_scores(scores: Tensor, model: object) -> Tensor:
    if scores.isnan().any():
        raise RunError(f"{type(model).__name__} gave NaN scores; fit it again")
    return scores


def _check_vectors(items: Tensor, num_items: int, granularities: Granularities) -> None:
    if items.shape[0] != num_items:
        raise RunError(
            f"the model has vectors of {items.shape[0]} items, the data set has {num_items}; "
            "evaluate it on the data set it was trained on"
        )
    _check_width(items, granularities)
    _check_finite(items, "item vectors")


def _check_width(items: Tensor, granularities: Granularities) -> None:
    if granularities.embedding_dim > items.shape[1]:
        raise GranularityError(
            f"granularity {granularities.embedding_dim} is longer than the vectors "
            f"({items.shape[1]}); choose sizes up to that"
        )


def _check_finite(vectors: Tensor, what: str) -> None:
    if not torch.isfinite(vectors).all():
        raise RunError(
            f"the {what} hold NaN or infinite values, so nothing can be ranked by them; "
            "training diverged: lower the learning rate and train again"
        )
