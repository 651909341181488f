"""Tables of pages, made from results files: one function for each view that a marker can name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from recsys.errors import ConfigError
from recsys.reports.results.numbers import short, written
from recsys.reports.results.record import Figure, Results
from recsys.reports.view import MISSING

WAITS = "not yet made again"
"""What stands where a figure will be, once the file is made."""
Options = Mapping[str, str]
Named = Mapping[str, Results | None]
"""Results by the name of their file; None: the file is still to be made."""


def table(named: Named, options: Options) -> str:
    """One line for each name and granularity, one column for each metric.

    Options: `metrics=ndcg@10,recall@10` chooses columns; `head=search` is the first one's title.
    """
    results = _only(named)
    metrics = _metrics(results, options)
    places = dict.fromkeys((row.name, row.granularity) for row in results.rows)
    nested = any(granularity is not None for _, granularity in places)
    lines = [
        [
            _escaped(name),
            *([_vector(results, name, granularity)] if nested else []),
            *(written(results.find(name, granularity, metric)) for metric in metrics),
        ]
        for name, granularity in places
    ]
    head = [options.get("head", "run"), *(["vector"] if nested else [])]
    return grid([*head, *(_titled(results, metric) for metric in metrics)], lines, len(head))


_UNITS = {"ms": ("ms", {"ms"}), "seconds": ("s", {"s", "seconds"}), "bytes": ("bytes", {"bytes"})}
"""Unit -> how a column's title writes it, and the words that tell it already."""


def _titled(results: Results, metric: str) -> str:
    """The title of a column: the metric, with its unit where its name does not have it."""
    unit = next(row.unit for row in results.rows if row.metric == metric)
    text, words = _UNITS.get(unit, ("", set()))
    return metric if not text or words & set(re.findall(r"\w+", metric)) else f"{metric}, {text}"


def _vector(results: Results, name: str, granularity: int | None) -> str:
    """`d64`, `d256 full`, or a dash."""
    if granularity is None:
        return MISSING
    full = max(r.granularity or 0 for r in results.rows if r.name == name)
    return f"d{granularity} full" if granularity == full else f"d{granularity}"


def coordinates(named: Named, options: Options) -> str:
    """Metrics down, granularities across, of the first name that has granularities."""
    results = _only(named)
    places = [(r.name, r.granularity) for r in results.rows if r.granularity is not None]
    sizes = sorted({size for name, size in places if name == places[0][0]})
    lines = []
    for metric in _metrics(results, options):
        found = [results.find(places[0][0], size, metric) for size in sizes]
        if any(found) and metric != "bytes":
            lines.append([metric, *(short(written(each, interval=False)) for each in found)])
    return grid(["coordinates", *map(str, sizes)], lines)


def widths(named: Named, options: Options) -> str:
    """One metric: a line for each name that has it, granularities across.

    Of several files each has one line, under its own name, of the first name that has the metric.
    Options: `metric=gain`, or `metric="over separate"`; `head=recipe` is the first column's title.
    """
    metric = options.get("metric", "")
    found: dict[str, dict[int, Figure]] = {}
    for file, results in named.items():
        assert results is not None  # a page waits until all files of this view are there
        _metrics(results, {"metrics": metric})
        rows = [r for r in results.rows if r.metric == metric and r.granularity is not None]
        for row in rows if len(named) == 1 else [r for r in rows if r.name == rows[0].name]:
            title = row.name if len(named) == 1 else file
            found.setdefault(title, {})[row.granularity or 0] = row
    sizes = sorted({size for figures in found.values() for size in figures})
    lines = [
        [_escaped(title), *(written(figures.get(size)) for size in sizes)]
        for title, figures in found.items()
    ]
    return grid([options.get("head", "run"), *map(str, sizes)], lines)


def summary(named: Named, options: Options) -> str:
    """One line for each file: data set, config, protocol, full width, what a prefix keeps.

    Options: `prefix=64`.
    """
    prefix = int(options.get("prefix", "64"))
    header = [
        "data set",
        "config",
        "protocol",
        "recall@10",
        "ndcg@10",
        f"{prefix} coordinates keep",
    ]
    return grid(header, [_summary_line(*pair, prefix) for pair in named.items()], 3)


def _summary_line(name: str, results: Results | None, prefix: int) -> list[str]:
    if results is None or results.data is None or results.protocol is None:
        return [name, f"`configs/{name}.yaml`", f"*{WAITS}*", MISSING, MISSING, MISSING]
    nested = [r for r in results.rows if r.granularity is not None]
    run, full = nested[0].name, max(r.granularity or 0 for r in nested)
    figures = [results.find(run, full, metric) for metric in ("recall@10", "ndcg@10")]
    config = re.search(r"configs/\S+\.yaml", results.steps[0].command)
    return [
        results.data.name,
        f"`{config[0]}`" if config else MISSING,
        f"`{results.protocol.protocol}`, fitted on {results.protocol.fit_on}",
        *(written(figure) for figure in figures),
        written(results.find(run, prefix, "keeps")),
    ]


def commands(named: Named, options: Options) -> str:
    """What makes the file, one command on a line, as a block."""
    del options
    steps = _only(named).steps
    return "\n".join(["```", *(step.command for step in steps), "```"])


def machine(named: Named, options: Options) -> str:
    """What times were measured on, and versions of what was timed."""
    del options
    told = _only(named).machine or {}
    return "; ".join(f"{key}: {value}" for key, value in told.items()) or MISSING


def figure(named: Named, options: Options) -> str:
    """One figure within a sentence.

    Options: `metric=ndcg@10`, and `granularity=32` and `name=demo` where there are several;
    `interval=yes` for half of it.
    """
    results = _only(named)
    wanted = {key: options[key] for key in ("metric", "name", "granularity") if key in options}
    found = [r for r in results.rows if all(str(getattr(r, k)) == v for k, v in wanted.items())]
    if len(found) != 1:
        raise ConfigError(
            f"{len(found)} figures are {wanted}; name one by metric, name, granularity"
        )
    return short(written(found[0], interval=options.get("interval") == "yes"))


VIEWS: dict[str, Callable[[Named, Options], str]] = {
    "table": table,
    "coordinates": coordinates,
    "widths": widths,
    "summary": summary,
    "commands": commands,
    "machine": machine,
    "figure": figure,
}


def grid(header: Sequence[str], lines: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table whose first `texts` columns are text, the others numbers."""
    marks = ["---" if column < texts else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, marks, *lines])


def _only(named: Named) -> Results:
    """The one file of a view that shows one."""
    results = list(named.values())
    if len(results) != 1 or results[0] is None:
        raise ConfigError(f"this view is of one file; the marker names {', '.join(named)}")
    return results[0]


def _metrics(results: Results, options: Options) -> list[str]:
    """The metrics to show, in the order of the file or as asked for.

    Raises:
        ConfigError: one that is asked for is not there.
    """
    known = list(dict.fromkeys(row.metric for row in results.rows))
    asked = options["metrics"].split(",") if "metrics" in options else known
    if missing := [metric for metric in asked if metric not in known]:
        raise ConfigError(f"metric {missing[0]} is not among {', '.join(known)}")
    return asked


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("_", r"\_").replace("*", r"\*")
