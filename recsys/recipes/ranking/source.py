"""A run, or a bundle of a run, as the source of candidates.

Shape legend: Q requests, D coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from recsys.arrays import Float32
from recsys.data.histories import Histories
from recsys.errors import ConfigError, RunError
from recsys.evaluation.protocol import Protocol, find_protocol
from recsys.files.kinds import check_run_or_bundle
from recsys.recipes.ranking.config import CandidatesConfig
from recsys.retrieval.bundle.loading import Bundle, load_bundle
from recsys.retrieval.bundle.tiers import TierSpec, parse_tiers
from recsys.retrieval.bundle.unwritten_tiers import InMemory
from recsys.retrieval.bundle.versions import is_bundle
from recsys.retrieval.bundle_funnel import open_funnel
from recsys.retrieval.funnel import Funnel, Searchable, parse_stages
from recsys.runs.loading import LoadedRun, open_run
from recsys.runs.records import RUN
from recsys.serving.export import user_vectors
from recsys.serving.user_tower import UserTower


@dataclass(frozen=True)
class RankingSource:
    """Where candidates and truths come from."""

    loaded: LoadedRun
    """The run, with its data set and split."""
    items: Searchable
    bundle: Bundle | None
    """None: the run itself is searched."""
    stages: str
    keep: int
    protocol: Protocol

    def funnel(self, stages: str | None = None, keep: int | None = None) -> Funnel:
        """The funnel that finds the candidates, or another one over the same items."""
        text, kept = stages or self.stages, keep or self.keep
        if self.bundle is not None:
            return open_funnel(self.bundle, stages=text, k=kept, routed=False, threads=1)
        return Funnel(self.items, parse_stages(text, kept), threads=1)

    def user_vectors(self, histories: Histories) -> Float32:
        """`[Q, D]`: by the bundle's own tower, where it has one."""
        if self.bundle is not None and self.bundle.manifest.tower is not None:
            tower = UserTower(self.bundle, threads=1)
            return tower.user_vectors(
                histories.items,
                histories.offsets,
                timestamps=histories.timestamps,
                asked_at=histories.asked_at,
            )
        return user_vectors(self.loaded.model, histories)


def open_ranking(
    source: str | Path | LoadedRun,
    candidates: CandidatesConfig,
    *,
    run: str | Path | LoadedRun | None = None,
) -> RankingSource:
    """Opens a run, or a bundle beside the run it was exported from.

    Args:
        source: a run or a bundle.
        candidates: the funnel.
        run: of a bundle: the run with the data set and its split.

    Raises:
        RunError, DataError: it cannot be read, or the bundle has other items than the run.
        ConfigError, GranularityError: the stages are no funnel, or something contradicts.
    """
    bundle = _bundle_of(source)
    items: Searchable
    if bundle is None:
        if run is not None:
            raise ConfigError(f"{source} is a run; leave out --run {run}")
        loaded = open_run(source)
        items = _in_memory(loaded, candidates)
        stages = candidates.stages or str(items.sizes[-1])
    else:
        if run is None:
            raise ConfigError(
                f"{source} is a bundle, which does not tell what users took next; name the run it "
                "was exported from (--run RUN)"
            )
        if candidates.tiers is not None:
            raise ConfigError(f"{source} is a bundle with tiers of its own; leave out tiers")
        loaded, items = open_run(run), bundle
        _check_same_items(bundle, loaded)
        stages = candidates.stages or bundle.manifest.stages or str(bundle.dim)
    if loaded.model.num_interests > 1:
        raise ConfigError(
            f"users of {loaded.folder} have {loaded.model.num_interests} vectors each, and "
            "features of rankers are made of one; rank the candidates of another model, or order "
            "lists by the last stage (`recsys last-stage`)"
        )
    found = RankingSource(
        loaded, items, bundle, stages, candidates.keep, find_protocol(loaded.config.protocol)
    )
    found.funnel()  # says what is wrong with the stages before anything takes long
    return found


def _bundle_of(source: str | Path | LoadedRun) -> Bundle | None:
    if isinstance(source, LoadedRun):
        return None
    check_run_or_bundle(source)
    if (Path(source) / RUN).is_file() or not is_bundle(source):
        return None
    return load_bundle(source)


def _in_memory(loaded: LoadedRun, candidates: CandidatesConfig) -> InMemory:
    granularities = loaded.model.granularities
    dim = granularities.embedding_dim
    specs: tuple[TierSpec, ...] = (TierSpec(0, dim, "fp32", "ram"),)
    if candidates.tiers is not None:
        specs = parse_tiers(candidates.tiers, dim)
    with torch.inference_mode():
        vectors = loaded.model.item_vectors().detach().float().cpu().numpy()
    # Those of a bundle with these tiers.
    edge = specs[-1].hi
    sizes = sorted({s for s in granularities.sizes if s <= edge} | {spec.hi for spec in specs})
    return InMemory(vectors[:, :edge], specs, sizes, normalize=granularities.normalize)


def _check_same_items(bundle: Bundle, loaded: LoadedRun) -> None:
    mine = bundle.ids("item")["item_id"]
    theirs = loaded.dataset.item_frame()["item_id"]
    if len(mine) != len(theirs) or not bool((mine == theirs).all()):
        raise RunError(
            f"{bundle.folder} has other items than the data set of {loaded.folder}; name the run "
            f"it was exported from ({bundle.manifest.model.get('run', 'not known')})"
        )
