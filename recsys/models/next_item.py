"""Models of the next item: what SASRec and others that read histories in order have in common.

A table or tower of items, a loss at every position of the history, and user vectors from the most
recent items. A model adds its encoder: `_encode` of the items' vectors.

Shape legend: B users, T tokens, N items, D embedding_dim, K negatives.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, cast

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from recsys.data.batching import Batch
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.errors import ConfigError
from recsys.granularity import Granularities
from recsys.layers.dropout import Dropout, RowDropout
from recsys.layers.jagged import JaggedLayout, Time, layout_of
from recsys.layers.spectrum import START_PAIRS, start_rows, told_fewer, why_none
from recsys.layers.timed.buckets import GapVectors
from recsys.losses.history_candidates import Had, RepeatBias, seen_candidates
from recsys.losses.softmax import Negatives, NestedLossOutput, ScoreScales
from recsys.models.base import Model, ModelConfig
from recsys.tables import DenseConfig, DenseTable, EmbeddingTable, TableConfig, build_table
from recsys.towers.items import ItemsConfig, ItemTower

COSINE = {"normalize": True, "learned_scale": True, "initial_scale": 15.0}
"""How prefixes are scored unless the config says otherwise: cosines at a learned temperature."""


def short_weights(sizes: Sequence[int]) -> tuple[float, ...]:
    """3 for the full width D, and half of D / m for a shorter m, at least 2 and at most 8.

    Short prefixes learn most by their own loss, and what they learn keeps the full width from
    learning a small data set by heart.
    """
    full = sizes[-1]
    return (*(min(8.0, max(2.0, full / (2 * size))) for size in sizes[:-1]), 3.0)


def complete(
    given: object, more: Callable[[Sequence[int]], dict[str, object]] = lambda _: {}
) -> object:
    """Granularities with `COSINE`, and `more` of these sizes, for what was not named.

    The same for a mapping and for an object; with `normalize: false` nothing is added.
    """
    named = given.given if isinstance(given, Granularities) else given
    if not isinstance(named, dict) or named.get("normalize") is False:
        return given
    sizes = named.get("sizes", Granularities().sizes)
    whole = isinstance(sizes, list | tuple) and len(sizes) > 0
    whole = whole and all(isinstance(size, int) and size > 0 for size in sizes)
    added = COSINE | (more(sizes) if whole else {})
    if named.get("learned_scale") is False:
        added.pop("scale_grows", None)
    return added | named  # what is wrong is told where it is read


def _recipe(sizes: Sequence[int]) -> dict[str, object]:
    return {"weights": short_weights(sizes), "initial_scale": 12.0, "scale_grows": False}


def trained_negatives(table: object, negatives: Negatives | None) -> Negatives | None:
    """The negatives, or all items, that training has seen: the others have content alone, and as
    negatives they would teach that who has no id is never chosen.
    """
    if not isinstance(table, ItemTower) or table.all_trained:
        return negatives
    trained = table.trained
    if negatives is None:
        return Negatives(trained.nonzero().squeeze(1), None, whole=True)
    if not trained[negatives.items].any():
        return Negatives(trained.nonzero().squeeze(1), None)
    kept, log_q = trained[negatives.items], negatives.log_q
    return Negatives(negatives.items[kept], None if log_q is None else log_q[kept])


class NextItemConfig(ModelConfig):
    """Options of every model of the next item."""

    usual: ClassVar[Mapping[str, Any]] = {"loss": {"name": "sampled_softmax", "focus": 0.1}}
    """Chosen on validation parts: Beauty, Games, MovieTweetings, Phones and MovieLens 100K."""
    granularities: Granularities = Granularities.model_validate(complete({}, _recipe))
    """What is not named is that of `COSINE`, but scales begin at 12 and do not grow beyond it, and
    the weights are those of `short_weights` (null: all alike); nothing of that if `normalize:
    false` is said."""
    history_length: int = Field(default=50, ge=1)
    """Most recent interactions the model sees."""
    table: TableConfig = DenseConfig()
    """What holds the item vectors."""
    items: ItemsConfig | None = None
    """What item vectors are made of beside ids; None: the table's rows are the item vectors."""
    init: Literal["normal", "spectral"] | None = None
    """First values of the item vectors: normal, or the leading directions of what stands near what
    in the training rows (`layers.spectrum.start_rows`); where there are none, the run is refused.
    None: spectral where the item vectors are the rows of a dense table and there are directions,
    and normal elsewhere."""
    item_init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the first values of item vectors, of either kind."""
    history_dropout: float = Field(default=0.15, ge=0, lt=1)
    """Share of the history's items that training hides from the encoder (their positions stay)."""
    seen_negatives: bool = False
    """With sampled_softmax: what a user has had is a negative of what comes next. For protocols
    that do not filter seen items; a full softmax has them among its negatives anyhow."""
    repeat_bias: bool = False
    """With sampled_softmax: what a user has had is a candidate like others, with a learned number
    added to its scores, in training and in ranking (`losses.seen.RepeatBias`)."""
    output_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the item vectors that score (not on those the encoder reads)."""
    sparse_gradients: bool = False
    """With sampled negatives: update the rows a step has looked up and leave the others, moments
    and all, as they are. A step then costs what its batch costs and not what the table costs."""
    time: Time = "none"
    """What is read of time: none; history, when each interaction was; request, also when the next
    item is asked for, under a protocol that tells it."""
    gap_vectors: bool = True
    """With time: request, a vector for the time from each interaction to the request after it is
    added to the item's."""

    @field_validator("granularities", mode="before")
    @classmethod
    def _complete(cls, given: object) -> object:
        return complete(given, _recipe)

    @model_validator(mode="after")
    def _rows_to_begin_with(self) -> Self:
        if self.init == "spectral" and not isinstance(self.table, DenseConfig):
            raise ValueError(
                f"init: spectral writes the rows of a dense table, and this one is "
                f"{self.table.name}; use table: {{name: dense}} or init: normal"
            )
        if self.init == "spectral" and self.items is not None and not self.items.ids:
            raise ValueError("init: spectral writes vectors of ids; set items.ids to true")
        return self

    @property
    def begins_spectral(self) -> bool:
        """What `init` comes to."""
        own_rows = isinstance(self.table, DenseConfig) and self.items is None
        return self.init == "spectral" or (self.init is None and own_rows)

    @property
    def item_features(self) -> tuple[str, ...]:
        """Those of the item tower."""
        return self.items.features if self.items else ()

    @property
    def reads_time(self) -> Time:
        """As `time`."""
        return self.time

    @property
    def counts_seen(self) -> bool:
        """Training needs all that its users have had, beyond their last `history_length` rows."""
        return self.seen_negatives or self.repeat_bias


