"""`recsys.load`: a run, a baseline or a bundle becomes a recommender; a bundle without torch."""

from __future__ import annotations

from pathlib import Path

from recsys.errors import ConfigError, RunError
from recsys.files.kinds import found_at
from recsys.library.recommender import Recommender
from recsys.library.sources.bundles import recommender_of_bundle
from recsys.retrieval.bundle.versions import is_bundle


def load(
    path: str | Path, *, data: str | Path | None = None, device: str | None = None
) -> Recommender:
    """Opens what can recommend.

    Args:
        path: a run folder, a bundle, a folder that `save` wrote; or with `data` the name of a
            baseline, which is fitted on all of its training rows.
        data: a dataset folder: of a baseline, or of a run that was moved (None: the run looks where
            it says, above it and beside it).
        device: where the model of a run goes: auto, cpu, cuda, cuda:1 or mps; None: where it was
            trained. Bundles and baselines are on the CPU.

    Raises:
        RunError: there is nothing of the kind. ConfigError: data is named beside a bundle.
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
        return recommender_of_run(folder, data=data, device=device)
    if (folder / BASELINE).is_file():
        return load_baseline(folder, data)
    if data is not None and is_baseline(str(path)):
        from recsys.library.sources.fitting import fit

        return fit(data, str(path))
    raise RunError(
        f"{path} is no run folder, bundle or saved baseline: {found_at(folder)}; give or train one "
        "(`recsys train`, `recsys.fit`), or name a baseline with its data (`--data data/mine`; "
        "recsys.load('ease', data='data/mine'))"
    )


def _refuse_data(data: str | Path | None, folder: Path, why: str) -> None:
    if data is not None:
        raise ConfigError(f"{folder} needs no --data (data={str(data)!r}): {why}; leave it out")
