"""Content added to a trained model of ids, for new items alone.

Items with an id stay what they are, to the last bit, so users who have had no new item get of them
what they got, but for what new items displace. DropoutNet (Volkovs et al., NeurIPS 2017) and CLCRec
(Wei et al., MM 2021) map content to such vectors in training, which changes known items too.

Shape legend: U users, C items without an id, D embedding_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.towers.items import IDS, ItemTower

_SHUT = -50.0
"""The logit of a gate that lets nothing through."""


def leave_content(tower: ItemTower) -> None:
    """Items with an id are their id alone from now on.

    Args:
        tower: with ids and a gated sum.
    """
    place = tower.names.index(IDS)
    content = [at for at in range(len(tower.names)) if at != place]
    with torch.no_grad():
        tower.fusion.get_parameter("gate")[content, place] = _SHUT


def start_content(tower: ItemTower, users: Tensor) -> None:
    """Puts all items without an id in the midst of the users, whatever their content.

    Args:
        tower: items with an id do not read content.
        users: `[U, D]`.
    """
    with torch.no_grad():
        middle = nn.functional.normalize(users, dim=1).mean(0)
        tower.fusion.get_parameter("missing")[tower.names.index(IDS)] = middle
        for name in tower.config.features:
            tower.modalities[name].get_parameter("weight").zero_()


def match_lengths(tower: ItemTower, new: Tensor) -> None:
    """Makes new items as long, in the mean, as those with an id. Cosines do not see lengths, but
    an encoder that reads histories does.

    Args:
        tower: items with an id do not read content.
        new: `[C]` items without an id that lengths are taken of.
    """
    missing, place = tower.fusion.get_parameter("missing"), tower.names.index(IDS)
    with torch.no_grad():
        known = tower.encode(tower.trained.nonzero().squeeze(1)).norm(dim=1).mean()
        factor = known / tower.encode(new).norm(dim=1).mean()
        missing[place] *= factor
        for name in tower.config.features:
            tower.modalities[name].get_parameter("weight").mul_(factor)
