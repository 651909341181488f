"""`recsys.load`: a run, a baseline or a bundle becomes a recommender; a bundle without torch."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recsys.errors import ConfigError, RunError
from recsys.library.engines.bundle_engine import BundleEngine
from recsys.library.recommender import Recommender
from recsys.retrieval.bundle.loading import load_bundle
from recsys.retrieval.bundle.versions import is_bundle


def load(path: str | Path, *, data: str | Path | None = None) -> Recommender:
    """Opens what can recommend.

    Args:
        path: a run folder, a bundle, a folder that `save` wrote; or with `data` the name of a
            baseline, which is fitted on all of its training rows.
        data: a dataset folder: of a baseline.

    Raises:
        RunError: there is nothing of the kind. ConfigError: data is named where none is wanted.
        DataError, ChecksumError: it cannot be read.
    """
    folder = Path(path)
    if is_bundle(folder) and not (folder / "run.json").is_file():
        _refuse_data(data, folder, "a bundle holds all it needs")
        return recommender_of_bundle(folder)
    # Of torch from here on.
    from recsys.library.sources.baselines import BASELINE, is_baseline, load_baseline
    from recsys.library.sources.runs import recommender_of_run
    from recsys.runs.records import RUN

    if (folder / RUN).is_file():
        _refuse_data(data, folder, "a run says where its data lies")
        return recommender_of_run(folder)
    if (folder / BASELINE).is_file():
        return load_baseline(folder, data)
    if data is not None and is_baseline(str(path)):
        from recsys.library.sources.fitting import fit

        return fit(data, str(path))
    raise RunError(
        f"{path} is no run folder, bundle or saved baseline"
        + ("" if folder.exists() else " (nothing stands there)")
        + "; train one (`recsys train`, `recsys.fit`), or name a baseline with its data "
        "(recsys.load('ease', data='data/mine'))"
    )


def recommender_of_bundle(path: str | Path) -> Recommender:
    """The face of a bundle."""
    bundle = load_bundle(path)
    users = pl.Series([], dtype=pl.String)
    if bundle.manifest.users is not None:
        users = bundle.ids("user")["user_id"]
    items = bundle.ids("item")["item_id"]
    return Recommender(BundleEngine(bundle), users, items, name=str(path), origin=bundle)


def _refuse_data(data: str | Path | None, folder: Path, why: str) -> None:
    if data is not None:
        raise ConfigError(f"{folder} needs no data={str(data)!r}: {why}; leave it out")
