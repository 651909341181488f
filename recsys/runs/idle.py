"""Options without effect beside others: contradictions are refused, defaults are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel


class Sections(Protocol):
    """The sections of a run config that the rules read."""

    @property
    def model(self) -> Any: ...
    @property
    def loss(self) -> Any: ...
    @property
    def split(self) -> Any: ...
    @property
    def trainer(self) -> Any: ...
    @property
    def fit_on(self) -> str: ...


@dataclass(frozen=True)
class Rule:
    """An option, and the settings under which it has no effect."""

    option: str
    """As a config file has it: `loss.distillation`."""
    idle: Callable[[Sections], bool]
    reason: str
    refused: bool = True
    """Whether another value than the default is refused. If not, it is told: an override of
    something else (`loss.name=softmax`) leaves such options behind in many a file.
    """


def _one_granularity(config: Sections) -> bool:
    return len(config.model.granularities) == 1


def _ids_are_left_out(config: Sections) -> bool:
    """The items are made of features alone, so that their table holds nothing."""
    items = getattr(config.model, "items", None)
    return not (getattr(config.model, "ids", True) if items is None else items.ids)


def _has_no_network(config: Sections) -> bool:
    model = config.model
    if model.name == "mf":
        return bool(model.users == "own")
    of_rows = model.name == "two_tower" and model.items is None
    return of_rows or model.name in ("lightgcn", "ltgnn", "ultragcn")


def _has_no_table(config: Sections) -> bool:
    model = config.model
    without_ids = model.name == "fmrlrec" and not model.ids
    return without_ids or (model.name == "svd_gcn" and not model.rows)


def _of_table(
    table: str, kind: str, field: str, works: Callable[[Any], bool]
) -> Callable[[Sections], bool]:
    """Whether the model's `table` is of the kind, and its `field` stops the option from working."""

    def idle(config: Sections) -> bool:
        found = getattr(config.model, table, None)
        return getattr(found, "name", "") == kind and not works(getattr(found, field))

    return idle


def _kind_of_interests(config: Sections) -> str:
    """What makes the interests of comirec; empty: it is another model."""
    return str(getattr(getattr(config.model, "encoder", None), "kind", ""))


def _all_alike(config: Sections) -> bool:
    """Every negative is as likely as any other, and only ratios of likelihoods count."""
    negatives = config.loss.negatives
    shares = config.loss.name in ("gbce", "bpr", "cosine_contrastive", "constrained_bce")
    return shares and not (negatives.popularity or negatives.in_batch)


_SAMPLED = "needs loss.name sampled_softmax"
_FULL = "is of sampled negatives, and this loss takes all items"
_NOTHING_HELD_OUT = "is of validation, and fit_on train+valid and all hold nothing out"

_HASHES = ("hash", "double", "bloom", "multi_probe")
_TABLES: tuple[tuple[str, str, str, Callable[[Any], bool], str], ...] = (
    ("hashed", "num_hashes", "method", _HASHES[2:].__contains__, "is of bloom and multi_probe"),
    ("hashed", "seed", "method", _HASHES.__contains__, "is of hashes; quotient_remainder has none"),
    ("quantized", "max_codes", "method", "residual".__eq__, "is of method residual"),
    ("clustered", "feature", "by", "features".__eq__, "needs by: features"),
    ("dynamic", "expire_every", "time_to_live", lambda x: x is not None, "needs time_to_live"),
)
"""Kind of table, its option, the field that decides, whether the option works, why else not."""

