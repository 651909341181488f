"""The page `configs.md` of the site: every key of a config, its kind, default and meaning."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pydoc import locate
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from recsys.config import StrictModel

GROUPS = {
    "The run": {
        "": "recsys.runs.config.RunConfig",
        "loss.negatives": "recsys.data.negatives.NegativesConfig",
        "batching": "recsys.data.batching.BatchingConfig",
        "trainer": "recsys.training.trainer.TrainerConfig",
        "trainer.optimizer": "recsys.training.optimizers.OptimizerConfig",
    },
    "Parts of models": {
        "model.granularities": "recsys.granularity.Granularities",
        "model.encoder, sasrec": "recsys.layers.transformer.TransformerConfig",
        "model.encoder, fmrlrec": "recsys.layers.lru.LRUConfig",
        "model.encoder, comirec": "recsys.models.comirec.InterestsConfig",
        "model.items": "recsys.towers.items.ItemsConfig",
    },
    "Tables": {
        "model.table, mapped": "recsys.tables.plain.mapped.MappedConfig",
        "model.table, hashed": "recsys.tables.shared_rows.hashed.HashedConfig",
        "model.table, clustered": "recsys.tables.shared_rows.clustered.ClusteredConfig",
        "model.table, low_rank": "recsys.tables.compressed.low_rank.LowRankConfig",
        "model.table, tensor_train": "recsys.tables.compressed.tensor_train.TensorTrainConfig",
        "model.table, quantized": "recsys.tables.compressed.quantized.QuantizedConfig",
        "model.table, widths": "recsys.tables.compressed.widths.WidthsConfig",
        "model.table, dynamic": "recsys.tables.dynamic.DynamicConfig",
        "model.table, sharded": "recsys.tables.distributed.plan.ShardedConfig",
    },
    "Rankers": {
        "": "recsys.recipes.ranking.config.RankConfig",
        "candidates": "recsys.recipes.ranking.config.CandidatesConfig",
        "rows": "recsys.recipes.ranking.config.RowsConfig",
        "features": "recsys.rankers.features.config.FeaturesConfig",
        "features.rules, features.neighbours": "recsys.rankers.features.config.PairsConfig",
        "ranker.inputs": "recsys.rankers.neural.options.InputOptions",
        "ranker.inputs.large": "recsys.rankers.neural.options.LargeFields",
        "ranker.training": "recsys.rankers.neural.options.TrainingOptions",
        "ranker.widths": "recsys.rankers.neural.options.Widths",
    },
    "Labelled events": {"of rankers": "recsys.recipes.clicks.config.ClicksConfig"},
    "Last stages": {"of chains": "recsys.recipes.last_stage.config.LastStageConfig"},
    "Options of `recsys prepare`": {
        "options": "data_prep.options.PrepareOptions",
        "synthetic": "data_prep.options.SyntheticOptions",
        "clicks": "recsys.data.clicks.options.ClickOptions",
    },
    "Studies": {
        "of models": "recsys.studies.config.StudyConfig",
        "of tables": "recsys.studies.tables.config.TableStudyConfig",
    },
}
"""Group -> key that holds it, and the `name` it belongs to -> class."""


def groups() -> dict[str, dict[str, Any]]:
    """The same with the classes, and with all losses, models and baselines by their names."""
    from recsys.baselines import BASELINES
    from recsys.losses import LOSSES
    from recsys.models import MODELS
    from recsys.rankers.lists.steps import STEPS
    from recsys.rankers.registry import RANKERS
    from recsys.training.loggers import LOGGERS

    found = {group: {key: _class(path) for key, path in GROUPS[group].items()} for group in GROUPS}
    named = {
        "Losses": {f"loss, {name}": LOSSES.find(name) for name in LOSSES.inside},
        "Models": {f"model, {name}": MODELS.find(name).Config for name in MODELS.inside},
        "Loggers": {f"logs, {name}": LOGGERS.find(name).Config for name in LOGGERS.inside},
        "Rankers by name": {f"ranker, {name}": RANKERS.find(name) for name in RANKERS.inside},
        "Steps of the last stage": {f"stages, {name}": STEPS.find(name) for name in STEPS.inside},
        "Baselines": {name: BASELINES.find(name) for name in BASELINES.inside},
    }
    return {"The run": found.pop("The run"), **named, **found}


def _class(path: str) -> Any:
    found = locate(path)
    if found is None:
        raise LookupError(f"configs.md names {path}, which is gone")
    return found


def page() -> str:
    """The Markdown of all configs."""
    parts = [
        "# Configs",
        "Every key of a config with its default. `recsys train CONFIG model.encoder.dropout=0.3` "
        "changes one on the command line; in Python the same classes make a config without a file. "
        "`configs/` holds ready ones.",
    ]
    for group, configs in groups().items():
        parts.append(f"## {group}")
        for key, config in configs.items():
            parts += [f"### {_title(group, key)}", *_section(config)]
    return "\n\n".join(parts) + "\n"


def _title(group: str, key: str) -> str:
    holder, _, name = key.partition(", ")
    if group == "Studies":
        return f"A study {key}"
    if key in ("of rankers", "of chains"):
        return f"A comparison {key}"
    if key == "options":
        return "All data sets"
    return f"{holder or 'Top level'}{f' (name: {name})' if name else ''}"


def _section(config: Any) -> Iterator[str]:
    summary = (inspect.getdoc(config) or "").partition("\n\n")[0].replace("\n", " ")
    yield f"`{config.__module__}.{config.__name__}`: {summary}"
    told: dict[str, str] = {}
    for base in reversed(config.__mro__[: config.__mro__.index(StrictModel)]):
        told |= meanings(base)
    rows = ["| key | kind | default | meaning |", "|---|---|---|---|"]
    for name, field in config.model_fields.items():
        cells = (f"`{name}`", _kind(field.annotation), _default(field), told.get(name, ""))
        rows.append(f"| {' | '.join(cells)} |")
    yield "\n".join(rows)


def meanings(config: type) -> dict[str, str]:
    """Field -> the docstring under it, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0].body
    found = {}
    for field, text in zip(body, body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            words = " ".join(str(ast.literal_eval(text.value)).split())
            found[ast.unparse(field.target)] = words.replace("|", "\\|")
    return found


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, type) and not get_args(annotation):
        return "keys" if issubclass(annotation, BaseModel) else annotation.__name__
    if get_origin(annotation) in (tuple, list):
        return f"list of {_kind(get_args(annotation)[0])}"
    kinds = [_kind(part) for part in get_args(annotation) if part is not type(None)]
    return kinds[0] if len(set(kinds)) == 1 else "keys" if "keys" in kinds else ", ".join(kinds)


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        name = getattr(value, "name", None)
        return f"`{name}`" if name else ""
    text = {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
    if isinstance(value, tuple):
        names = [getattr(each, "name", each) for each in value]
        text = f"[{', '.join(map(str, names))}]"
    return "null" if value is None else f"`{text}`"


def on_files(files: Any, config: Any) -> Any:
    """Adds the page to the site (an event of mkdocs)."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "configs.md", content=page()))
    return files
