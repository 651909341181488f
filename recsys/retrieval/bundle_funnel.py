"""The funnel stored in a bundle: its stages, index and routing.

bundle = load_bundle("bundles/beauty")
filters = make_filters(len(users), bundle.num_items, seen=(items, offsets))  # had: left out
open_funnel(bundle).search(users, filters=filters)
"""

from __future__ import annotations

from dataclasses import replace

from recsys.errors import ConfigError
from recsys.retrieval.bundle.loading import Bundle, check_bundle
from recsys.retrieval.checks import checked_count, checked_threads
from recsys.retrieval.funnel import Finder, Funnel, check_stages, parse_stages
from recsys.retrieval.index.building import open_index
from recsys.retrieval.routing import Routing


def open_funnel(
    bundle: Bundle,
    *,
    stages: str | None = None,
    k: int = 10,
    routed: bool = True,
    threads: int | None = None,
) -> Funnel:
    """A funnel over a bundle.

    Args:
        bundle: as `load_bundle` gives it.
        stages: `32:200,256`; None: those it was exported for, or one of all coordinates.
        k: items a search gives at most.
        routed: let users stop early, where the bundle says how.
        threads: of the searches; None: all cores.

    Raises:
        DataError: it is not a bundle.
        ConfigError: the stages are not a funnel, k or threads no such number, or the routing was
            learned for another K.
        GranularityError: one is not among the bundle's sizes.
    """
    manifest, threads = check_bundle(bundle).manifest, checked_threads(threads)
    text = manifest.stages or str(bundle.dim) if stages is None else stages
    chosen = parse_stages(text, checked_count(k, "k"))
    if stages is None:  # what was counted for short lists is enough for longer ones
        chosen = tuple(replace(stage, keep=max(stage.keep, k)) for stage in chosen)
    index = manifest.index
    check_stages(chosen, indexed=index is not None)
    finder: Finder | None = None
    if index is not None and index.granularity == chosen[0].granularity and len(chosen) > 1:
        finder = open_index(bundle, threads=threads)
    routing = None
    if routed and manifest.routing is not None and text == manifest.stages:
        if manifest.routing.k != k:
            raise ConfigError(
                f"{bundle.folder} was routed for lists of {manifest.routing.k}, {k} are asked for; "
                "ask for so many, search without routing, or export with --route again"
            )
        limits = manifest.routing.thresholds
        routing = Routing(tuple(float("inf") if limit is None else limit for limit in limits))
    return Funnel(bundle, chosen, finder=finder, routing=routing, threads=threads)
