"""The funnel a bundle was made for: its stages, its index, its routing.

funnel = open_funnel(load_bundle("bundles/beauty"))
funnel.search(users)
"""

from __future__ import annotations

from recsys.errors import ConfigError
from recsys.retrieval.bundle import Bundle
from recsys.retrieval.funnel import Finder, Funnel, check_stages, parse_stages
from recsys.retrieval.indexing import open_index
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
        ConfigError: the stages are no funnel, or the routing was learned for another K.
        GranularityError: one is not among the bundle's sizes.
    """
    manifest = bundle.manifest
    text = stages or manifest.stages or str(bundle.dim)
    chosen = parse_stages(text, k)
    check_stages(chosen)
    index = manifest.index
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