class NextItemModel(Model):
    """User vectors from histories; item vectors are the table's rows, or the item tower's."""

    config: NextItemConfig

    def __init__(
        self,
        config: NextItemConfig,
        num_items: int,
        features: ItemFeatures | None,
        objective: Callable[..., NestedLossOutput],
    ) -> None:
        """Args:
        config: of the model.
        num_items: N.
        features: those that `config.items` names.
        objective: what is trained, called as `nested_softmax` is.
        """
        super().__init__()
        self.objective, self.config = objective, config
        self.granularities = config.granularities
        dim, std = config.granularities.embedding_dim, config.item_init_std
        sizes = config.granularities.sizes
        built = build_table(config.table, num_items, dim, init_std=std, sizes=sizes)
        self.table = cast(EmbeddingTable, built)
        if config.items is not None:
            assert features is not None  # `features` of the config names some
            ids = self.table if config.items.ids else None
            self.table = ItemTower(config.items, ids, features, config.granularities, init_std=std)
        self.history_dropout = RowDropout(config.history_dropout)
        self.output_dropout = Dropout(config.output_dropout)

    @torch.no_grad()
    def begin(self, rows: Callable[[int | None], Histories]) -> str | None:
        """Puts the leading directions into the item vectors, if the config says so. Items that no
        direction reaches, and coordinates beyond the directions, stay as they are.

        Raises:
            ConfigError: `init: spectral` was asked for, and there are no directions.
        """
        if not self.config.begins_spectral:
            return None
        ids = self.table.ids if isinstance(self.table, ItemTower) else self.table
        weight, std = cast(DenseTable, ids).weight, self.config.item_init_std
        seed = int(torch.randint(1 << 31, (1,)))  # of the run's own random numbers
        known = rows(START_PAIRS)
        items, vectors = start_rows(known, *weight.shape, seed=seed)
        if not len(items):
            why = why_none(known, *weight.shape)
            if self.config.init == "spectral":
                raise ConfigError(
                    f"model.init: spectral has nothing to begin with: {why}; "
                    "say model.init=normal, or leave it out"
                )
            return f"item vectors begin with normal values (model.init): {why}"
        count = vectors.shape[1]
        first = torch.from_numpy(vectors) * std * count**0.5
        reached = torch.from_numpy(items).to(weight.device)
        weight[reached, :count] = first.to(weight.device)
        return told_fewer(count, weight.shape[1], len(weight))

    def _add_scores(self) -> None:
        """The last part of building: what scores are multiplied by, after the encoder. (The sum of
        all gradients' squares, to the last bit, goes by the order of parameters.)
        """
        config = self.config
        self.scales = ScoreScales(config.granularities)
        if config.repeat_bias:
            self.repeats = RepeatBias(config.granularities)
        self.gaps: nn.Module | None = None
        if config.time == "request" and config.gap_vectors:
            self.gaps = GapVectors(config.granularities.embedding_dim)

    def _encode(self, histories: Histories, x: Tensor, *, last: bool = False) -> Tensor:
        """User vectors at every position, `[T, D]`, from the items' vectors `[T, D]`; `last`:
        `[B, D]` at the last items.
        """
        raise NotImplementedError

    def _layout(self, histories: Histories) -> JaggedLayout:
        return layout_of(histories, self.device, time=self.config.time)

    def _with_gaps(self, x: Tensor, layout: JaggedLayout) -> Tensor:
        """Adds the vectors of the time to the next request, `[T, D]`."""
        if self.gaps is None or layout.times is None:
            return x
        added: Tensor = self.gaps(layout.pack(layout.times.since))
        return x + added

    def _trained_users(self, users: Tensor, chosen: Tensor) -> Tensor:
        """`[T, D]` what is trained of `users [T, K, D]` whose targets are `chosen [T, D]`; of
        models of several interests alone.
        """
        raise NotImplementedError

    def encode(self, histories: Histories) -> Tensor:
        """A user vector at every position: `[T, D]`; position t has seen the items up to t."""
        return self._encode(histories, self.table(to_indices(histories.items, self.device)))

    def loss(self, batch: Batch, negatives: Negatives | None) -> NestedLossOutput:
        """The objective of the next item, at every position and granularity."""
        targets = to_indices(batch.targets, self.device)
        counts_seen = self.config.counts_seen and negatives is not None
        negatives = trained_negatives(self.table, negatives)
        read = to_indices(batch.histories.items, self.device)
        older = batch.older if counts_seen else None
        older_items = read[:0] if older is None else to_indices(older.items, self.device)
        if negatives is None:
            # Sparse: the gradient of what was read adds no second [N, D] to that of all items.
            inputs, items, before = self.table(read, sparse=True), self.table.vectors(), read[:0]
        else:
            # One lookup for all: its backward makes one gradient of the table instead of two.
            places = torch.cat([read, negatives.items, targets, older_items])
            rows = self.table(places, sparse=self.config.sparse_gradients)
            inputs, items, before = rows.tensor_split([len(read), len(rows) - len(older_items)])
        users = self._encode(batch.histories, inputs)
        if self.num_interests > 1:
            own = items[targets] if negatives is None else items[len(negatives.items) :]
            users = self._trained_users(users, own)
        scales, more = self.scales(), {}
        if counts_seen and negatives is not None:
            more["own"] = seen_candidates(
                users,
                Had(read, inputs, layout_of(batch.histories, self.device)),
                targets,
                scales,
                self.granularities,
                negatives=negatives.items,
                bias=self.repeats() if self.config.repeat_bias else None,
                older=None
                if older is None or not len(older_items)
                else Had(older_items, before, layout_of(older, self.device)),
            )
        scored = self.output_dropout(items)
        return self.objective(
            users, scored, targets, scales, self.granularities, negatives=negatives, **more
        )

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]` from the most recent `history_length` interactions of non-empty histories."""
        recent = histories.last(self.config.history_length)
        inputs = self.table(to_indices(recent.items, self.device))
        return self._encode(recent, inputs, last=True)

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return self.table.vectors()

    def score_of_repeats(self, sizes: tuple[int, ...]) -> Tensor | None:
        """`[S]` the learned bias of repeats; None: there is none."""
        if not self.config.repeat_bias:
            return None
        return self.repeats.of_scores(sizes, self.scales())

    def item_vectors_at(self, items: Tensor) -> Tensor:
        """`[R]` int64 -> `[R, D]`."""
        return self.table(items)
