"""`recsys export` and `recsys verify`: a trained run becomes a bundle of tiers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recsys.errors import ChecksumError, ConfigError
from recsys.evaluation.protocol import find_protocol, make_card
from recsys.granularity import Granularities
from recsys.recipes.run import LoadedRun
from recsys.retrieval.bundle import verify_bundle
from recsys.retrieval.funnel import check_stages, parse_stages
from recsys.retrieval.indexing import index_of
from recsys.retrieval.manifest import read_manifest
from recsys.retrieval.tiers import TierSpec, parse_tiers
from recsys.retrieval.versions import find_bundle
from recsys.retrieval.writing import Addition, write_bundle
from recsys.serving.export import source_of, tower_of
from recsys.serving.item_export import item_tower_of
from recsys.towers.items import ItemTower

_HOT = 32


def default_tiers(granularities: Granularities) -> str:
    """Int8 in memory up to the first granularity of 32 or more, the rest as fp16 from disk."""
    dim = granularities.embedding_dim
    hot = next((size for size in granularities.sizes if size >= _HOT), dim)
    return f"0:{hot}:int8:ram" + (f",{hot}:{dim}:fp16:mmap" if hot < dim else "")


def export(
    run: str | Path,
    out: str | Path,
    *,
    tiers: str | None = None,
    users: bool = True,
    user_codec: str = "fp32",
    tower: bool = True,
    index: str | None = None,
    recall: float = 0.99,
    stages: str | None = None,
) -> Path:
    """Writes a trained run as a new version of a bundle, and makes it current.

    Args:
        run: a run folder.
        out: the folder of all versions.
        tiers: `lo:hi:codec:ram|mmap` by comma; None: `default_tiers`.
        users: user vectors of whole histories, and the histories, go along.
        user_codec: how user vectors are stored.
        tower: the user tower goes along as ONNX.
        index: a Faiss index over the first tier: `ivf,sq8`, ...; see `index.KINDS`.
        recall: what the index is tuned to: share of the exact first 100 candidates.
        stages: the funnel to serve by, e.g. `32:200,256`.

    Returns:
        The folder of the new version.

    Raises:
        RunError: it is no run.
        ConfigError: the tiers, the index or the stages cannot be.
        DataError: something else stands at `out`.
        InstallationError: what the tower is exported with is missing.
    """
    loaded = LoadedRun(run)
    granularities = loaded.model.granularities
    specs = parse_tiers(tiers or default_tiers(granularities), granularities.embedding_dim)
    additions = [tower_of(loaded.model, loaded.dataset)] if tower else []
    table = getattr(loaded.model, "table", None)
    additions += [item_tower_of(table)] if isinstance(table, ItemTower) else []
    additions += indexing(specs, index, recall, stages)
    source = source_of(
        loaded.model,
        loaded.dataset,
        with_users=users,
        model_card=_model_card(loaded),
        protocol=_protocol(loaded),
    )
    return write_bundle(Path(out), source, specs, user_codec=user_codec, additions=additions)


def indexing(
    tiers: Sequence[TierSpec], index: str | None, recall: float, stages: str | None
) -> list[Addition]:
    """What goes into a bundle for its first stage: an index over the first tier, the funnel.

    Raises:
        ConfigError: there is no such index, or the stages are no funnel.
    """
    additions = [] if index is None else [index_of(index, tiers[0].hi, recall)]
    if stages is not None:
        check_stages(parse_stages(stages, 1))
        additions.append(lambda _, manifest: {"stages": _among(stages, manifest.sizes)})
    return additions


def _among(stages: str, sizes: tuple[int, ...]) -> str:
    """The stages, if all their granularities are there."""
    for stage in parse_stages(stages, 1):
        if stage.granularity not in sizes:
            raise ConfigError(
                f"stages {stages!r}: granularity {stage.granularity} is not among {sizes}"
            )
    return stages


def _model_card(loaded: LoadedRun) -> dict[str, object]:
    return {
        "name": loaded.config.model.name,
        "run": loaded.name,
        "commit": loaded.info["commit"],
        "seed": loaded.info["seed"],
        "config": loaded.config.model.model_dump(mode="json"),
    }


def _protocol(loaded: LoadedRun) -> dict[str, object]:
    config, manifest = loaded.config, loaded.dataset.manifest
    preset = find_protocol(config.protocol)
    card = make_card(manifest, preset, "test", config.fit_on, loaded.split.rule)
    return card.model_dump(mode="json")


def verify(bundle: str | Path) -> int:
    """Compares every byte of a bundle with what was written.

    Returns:
        The number of files that were compared.

    Raises:
        ChecksumError: naming every difference.
    """
    if found := verify_bundle(bundle):
        lines = "\n".join(f"  {line}" for line in found)
        raise ChecksumError(f"{bundle} is not what was exported; export it again:\n{lines}")
    return len(read_manifest(find_bundle(bundle)).files)
