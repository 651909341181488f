"""Rankers in bundles: written as a new version, refused where the scores are others.

Shape legend: U users, T interactions.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys.data.dataset import Dataset
from recsys.errors import ConfigError
from recsys.files.checksums import entries_of
from recsys.rankers.features.config import FeaturesConfig
from recsys.rankers.features.knowledge import Knowledge, UserColumn
from recsys.rankers.fitted import FittedRanker, load_ranker, write_ranker
from recsys.rankers.in_bundle import RANKER
from recsys.recipes.ranking.knowing import knowledge_of
from recsys.retrieval.bundle.loading import Bundle, load_bundle
from recsys.retrieval.bundle.manifest import MANIFEST, RankerEntry, tiers_hash, write_manifest
from recsys.retrieval.bundle.versions import current_version, find_bundle, new_version
from recsys.retrieval.score_hash import score_hash


def rank_attach(ranker: str | Path, bundle: str | Path) -> Path:
    """Writes a new version of a bundle that ranks by a ranker.

    Args:
        ranker: the folder that `rank_fit` wrote for a run.
        bundle: the folder of all versions of a bundle that was exported from that run.

    Returns:
        The folder of the new version.

    Raises:
        ConfigError: the ranker was fitted on other scores than the bundle's.
        DataError, ChecksumError: either cannot be read.
    """
    return attach_ranker(load_ranker(Path(ranker)), load_bundle(bundle), Path(bundle))


def attach_ranker(fitted: FittedRanker, bundle: Bundle, shelf: Path) -> Path:
    """The same of opened ones; `shelf` is the folder of all versions, or of the one."""
    if fitted.manifest.scores != score_hash(bundle):
        raise ConfigError(
            f"the ranker was fitted on other scores than those of {bundle.folder} (other vectors, "
            "codecs or granularities), and would rank by what it has never seen; fit one on this "
            f"bundle: recsys rank fit {shelf} CONFIG --run RUN"
        )
    shelf = shelf.parent if (shelf / MANIFEST).is_file() else shelf
    known = _of_users(fitted.knowledge, bundle)
    with new_version(shelf) as folder:
        for file in bundle.manifest.files:
            if not file.startswith(f"{RANKER}/"):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle.folder / file, folder / file)
        (folder / RANKER).mkdir()
        write_ranker(folder / RANKER, replace(fitted, knowledge=known))
        files = sorted(
            path.relative_to(folder).as_posix()
            for path in (folder / RANKER).rglob("*")
            if path.is_file()
        )
        entry = RankerEntry(
            file=f"{RANKER}/ranker.json",
            more=tuple(file for file in files if file != f"{RANKER}/ranker.json"),
            name=str(fitted.manifest.ranker["name"]),
            stages=fitted.manifest.stages,
            keep=fitted.manifest.keep,
            scores=fitted.manifest.scores,
            tiers=tiers_hash(bundle.manifest),
        )
        manifest = bundle.manifest.model_copy(
            update={"ranker": entry, "parent": current_version(shelf), "files": entries_of(folder)}
        )
        write_manifest(folder, manifest)
    return find_bundle(shelf)


def deployed_knowledge(dataset: Dataset, features: FeaturesConfig) -> Knowledge:
    """What is known today: of all rows, with the times of all histories.

    Users stand as in a bundle of the data set: those with a history, in their order.
    """
    found = knowledge_of(dataset, dataset.offsets[1:], features)
    users = np.flatnonzero(np.diff(dataset.offsets))
    return replace(
        found,
        user_numbers={name: rows[users] for name, rows in found.user_numbers.items()},
        user_categories={
            name: UserColumn(column.values[users], column.size)
            for name, column in found.user_categories.items()
        },
        history_times=dataset.timestamps_at(np.arange(len(dataset.items))),
    )


def _of_users(known: Knowledge, bundle: Bundle) -> Knowledge:
    """Without columns of users and times where the bundle has no users, or others.

    Raises:
        ConfigError: the ranker reads columns of users, and the bundle has other users.
    """
    manifest = bundle.manifest
    count = manifest.users.count if manifest.users is not None else 0
    columns = [*known.user_numbers.values(), *(c.values for c in known.user_categories.values())]
    if count and any(len(rows) != count for rows in columns):
        raise ConfigError(
            f"{bundle.folder} has {count:,} users, the ranker knows {len(columns[0]):,}; fit "
            " it on the data set that the bundle was exported from"
        )
    times = known.history_times
    seen = manifest.seen.items.shape[0] if manifest.seen is not None else 0
    return known if times is None or len(times) == seen else replace(known, history_times=None)
