"""Fitting of embeddings of cold items on validation targets.

Training sees items of its own time alone. What is new later is wanted more, or less, than its
content by itself tells. How much, the validation part of a global-time split shows: items that
training has not seen are among its targets. To the likelihood of these targets among the whole
catalogue are fitted: the vector that stands in the place of an id, and, with gates, how far content
is let through where there is no id; or, where items with an id do not read their content
(`towers.late_content`), all that content is mapped by. Items with an id keep their vectors.

Shape legend: U users, P (user, target) pairs, C items without an id, M modalities, G granularities,
D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from recsys.granularity import Granularities
from recsys.prefixes import prefix_logits
from recsys.towers.cold_start.late_content import start_content
from recsys.towers.fusion import GatedSum
from recsys.towers.items import IDS, ItemTower

_LOOK_EVERY = 10
_APART = 5
"""Every fifth user is left out of the fit, which ends with what tells their targets best."""


@dataclass(frozen=True)
class Targets:
    """The targets of users, and the other candidates of each."""

    users: Tensor
    """`[U, D]`."""
    rows: Tensor
    """`[P]` the user of each target."""
    places: Tensor
    """`[P]` which of the new items the target is; -1: it has an id."""
    others: Tensor
    """`[G, U]` log-sum-exp of the logits of all items with an id that may be recommended."""
    own: Tensor
    """`[G, P]` logits of targets with an id; of others anything finite."""
    weight: float = 1.0
    """How much a target without an id counts beside one with an id."""


@dataclass(frozen=True)
class Fit:
    """The result of a fit: weighted mean negative log-likelihood of the left-out users' targets."""

    before: float
    after: float
    steps: int


@dataclass(frozen=True)
class AdamSteps:
    """The number of steps of Adam, and its learning rate."""

    most: int
    learning_rate: float


def fit_newcomers(
    tower: ItemTower,
    new: Tensor,
    targets: Targets,
    scales: Tensor,
    granularities: Granularities,
    *,
    adam: AdamSteps,
    content: bool = False,
    on_step: Callable[[], None] = lambda: None,
) -> Fit:
    """Changes what the tower makes of items without an id.

    Args:
        tower: with ids, in evaluation mode.
        new: `[C]` items without an id.
        targets: of users spread over the data.
        scales: `[G]` of the scores.
        granularities: sizes, weights and normalization.
        adam: the steps of the optimizer.
        content: also what content is mapped by, from nothing; items with an id do not read it.
        on_step: called after every step.
    """
    place, names = tower.names.index(IDS), tower.config.features
    if content:
        start_content(tower, targets.users)
    modalities = [tower.modalities[name] for name in names]
    with torch.no_grad():
        fixed = [modality(new) for modality in modalities]
        present = tower.present(new)
    weights = [tower.modalities[name].get_parameter("weight").detach() for name in names]
    moved = [torch.zeros(tower.embedding_dim, device=new.device, requires_grad=True)]
    if content:
        moved += [torch.zeros_like(weight, requires_grad=True) for weight in weights]
    elif isinstance(tower.fusion, GatedSum):
        moved.append(torch.zeros_like(tower.fusion.bias, requires_grad=True))

    def loss(apart: bool) -> Tensor:
        parts = list(fixed)
        if content:
            pairs = zip(modalities, _content(weights, moved), strict=True)
            parts = [functional_call(part, {"weight": weight}, (new,)) for part, weight in pairs]
        parts.insert(place, torch.zeros_like(parts[0]))
        fusion = _moved(tower.fusion, place, moved[:1] if content else moved)
        vectors = functional_call(tower.fusion, fusion, (parts, present))
        return _likelihood(vectors, targets, scales, granularities, apart=apart)

    optimizer = torch.optim.Adam(moved, lr=adam.learning_rate)
    with torch.no_grad():
        best = before = float(loss(apart=True))
    kept, kept_at = [tensor.detach().clone() for tensor in moved], 0
    for step in range(1, adam.most + 1):
        optimizer.zero_grad()
        torch.autograd.backward(loss(apart=False))
        optimizer.step()
        on_step()
        if step % _LOOK_EVERY == 0 or step == adam.most:
            with torch.no_grad():
                value = float(loss(apart=True))
            if value < best:
                best, kept_at = value, step
                kept = [tensor.detach().clone() for tensor in moved]
    with torch.no_grad():
        changed = _moved(tower.fusion, place, kept[:1] if content else kept)
        for name, tensor in changed.items():
            tower.fusion.get_parameter(name).copy_(tensor)
        if content:
            for weight, tensor in zip(weights, _content(weights, kept), strict=True):
                weight.copy_(tensor)
    return Fit(before, best, kept_at)


def _content(weights: list[Tensor], moved: list[Tensor]) -> list[Tensor]:
    return [weight + change for weight, change in zip(weights, moved[1:], strict=True)]


def _moved(fusion: nn.Module, place: int, moved: list[Tensor]) -> dict[str, Tensor]:
    """Parameters of the fusion, changed where the id is missing alone."""
    missing = fusion.get_parameter("missing").detach()
    mark = missing.new_zeros(len(missing), 1)
    mark[place] = 1.0
    changed = {"missing": missing + mark * moved[0]}
    if len(moved) > 1:
        # Gates see what is there: what the bias gains is taken back where the id is there.
        gate, bias = (fusion.get_parameter(name).detach() for name in ("gate", "bias"))
        changed["bias"] = bias + moved[1]
        changed["gate"] = gate - mark[None] * moved[1][:, None]
    return changed


def _likelihood(
    items: Tensor, targets: Targets, scales: Tensor, granularities: Granularities, *, apart: bool
) -> Tensor:
    """Weighted mean negative log-likelihood of targets of one share of users, `items [C, D]`."""
    left_out = torch.arange(len(targets.users), device=items.device) % _APART == 0
    which = left_out if apart else ~left_out
    mine = which[targets.rows]
    place_of = torch.cumsum(which, 0) - 1
    rows, places = place_of[targets.rows[mine]], targets.places[mine]
    users, others, own = targets.users[which], targets.others[:, which], targets.own[:, mine]
    shares = torch.where(places >= 0, targets.weight, 1.0)
    shares = shares / shares.sum()
    total = items.new_zeros(())
    for g, logits in enumerate(prefix_logits(users, items, scales, granularities)):
        everything = torch.logaddexp(others[g], logits.logsumexp(1))[rows]
        chosen = torch.where(places >= 0, logits[rows, places.clamp_min(0)], own[g])
        total = total + granularities.normalized_weights[g] * shares @ (everything - chosen)
    return total