RULES = (
    Rule(
        "loss",
        lambda c: c.model.own_loss,
        "is of models without an objective of their own",
        refused=False,
    ),
    *(
        Rule(option, lambda c: c.model.solved, "is of models trained by gradients", refused=False)
        for option in ("batching", "trainer.optimizer", "update.replay", "update.neighbours")
    ),
    *(
        Rule(f"trainer.{name}", lambda c: c.model.solved, "is of models trained by gradients")
        for name in ("histories", "least_epochs")
    ),
    Rule(
        "trainer.least_epochs",
        lambda c: c.trainer.histories is None,
        "is what trainer.histories leaves at least, and that is not given",
        refused=False,
    ),
    Rule("model.seen_negatives", lambda c: not c.loss.takes_own, _SAMPLED),
    Rule("model.repeat_bias", lambda c: not c.loss.takes_own, _SAMPLED),
    Rule(
        "model.seen_negatives",
        lambda c: bool(getattr(c.model, "repeat_bias", False)),
        "adds what model.repeat_bias has among the candidates already; choose one of them",
    ),
    Rule(
        "model.history_dropout",
        lambda c: getattr(c.model, "users", "") == "own",
        "is of users made of their items; say model.users history or both",
    ),
    Rule(
        "model.history_dropout",
        lambda c: not getattr(c.model, "history", True),
        "is of users made of their items; say model.history true",
    ),
    Rule(
        "model.part_dropout",
        lambda c: not (c.model.history and c.model.columns),
        "is of users made of two parts; say model.history true and name model.columns",
    ),
    Rule(
        "model.columns.column_dropout",
        lambda c: len(c.model.columns.names) == 1,
        "leaves out some columns of a user and never all; name another in model.columns, or leave "
        "it out",
    ),
    Rule(
        "model.columns.bins",
        lambda c: not c.model.columns.numbers,
        "is of numbers; name some in model.columns.numbers, or leave it out",
    ),
    Rule(
        "model.columns.min_count",
        lambda c: not c.model.columns.categories,
        "is of categories; name some in model.columns.categories, or leave it out",
    ),
    Rule(
        "model.items.modality_dropout",
        lambda c: not c.model.items.ids and len(c.model.items.features) == 1,
        "leaves out some parts of an item and never all; say model.items.ids true or name another "
        "feature, or leave it out",
    ),
    Rule(
        "model.gap_vectors",
        lambda c: getattr(c.model, "time", "none") != "request",
        "needs model.time: request",
    ),
    Rule(
        "model.encoder.iterations",
        lambda c: _kind_of_interests(c) == "self_attention",
        "is of kind dynamic_routing",
    ),
    *(
        Rule(
            f"model.encoder.{name}",
            lambda c: _kind_of_interests(c) == "dynamic_routing",
            "is of kind self_attention",
        )
        for name in ("hidden_ratio", "distances")
    ),
    Rule("model.sparse_gradients", lambda c: c.loss.draws is None, _FULL),
    Rule(
        "loss.distillation",
        _one_granularity,
        "is what prefixes learn from the full width, and there is one granularity",
        refused=False,
    ),
    Rule(
        "loss.negatives.popularity_power",
        lambda c: not c.loss.negatives.popularity,
        "is of the draws of loss.negatives.popularity, and there are none",
    ),
    Rule(
        "loss.negatives.logq",
        _all_alike,
        "tells draws apart, and negatives that are all drawn uniformly are alike to this loss",
        refused=False,
    ),
    *(
        Rule(f"trainer.{name}", lambda c: c.fit_on != "train", _NOTHING_HELD_OUT, refused=False)
        for name in ("patience", "validate_every", "metric")
    ),
    *(
        Rule(
            f"split.{name}",
            lambda c: c.split is not None and c.split.name != "global-time",
            "is of split.name global-time",
        )
        for name in ("valid_quantile", "test_quantile")
    ),
    *(
        Rule(
            f"split.{name}",
            lambda c: c.split is not None and c.split.name != "given",
            "is of split.name given",
        )
        for name in ("valid_share", "valid_draw", "seed")
    ),
    Rule("model.table", _ids_are_left_out, "is of ids, and the items are made of features alone"),
    Rule("model.item_init_std", _has_no_table, "is of the vectors of model.ids"),
    Rule("model.items.id_dropout", _ids_are_left_out, "needs model.items.ids"),
    Rule("trainer.optimizer.weight_decay", _has_no_network, "is of networks, and there is none"),
    Rule("trainer.optimizer.table_weight_decay", _has_no_table, "is of tables, and there is none"),
    *(
        Rule(f"model.{table}.{name}", _of_table(table, kind, field, works), reason)
        for table in ("table", "user_table")
        for kind, name, field, works, reason in _TABLES
    ),
)


def refuse_idle(config: Sections) -> None:
    """Raises ValueError where an option was changed from its default and cannot do anything."""
    for rule, value in _idle(config):
        if rule.refused and value != _default(config, rule.option):
            raise ValueError(f"{rule.option} {rule.reason} (found {_brief(value)})")


def idle_options(config: Sections, among: Sequence[str] | None = None) -> list[str]:
    """A sentence for every option that was given and does nothing; none for what is off anyhow.

    Args:
        config: as it was read.
        among: the keys that were typed, where the others come out of a run folder, in which
            every key stands; sections count for what is in them. None: all that were read.
    """
    return [
        f"{rule.option} does nothing here: it {rule.reason} (found {_brief(value)})"
        for rule, value in _idle(config)
        if _is_given(config, rule.option)
        and (among is None or any(f"{rule.option}.".startswith(f"{key}.") for key in among))
        and (value or value != _default(config, rule.option))
    ]


def idle_keys(config: Sections) -> list[str]:
    """The options that do nothing beside the others; of a section, all that is in it."""
    return [rule.option for rule, _ in _idle(config)]


def idle_reason(config: Sections, key: str) -> str | None:
    """Why a dotted key, or the section it stands in, does nothing; None: it does something."""
    found = (rule.reason for rule, _ in _idle(config) if f"{key}.".startswith(f"{rule.option}."))
    return next(found, None)


def _idle(config: Sections) -> Iterator[tuple[Rule, Any]]:
    for rule in RULES:
        *parents, name = rule.option.split(".")
        owner = _walk(config, parents)
        if isinstance(owner, BaseModel) and name in type(owner).model_fields and rule.idle(config):
            yield rule, getattr(owner, name)


def _walk(config: Sections, names: list[str]) -> Any:
    """The value at that place; None: there is no such section."""
    found: Any = config
    for name in names:
        found = getattr(found, name, None)
    return found


def _default(config: Sections, option: str) -> Any:
    *parents, name = option.split(".")
    owner = _walk(config, parents)
    return type(owner).model_fields[name].get_default(call_default_factory=True)


def _is_given(config: Sections, option: str) -> bool:
    """Whether each section of the dotted name, and the option, stand in what was read."""
    found: Any = config
    for name in option.split("."):
        if name not in found.model_fields_set:
            return False
        found = getattr(found, name)
    return True


def _brief(value: Any) -> str:
    """A value in a sentence; of a section its name."""
    return str(getattr(value, "name", value))
