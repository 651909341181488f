"""The command line: arguments -> recipes, nothing else."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from recsys.console import make_console
from recsys.errors import RecsysError
from recsys.files.system_errors import explain
from recsys.processes import is_first


class _Verbs(TyperGroup):
    """The verbs; `--debug` may stand anywhere among their arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts `--debug` before the verb, where it belongs."""
        if "--debug" in args:
            args = ["--debug", *(arg for arg in args if arg != "--debug")]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_debug = ContextVar("debug", default=False)

Data = Annotated[Path, typer.Argument(help="A dataset folder, as `recsys prepare` leaves it.")]
Run = Annotated[Path, typer.Argument(help="A run folder, as `recsys train` leaves it.")]
PartOption = Annotated[str, typer.Option("--split", help="Held-out part: valid or test.")]
ProtocolOption = Annotated[
    str | None, typer.Option(help="Preset: s3rec, fmrlrec, gsasrec, hstu, global-time.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print card and rows as JSON.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the config.")
]
STOPPED = 130


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
) -> None:
    """Recommender systems on nested embeddings: prepare, train, evaluate, compare, report."""
    _debug.set(debug)


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Registers a command; errors are printed as one message, and with a trace on `--debug`."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
            _flush()
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise  # of the command line itself: typer tells them
        except Exception as error:
            _tell(error)
            raise typer.Exit(STOPPED if type(error).__name__ == "StoppedError" else 1) from error

    app.command(name=function.__name__.replace("_", "-"))(run)
    return run


def _flush() -> None:
    """Writes what was printed while an error of it can be told."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # Python would try again when it ends, and print a trace.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        error.filename = "standard output"
        raise


def _tell(error: Exception) -> None:
    if _debug.get():
        traceback.print_exception(error)
    text = Text.assemble(("error: ", "bold red"), _words(error))
    make_console(stderr=True).print(text, soft_wrap=True)


