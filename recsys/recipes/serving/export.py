"""`recsys export` and `recsys verify`: a trained run becomes a bundle of tiers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from recsys.errors import ChecksumError, ConfigError
from recsys.evaluation.protocol import find_protocol, make_card
from recsys.granularity import Granularities
from recsys.progress import console
from recsys.recipes.run import RUN, LoadedRun
from recsys.recipes.serving.routing import routing_of
from recsys.reports.bundle import print_candidates
from recsys.retrieval.bundle.array_files import Format, check_format
from recsys.retrieval.bundle.loading import Bundle, load_bundle, verify_bundle
from recsys.retrieval.bundle.manifest import read_manifest
from recsys.retrieval.bundle.tiers import TierSpec, parse_tiers
from recsys.retrieval.bundle.versions import find_bundle, is_bundle
from recsys.retrieval.bundle.writing import Addition, write_bundle
from recsys.retrieval.funnel import check_stages, parse_stages
from recsys.retrieval.index.building import index_of
from recsys.retrieval.index.choosing import AUTO, Prefer, chosen_index_of
from recsys.serving.export import source_of, tower_of, why_no_tower
from recsys.serving.item_tower_export import item_tower_of
from recsys.serving.rebundle import kept_of, source_of_bundle
from recsys.towers.items import ItemTower

_HOT = 32
NOT_WANTED = "--no-tower"


def default_tiers(
    granularities: Granularities, form: Format = "raw", *, indexed: bool = False
) -> str:
    """Int8 in memory up to the first granularity of 32 or more, the rest as fp16 from disk.

    With an index, which holds codes of its own, all of it from disk; of the form parquet, which
    cannot be mapped, all of it in memory.
    """
    dim = granularities.embedding_dim
    if indexed and form != "parquet":
        return f"0:{dim}:fp16:mmap"
    hot = next((size for size in granularities.sizes if size >= _HOT), dim)
    residence = "ram" if form == "parquet" else "mmap"
    return f"0:{hot}:int8:ram" + (f",{hot}:{dim}:fp16:{residence}" if hot < dim else "")


def export(
    source: str | Path,
    out: str | Path,
    *,
    tiers: str | None = None,
    users: bool = True,
    user_codec: str = "fp32",
    tower: bool | None = None,
    index: str | None = None,
    recall: float = 0.99,
    memory: float | None = None,
    prefer: str = "speed",
    stages: str | None = None,
    route: float | None = None,
    form: str = "raw",
) -> Path:
    """Writes a trained run, or a bundle again, as a new version of a bundle; makes it current.

    Args:
        source: a run folder; or a bundle, whose vectors are taken as it stores them.
        out: the folder of all versions.
        tiers: `lo:hi:codec:ram|mmap` by comma; None: `default_tiers`.
        users: user vectors of whole histories, and the histories, go along.
        user_codec: how user vectors are stored.
        tower: the user tower goes along as ONNX; None: if it can, and the manifest tells why not.
        index: an index over the prefix of the first stage: `ivf,pqx4`, `scann`, ...; see
            `kinds.KINDS`. `auto`: the best of several, by measuring.
        recall: what the index is tuned to: share of the first 10 of the same stages without it;
            without stages, of exact search, and as many candidates are ranked as that takes.
        memory: with index `auto`: bytes an item that the index may take. None: any number.
        prefer: with index `auto`: `speed` or `memory`, the fastest index or the smallest.
        stages: the funnel to serve by, e.g. `32:200,256`.
        route: let users stop at earlier stages; the share of ndcg@10 to keep, learned on the run's
            validation users. None: nobody does.
        form: of the tiers' files: raw, safetensors or parquet.

    Returns:
        The folder of the new version.

    Raises:
        RunError: it is no run.
        ConfigError: the tiers, the index, the stages, the routing or the tower cannot be.
        DataError: something else stands at `out`.
        InstallationError: what the tower is exported with, or the index built with, is missing.
    """
    checked = check_format(form)
    if not (Path(source) / RUN).is_file() and is_bundle(source):
        if route is not None:
            raise ConfigError(f"{source} is a bundle; routing is learned of a run, export that")
        bundle = load_bundle(source)
        sizes = Granularities(sizes=bundle.manifest.sizes, normalize=bundle.normalize)
        specs = parse_tiers(_tiers(tiers, sizes, checked, index), bundle.dim)
        made = source_of_bundle(bundle, with_users=users)
        additions = [_kept(bundle, specs[-1].hi, tower)]
    else:
        loaded = LoadedRun(source)
        granularities = loaded.model.granularities
        specs = parse_tiers(
            _tiers(tiers, granularities, checked, index), granularities.embedding_dim
        )
        made = source_of(
            loaded.model,
            loaded.dataset,
            with_users=users,
            model_card=_model_card(loaded),
            protocol=_protocol(loaded),
        )
        additions = _parts(loaded, specs[-1].hi, tower)
    additions += indexing(specs, index, recall, stages, memory=memory, prefer=prefer)
    additions += [] if route is None else [routing_of(loaded, stages, route)]
    return write_bundle(
        Path(out), made, specs, user_codec=user_codec, form=checked, additions=additions
    )


def _tiers(given: str | None, granularities: Granularities, form: Format, index: str | None) -> str:
    if given is not None:
        return given
    return default_tiers(granularities, form, indexed=index is not None)


def _parts(loaded: LoadedRun, dim: int, tower: bool | None) -> list[Addition]:
    """The networks of a run that go along: of users, of new items."""
    reason = NOT_WANTED if tower is False else None
    if tower is None and (reason := why_no_tower(loaded.model, dim)):
        _warn_without_tower(reason)
    parts = [_without(reason) if reason else tower_of(loaded.model, loaded.dataset, dim)]
    table = getattr(loaded.model, "table", None)
    return [*parts, item_tower_of(table)] if isinstance(table, ItemTower) else parts


def _kept(bundle: Bundle, dim: int, tower: bool | None) -> Addition:
    """What of a bundle goes along into another one."""
    reason = bundle.manifest.no_tower or "the bundle it comes from has none"
    if bundle.manifest.tower is not None:
        reason = f"the tiers end at {dim} of {bundle.dim} coordinates, the tower reads all"
        if dim == bundle.dim:
            return kept_of(bundle, None if tower is not False else NOT_WANTED)
    if tower:
        raise ConfigError(f"{reason}; export without it (--no-tower)")
    if tower is None and reason != NOT_WANTED:
        _warn_without_tower(reason)
    return kept_of(bundle, reason)


def _warn_without_tower(reason: str) -> None:
    """Says what the bundle will not be able to do: a bundle is usually made to serve users."""
    console.print(
        f"warning: {reason}, so the bundle goes without a user tower and cannot turn histories "
        "into user vectors. Export again with tiers that reach the last coordinate, or with "
        "--no-tower if users come from elsewhere",
        style="yellow",
        soft_wrap=True,
    )


def _without(reason: str) -> Addition:
    return lambda _folder, _manifest: {"no_tower": reason}


def indexing(
    tiers: Sequence[TierSpec],
    index: str | None,
    recall: float,
    stages: str | None,
    *,
    memory: float | None = None,
    prefer: str = "speed",
) -> list[Addition]:
    """What goes into a bundle for its first stage: an index, the funnel.

    Raises:
        ConfigError: there is no such index or preference, or the stages are no funnel.
    """
    if index != AUTO and (memory is not None or prefer != "speed"):
        raise ConfigError(f"memory and prefer choose among indexes: --index {AUTO}")
    if index == AUTO:
        if stages is not None:
            raise ConfigError(f"index {AUTO} chooses the stages, too; leave {stages!r} out")
        if prefer not in get_args(Prefer):
            raise ConfigError(f"prefer {prefer!r} is not among {get_args(Prefer)}")
        if memory is not None and not memory > 0:
            raise ConfigError(f"memory is {memory}; bytes an item, more than 0, are expected")
        return [
            chosen_index_of(recall, most=memory, prefer=cast(Prefer, prefer), show=print_candidates)
        ]
    parsed = None if stages is None else parse_stages(stages, 1)
    if parsed is not None:
        check_stages(parsed, indexed=index is not None)
        if index is not None and len(parsed) == 1:
            raise ConfigError(
                f"stages {stages!r} rank every item, no index finds candidates for them; name how "
                f"many go on ({stages}:200,{tiers[-1].hi}), or leave the index out"
            )
    size = tiers[0].hi if parsed is None else parsed[0].granularity
    additions = [] if index is None else [index_of(index, size, recall, stages)]
    if stages is not None:
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
    card = make_card(manifest, preset, "test", loaded.fit_on, loaded.split.rule)
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
