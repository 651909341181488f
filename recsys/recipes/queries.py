"""Users of a trained run to search with: vectors, filters, and what they should find."""

from __future__ import annotations

import numpy as np

from recsys.errors import ProtocolError
from recsys.evaluation.held_out import held_out, spread_over
from recsys.evaluation.protocol import Part, find_protocol
from recsys.evaluation.tradeoff import Queries
from recsys.recipes.run import LoadedRun
from recsys.retrieval.filters import make_filters
from recsys.serving.export import repeats_of, user_vectors


def queries_of(
    loaded: LoadedRun, part: Part, protocol: str | None, num_users: int | None
) -> Queries:
    """Users of a part, evenly spread; what they have seen is filtered where the protocol says so,
    and scored as the model does where it does not.

    Raises:
        ProtocolError: something was fitted to the part, or the protocol wants another split.
    """
    preset = find_protocol(protocol or loaded.config.protocol)
    loaded.check_part(part)
    if loaded.split.rule.name != preset.split:
        raise ProtocolError(
            f"protocol {preset.name} wants the split {preset.split}, the run was trained on "
            f"{loaded.split.rule.name}; choose another protocol"
        )
    held = held_out(loaded.dataset, loaded.split, part)
    rows = spread_over(len(held.users), num_users)
    histories = held.histories(loaded.dataset, rows)
    places, offsets = held.targets_of(rows)
    repeats = None if preset.filter_seen else repeats_of(loaded.model)
    seen = (histories.items, histories.offsets) if repeats != {} else None
    return Queries(
        user_vectors(loaded.model, histories),
        make_filters(len(rows), loaded.dataset.num_items, seen=seen, repeats=repeats or None),
        held.targets[places].astype(np.int64),
        offsets,
    )
