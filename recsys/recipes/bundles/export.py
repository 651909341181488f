"""`recsys export` and `recsys verify`: a trained run as a bundle of tiers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from recsys.errors import ConfigError
from recsys.evaluation.protocol import find_protocol, make_card
from recsys.files.kinds import check_run_or_bundle
from recsys.granularity import Granularities
from recsys.progress import console
from recsys.recipes.bundles.gate import gate_of
from recsys.recipes.bundles.gate_rules import parse_gates
from recsys.recipes.bundles.routing import routing_of
from recsys.recipes.bundles.search_options import IndexOptions, RoutedStages, search_parts
from recsys.retrieval.bundle.array_files import Format, check_format
from recsys.retrieval.bundle.loading import Bundle, load_bundle
from recsys.retrieval.bundle.manifest import BundleManifest
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.versions import is_bundle
from recsys.retrieval.bundle.writing import Addition, write_bundle
from recsys.runs.loading import LoadedRun, open_run
from recsys.runs.records import RUN
from recsys.serving.export import source_of, tower_of, why_no_tower
from recsys.serving.item_tower_export import column_users_of, item_tower_of, user_columns_of
from recsys.serving.rebundle import TRADEOFF, kept_of, source_of_bundle
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
    source: str | Path | LoadedRun,
    out: str | Path,
    *,
    tiers: str | None = None,
    users: bool | str = True,
    tower: bool | None = None,
    index: str | IndexOptions | None = None,
    stages: str | RoutedStages | None = None,
    form: str = "raw",
    columns: Sequence[str] = (),
    gate: str | Sequence[str] | None = None,
) -> Path:
    """Writes a trained run, or a bundle again, as a new version of a bundle; makes it current.

    Args:
        source: a run folder, or an opened run (`recsys.load_run(run, device="cuda")`); or a bundle,
            whose vectors are taken as it stores them.
        out: the folder of all versions.
        tiers: `lo:hi:codec:ram|mmap` by comma; None: `default_tiers`.
        users: user vectors of whole histories, and the histories, go along; a codec, if they
            shall not be stored as fp32.
        tower: the user tower goes along as ONNX; None: if it can, and the manifest tells why not.
        index: an index over the prefix of the first stage: its kind, or all `IndexOptions`.
        stages: the funnel to serve by, e.g. `32:200,256`; `RoutedStages` to let users stop early.
        form: of the tiers' files: raw, safetensors or parquet.
        columns: of the items, to be told with them when they are served: title, genres. A bundle
            keeps those it has.
        gate: what the version must reach on the run's validation users, or it is not published:
            `ndcg@10 >= current`, `recall@20/d64 >= 0.99 * current`, `ndcg@10 > 0.05`; see
            `gate_rules`. Several must all hold.

    Returns:
        The folder of the new version.

    Raises:
        RunError: it is neither a run nor a bundle.
        ConfigError: the tiers, the index, the stages, the routing, the tower, a column or a gate
            cannot be.
        GateError: a gate does not hold; the versions are as they were.
        ProtocolError: a gate would measure what was fitted on the validation part.
        DataError: something else exists at `out`.
        InstallationError: what the tower is exported with, or the index built with, is missing.
    """
    checked, index, gates = check_format(form), IndexOptions.of(index), parse_gates(gate)
    routed = stages if isinstance(stages, RoutedStages) else None
    served = stages.stages if isinstance(stages, RoutedStages) else stages
    indexed = index.kind is not None
    if _is_bundle(source):
        if columns:
            raise ConfigError(
                f"{source} is a bundle and keeps the columns it has; those of the items come with "
                "a run, so export the run"
            )
        if routed is not None:
            raise ConfigError(
                f"{source} is a bundle; routing is learned from a run, so export the run"
            )
        if gates:
            raise ConfigError(
                f"{source} is a bundle and has no validation users; a gate needs them, so export "
                "the run"
            )
        assert not isinstance(source, LoadedRun)
        bundle = load_bundle(source)
        sizes = Granularities(sizes=bundle.manifest.sizes, normalize=bundle.normalize)
        specs = parse_tiers(_tiers(tiers, sizes, checked, indexed), bundle.dim)
        if bundle.manifest.ranker is not None:
            _warn_without_ranker(bundle)
        made = source_of_bundle(bundle, with_users=users is not False)
        additions = [_kept(bundle, specs[-1].hi, tower)]
    else:
        loaded = open_run(source)
        granularities = loaded.model.granularities
        specs = parse_tiers(
            _tiers(tiers, granularities, checked, indexed), granularities.embedding_dim
        )
        made = source_of(
            loaded.model,
            loaded.dataset,
            with_users=users is not False,
            model_card=_model_card(loaded),
            protocol=_protocol(loaded),
            columns=columns,
        )
        additions = _parts(loaded, specs[-1].hi, tower)
    additions += search_parts(specs, index, served)
    additions += [] if routed is None else [routing_of(loaded, served, routed.keep)]
    additions += [gate_of(gates, loaded, Path(out), specs)] if gates else []
    codec = users if isinstance(users, str) else "fp32"
    return write_bundle(Path(out), made, specs, user_codec=codec, form=checked, additions=additions)


def _is_bundle(source: str | Path | LoadedRun) -> bool:
    if isinstance(source, LoadedRun):
        return False
    check_run_or_bundle(source)
    return not (Path(source) / RUN).is_file() and is_bundle(source)


def _tiers(given: str | None, granularities: Granularities, form: Format, indexed: bool) -> str:
    return default_tiers(granularities, form, indexed=indexed) if given is None else given


def _parts(loaded: LoadedRun, dim: int, tower: bool | None) -> list[Addition]:
    """The networks of a run that go along: of histories, of columns of users, of new items."""
    reason = NOT_WANTED if tower is False else None
    if tower is None and (reason := why_no_tower(loaded.model, dim)):
        _warn_without_tower(reason)
    parts = [_without(reason) if reason else tower_of(loaded.model, loaded.dataset, dim)]
    measured = loaded.folder / "tradeoff" / TRADEOFF
    if measured.is_file():
        parts.append(_tradeoff(measured))
    if (columns := column_users_of(loaded.model)) is not None:
        parts.append(user_columns_of(columns))
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


def _warn_without_ranker(bundle: Bundle) -> None:
    """Says that a ranker stays behind: other tiers give other scores than it was fitted on."""
    console.print(
        f"warning: the ranker of {bundle.folder} stays behind, as it was fitted on the scores of "
        "these tiers; fit one on the new bundle with `recsys rank fit`",
        style="yellow",
        soft_wrap=True,
    )


def _without(reason: str) -> Addition:
    return lambda _folder, _manifest: {"no_tower": reason}


def _tradeoff(measured: Path) -> Addition:
    """Takes along what `recsys tradeoff` has found, for whoever serves the bundle."""

    def write(folder: Path, _: BundleManifest) -> dict[str, object]:
        shutil.copyfile(measured, folder / TRADEOFF)
        return {}

    return write


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