def _words(error: Exception) -> str:
    if isinstance(error, RecsysError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"memory is short ({error or 'no more could be had'}); free some, or take less data"
    if isinstance(error, OSError) and error.errno is not None:
        return explain(error)
    return (
        f"{type(error).__name__}: {error}. This is a fault of recsys: please report it to its "
        "maintainers, with the command and what it prints with --debug"
    )


@verb
def prepare(
    name: Annotated[str | None, typer.Argument(help="A data set; see --list.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options; see --list.")
    ] = None,
    source: Annotated[Path | None, typer.Option(help="Raw file, zip or folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="Dataset folder [data/NAME].")] = None,
    if_missing: Annotated[bool, typer.Option(help="Do nothing where a folder stands.")] = False,
    show: Annotated[bool, typer.Option("--list", help="Names and options, then stop.")] = False,
) -> None:
    """Turns raw ratings into a dataset folder."""
    from data_prep import SOURCES, PrepareOptions, options_from_text
    from data_prep import prepare as make
    from recsys.data.dataset import load_dataset

    if show or name is None:
        _print_sources({key: entry.description for key, entry in SOURCES.items()}, PrepareOptions)
        return
    folder = out or Path("data") / name
    if if_missing and folder.exists():
        dataset = load_dataset(folder)
    else:
        options = options_from_text(overrides or [])
        dataset = make(name, options, source=source, out=folder)
    counts = dataset.manifest
    print(
        f"{folder}: {counts.num_users:,} users, {counts.num_items:,} items, "
        f"{counts.num_interactions:,} interactions"
    )


@verb
def encode(
    data: Data,
    modality: Annotated[str, typer.Option(help="text or image.")],
    name: Annotated[str | None, typer.Option(help="Name of the feature [the modality].")] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder, .onnx file or name on the hub [packaged model].")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="text: content columns, comma separated.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="image: folder, zip or tar of ITEM_ID.jpg files.")
    ] = None,
    url_column: Annotated[str | None, typer.Option(help="image: column of addresses.")] = None,
    cache: Annotated[Path | None, typer.Option(help="image: where downloads are kept.")] = None,
) -> None:
    """Texts or pictures of the items -> vectors; a killed run goes on where it was."""
    from data_prep import encode_images, encode_text

    name = name or modality
    if _one_of("--modality", modality, ("text", "image")) == "text":
        chosen = columns.split(",") if columns else ()
        _print_feature(encode_text(data, name=name, model=model, columns=chosen))
        return
    _print_feature(
        encode_images(
            data, name=name, model=model, images=images, url_column=url_column, cache=cache
        )
    )


@verb
def attach(
    data: Data,
    vectors: Annotated[Path, typer.Argument(help="npz, npy, parquet, or a dataset folder.")],
    modality: Annotated[str, typer.Option(help="Name of the feature: text, image, ...")],
    ids: Annotated[Path | None, typer.Option(help="npy: its ids, a npy or text file.")] = None,
    encoder: Annotated[str | None, typer.Option(help="What made the vectors.")] = None,
) -> None:
    """Ready-made vectors, or another data set's feature, by item id; missing ones are marked."""
    from data_prep import attach as add

    _print_feature(add(data, vectors, name=modality, ids=ids, encoder=encoder))


@verb
def columns(
    data: Data,
    names: Annotated[list[str], typer.Argument(help="Content columns; year: out of the title.")],
    delimiter: Annotated[str, typer.Option(help="Between categories of one text.")] = "|",
    min_count: Annotated[int, typer.Option(help="Rarer categories are left out.", min=1)] = 2,
) -> None:
    """Content columns -> categories and numbers with masks."""
    from data_prep import featurize_columns

    for manifest in featurize_columns(data, names, delimiter=delimiter, min_count=min_count):
        _print_feature(manifest)


@verb
def train(
    config: Annotated[Path, typer.Argument(help="A YAML file; configs/ holds ready ones.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Run folder [runs/CONFIG].")] = None,
    resume: Annotated[bool, typer.Option(help="Continue; a finished run is left alone.")] = False,
) -> None:
    """Trains a model and leaves a run folder."""
    from recsys.recipes.training.train import train as fit

    folder = fit(config, overrides or [], out=out or Path("runs") / config.stem, resume=resume)
    if is_first():
        print(f"trained: {folder} (next: recsys evaluate {folder})")


@verb
def evaluate(
    run: Run,
    split: PartOption = "test",
    protocol: ProtocolOption = None,
    baselines: Annotated[bool, typer.Option(help="Measure the baselines too.")] = True,
    unfinished: Annotated[bool, typer.Option(help="Also when training has not ended.")] = False,
    without: Annotated[
        list[str] | None, typer.Option(help="A feature, or ids, taken from all items; repeatable.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Recall, NDCG and more at every granularity, beside the simple baselines."""
    from recsys.recipes.evaluating.evaluate import measured

    table, path = measured(
        run,
        part=_part(split),
        protocol=protocol,
        with_baselines=baselines,
        unfinished=unfinished,
        without=without or (),
    )
    _show(table, as_json)  # before it is saved: the folder may be full, or read-only
    table.save(path)


@verb
def baselines(
    data: Annotated[Path, typer.Argument(help="A dataset folder.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME | NAME.KEY=VALUE]...", help="ease, als, ..., ease.l2=50"),
    ] = None,
    split: PartOption = "test",
    protocol: Annotated[str, typer.Option(help="Preset, see `recsys evaluate`.")] = "s3rec",
    fit_on: Annotated[str, typer.Option(help="train or train+valid.")] = "train",
    out: Annotated[Path | None, typer.Option(help="JSON file for the table.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Fits and measures the simple models to beat; what is not set is chosen on validation."""
    from recsys.recipes.evaluating.baselines import evaluate_baselines

    table = evaluate_baselines(
        data,
        [name for name in names or [] if "=" not in name],
        [name for name in names or [] if "=" in name],
        protocol=protocol,
        part=_part(split),
        fit_on=_one_of("--fit-on", fit_on, ("train", "train+valid")),
    )
    _show(table, as_json)
    if out is not None:
        table.save(out)


@verb
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Evaluated run folders.")],
    split: PartOption = "test",
    protocol: ProtocolOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Puts runs side by side; refuses to mix protocol cards."""
    from recsys.recipes.evaluating.evaluate import compare as join

    _show(join(runs, part=_part(split), protocol=protocol), as_json)


@verb
def report(
    run: Run,
    beside: Annotated[list[Path] | None, typer.Argument(help="Other runs to show.")] = None,
    split: PartOption = "test",
    protocol: ProtocolOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder [RUN/report].")] = None,
) -> None:
    """One self-contained HTML page, and the same as Markdown and CSV."""
    from recsys.recipes.evaluating.report import report as write

    files = write(run, beside or [], part=_part(split), protocol=protocol, out=out)
    print(*files[1:], files[0], sep="\n")


@verb
def study(
    config: Annotated[Path, typer.Argument(help="A study file; configs/*_study.yaml are ready.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Study folder [runs/CONFIG].")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A method to train and measure now; repeatable.")
    ] = None,
    training: Annotated[
        bool, typer.Option("--train/--no-train", help="Train what is missing, or only tabulate.")
    ] = True,
    dry: Annotated[bool, typer.Option(help="List the runs and their state, then stop.")] = False,
) -> None:
    """Nested against separate widths, truncation, PCA, codecs; the same command resumes."""
    from recsys.study import print_states
    from recsys.study import study as run_study
    from recsys.study.report import print_study

    result = run_study(
        config,
        overrides or [],
        out=out or Path("runs") / config.stem,
        only=only or [],
        train=training,
        dry=dry,
    )
    if result.content is not None:
        print_study(result.content)
    else:
        print_states(result)
    for path in reversed(result.files):
        print(path)


@verb
def cut(
    run: Run,
    out: Annotated[Path, typer.Argument(help="Run folder of the smaller model.")],
    granularity: Annotated[int, typer.Option(help="Of the run's; the smaller model's width.")],
) -> None:
    """Cuts the smaller model out of a nested one: a run of its own, with the same prefixes."""
    from recsys.recipes.training.cut import cut as write

    folder = write(run, out, granularity=granularity)
    print(f"cut: {folder} (next: recsys evaluate {folder})")


@verb
def calibrate(
    run: Run,
    out: Annotated[Path, typer.Argument(help="Run folder of the calibrated model.")],
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(help="Of the fit, at most.")] = 100,
    learning_rate: Annotated[float, typer.Option(help="Of the fit.")] = 0.05,
    weight: Annotated[float, typer.Option(help="Of new targets; known ones weigh 1.")] = 0.7,
) -> None:
    """Fits how items nobody has had are scored to the validation part: a run of its own."""
    from recsys.recipes.training.calibrate import calibrate as write

    folder = write(
        run, out, overrides or [], steps=steps, learning_rate=learning_rate, weight=weight
    )
    print(f"calibrated: {folder} (next: recsys evaluate {folder})")


@verb
def export(
    source: Annotated[Path, typer.Argument(help="A run folder; or a bundle, for other tiers.")],
    out: Annotated[Path, typer.Argument(help="Folder of all versions of the bundle.")],
    tiers: Annotated[
        str | None, typer.Option(help="lo:hi:CODEC:ram|mmap by comma [int8 to 32, then fp16].")
    ] = None,
    users: Annotated[bool, typer.Option(help="User vectors and histories too.")] = True,
    user_codec: Annotated[str, typer.Option(help="How user vectors are stored.")] = "fp32",
    tower: Annotated[
        bool | None,
        typer.Option("--tower/--no-tower", help="The user tower as ONNX [where it can be]."),
    ] = None,
    index: Annotated[
        str | None, typer.Option(help="Of the first stage: ivf,pqx4 or another kind, or auto.")
    ] = None,
    recall: Annotated[float, typer.Option(help="What the index is tuned to.")] = 0.99,
    memory: Annotated[
        float | None, typer.Option(help="Bytes an item that index auto may take [any].")
    ] = None,
    prefer: Annotated[str, typer.Option(help="Of index auto: speed or memory.")] = "speed",
    stages: Annotated[str | None, typer.Option(help="The funnel to serve by: 32:200,256.")] = None,
    route: Annotated[
        float | None,
        typer.Option(help="Users may stop early; the share of ndcg@10 to keep, say 0.99."),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="Of the tiers: raw, safetensors or parquet.")
    ] = "raw",
) -> None:
    """Writes a run as a bundle of tiers: versioned, checksummed, served without torch."""
    from recsys.recipes.serving.export import export as write
    from recsys.reports.bundle import print_bundle

    folder = write(
        source,
        out,
        tiers=tiers,
        users=users,
        user_codec=user_codec,
        tower=tower,
        index=index,
        recall=recall,
        memory=memory,
        prefer=prefer,
        stages=stages,
        route=route,
        form=form,
    )
    print_bundle(folder)
    print(f"exported: {folder} (next: recsys verify {out})")


@verb
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle, as `recsys export` leaves it.")],
    run: Annotated[
        Path | None, typer.Option(help="Its run: what the bundle finds, beside its evaluation.")
    ] = None,
    users: Annotated[int, typer.Option(help="Users to compare with; 0: all.")] = 2000,
) -> None:
    """Finds any flipped byte, missing file or foreign version in a bundle."""
    from recsys.recipes.serving.export import verify as check

    print(f"{bundle} is whole: {check(bundle)} files compared")
    if run is not None:
        from recsys.recipes.serving.parity import compare_with_run

        found = compare_with_run(bundle, run, num_users=users or None)
        print("\n".join(found.lines()))
        if not found.holds:
            raise typer.Exit(1)


@verb
def tradeoff(
    source: Annotated[Path, typer.Argument(help="A run folder, or a bundle with users.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="The sweep: codecs=[int8], keeps=[200], ..."),
    ] = None,
    protocol: ProtocolOption = None,
    users: Annotated[int, typer.Option(help="Users of each part; 0: all.")] = 2000,
    k: Annotated[int, typer.Option("-k", help="Length of the lists.")] = 10,
    keep_ndcg: Annotated[float, typer.Option(help="Share of ndcg@k to keep.")] = 0.99,
    out: Annotated[Path | None, typer.Option(help="Folder [RUN/tradeoff].")] = None,
) -> None:
    """What each byte in memory and each multiplication buys; ends with an export command.

    Funnels are chosen on the validation part; the chosen one is measured once on the test part.
    """
    from recsys.recipes.evaluating.tradeoff import tradeoff as measure
    from recsys.reports.tradeoff import print_tradeoff

    measure(
        source,
        overrides or [],
        protocol=protocol,
        num_users=users or None,
        k=k,
        keep_ndcg=keep_ndcg,
        out=out,
        show=print_tradeoff,
    )


@verb
def bits(
    source: Annotated[Path, typer.Argument(help="A run folder, or a bundle with users.")],
    bytes_: Annotated[
        str, typer.Option("--bytes", help="Of one item in memory; several by comma.")
    ] = "32",
    edges: Annotated[
        str | None, typer.Option(help="Where buckets end: 8,16,24 [at the granularities].")
    ] = None,
    aim: Annotated[str, typer.Option(help="What finds most: candidates or lists.")] = "candidates",
    keep: Annotated[int, typer.Option(help="Candidates that are ranked.")] = 100,
    k: Annotated[int, typer.Option("-k", help="Length of the lists.")] = 10,
    protocol: ProtocolOption = None,
    users: Annotated[int, typer.Option(help="Users of each part; 0: all.")] = 1000,
) -> None:
    """How finely to store which coordinates within so many bytes; ends with export commands.

    Splits are chosen on the validation part, and measured once on the test part.
    """
    from recsys.recipes.evaluating.bits import bits as split
    from recsys.reports.bits import print_bits

    split(
        source,
        _numbers("--bytes", bytes_),
        edges=None if edges is None else _numbers("--edges", edges),
        aim=_one_of("--aim", aim, ("candidates", "lists")),
        keep=keep,
        k=k,
        protocol=protocol,
        num_users=users or None,
        show=print_bits,
    )


@verb
def nest(
    vectors: Annotated[Path, typer.Argument(help="Item vectors, .npy or .parquet.")],
    out: Annotated[Path, typer.Argument(help="Folder of all versions of the bundle.")],
    users: Annotated[Path | None, typer.Option(help="User vectors, likewise.")] = None,
    method: Annotated[str, typer.Option(help="learned, pca or none.")] = "learned",
    sizes: Annotated[str | None, typer.Option(help="8,16,32 [powers of two, and all].")] = None,
    normalize: Annotated[bool, typer.Option(help="Scores are cosines.")] = False,
    tiers: Annotated[str | None, typer.Option(help="As in `recsys export`.")] = None,
    index: Annotated[str | None, typer.Option(help="As in `recsys export`.")] = None,
    recall: Annotated[float, typer.Option(help="What the index is tuned to.")] = 0.99,
    stages: Annotated[str | None, typer.Option(help="The funnel to serve by: 32:200,256.")] = None,
) -> None:
    """Rotates vectors from elsewhere so that prefixes are useful; writes a bundle."""
    from recsys.recipes.serving.nest import nest as rotate

    done = rotate(
        vectors,
        out,
        users=users,
        method=_one_of("--method", method, ("learned", "pca", "none")),
        sizes=_numbers("--sizes", sizes) if sizes else None,
        normalize=normalize,
        tiers=tiers,
        index=index,
        recall=recall,
        stages=stages,
    )
    print(
        f"nested: {done.folder}; prefixes miss {done.missed:.1%} of the scores' variance "
        f"({done.missed_before:.1%} as they were)"
    )


@verb
def doctor() -> None:
    """Checks that the installed torch, fbgemm and torchrec agree, and tells what mends them."""
    from recsys.doctor import diagnose, print_findings

    findings = diagnose()
    print_findings(findings, make_console())
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _print_feature(manifest: Any) -> None:
    print(
        f"{manifest.name}: {manifest.kind} for {manifest.num_present:,} of "
        f"{manifest.num_items:,} items, size {manifest.size:,}"
    )


def _show(table: Any, as_json: bool) -> None:
    if as_json:
        json.dump({"card": table.card.model_dump(), "rows": table.rows.to_dicts()}, sys.stdout)
        print()
        return
    from recsys.reports import print_table

    print_table(table)


def _part(text: str) -> Any:
    return _one_of("--split", text, ("valid", "test"))


def _numbers(option: str, text: str) -> list[int]:
    """Whole numbers by comma."""
    if not all(number.strip().isdigit() for number in text.split(",")):
        raise typer.BadParameter(f"{text!r} is not of the form 8,16,32", param_hint=option)
    return [int(number) for number in text.split(",")]


def _one_of(option: str, text: str, allowed: tuple[str, ...]) -> Any:
    if text not in allowed:
        raise typer.BadParameter(f"{text!r} is not among {allowed}", param_hint=option)
    return text


def _print_sources(sources: dict[str, str], options: Any) -> None:
    table = Table("name", "what", title="recsys prepare NAME")
    for name, description in sources.items():
        table.add_row(name, description)
    console = make_console()
    console.print(table)
    fields = Table("key=value", "default", title="options")
    for name, field in options.model_fields.items():
        fields.add_row(name, str(field.get_default(call_default_factory=True)))
    console.print(fields)
