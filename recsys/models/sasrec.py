"""SASRec on nested vectors: a causal transformer over item vectors.

Kang and McAuley, Self-Attentive Sequential Recommendation, ICDM 2018, with softmax losses
(Klenitskiy and Vasilev, RecSys 2023) and, with `layer: ligr`, eSASRec (Tikhonovich et al. 2025).
The output weights are the input table (MRL-E of Kusupati et al. 2022).

Departures from the paper: packed tokens instead of padding; a LayerNorm on the input embedding,
without which a table of small initial values is drowned by what attention adds.

Shape legend: B users, T tokens, N items, D embedding_dim, K negatives.
"""

from collections.abc import Callable
from typing import Literal, cast

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from recsys.data.batching import Batch
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.granularity import Granularities
from recsys.layers.dropout import Dropout, RowDropout
from recsys.layers.jagged import layout_of
from recsys.layers.nested import blocks_from, check_blocks, norm
from recsys.layers.padded_transformer import PaddedTransformer
from recsys.layers.transformer import Transformer, TransformerConfig
from recsys.losses.history_candidates import Had, RepeatBias, seen_candidates
from recsys.losses.softmax import Negatives, NestedLossOutput, ScoreScales, nested_softmax
from recsys.models.base import Model, ModelConfig
from recsys.tables import DenseConfig, EmbeddingTable, TableConfig, build_table
from recsys.towers.items import ItemsConfig, ItemTower

COSINE = {"normalize": True, "learned_scale": True, "initial_scale": 15.0}
"""How prefixes are scored unless the config says otherwise: cosines at a learned temperature."""


def alternate_weights(num_sizes: int) -> tuple[float, ...]:
    """3 for the smallest granularity, the largest and every second one below it, 2 for the others:
    what lies between two granularities learns from both.
    """
    last = num_sizes - 1
    return tuple(3.0 if g == 0 or (last - g) % 2 == 0 else 2.0 for g in range(num_sizes))


def complete(given: object, more: Callable[[int], dict[str, object]] = lambda _: {}) -> object:
    """Granularities with `COSINE`, and `more` of that many sizes, for what was not named.

    The same for a mapping and for an object; with `normalize: false` nothing is added.
    """
    named = given.given if isinstance(given, Granularities) else given
    if not isinstance(named, dict) or named.get("normalize") is False:
        return given
    sizes = named.get("sizes", Granularities().sizes)
    added = more(len(sizes)) if isinstance(sizes, list | tuple) else {}
    return COSINE | added | named


def _recipe_weights(num_sizes: int) -> dict[str, object]:
    return {"weights": alternate_weights(num_sizes)}


class SASRecConfig(ModelConfig):
    """Options of SASRec and eSASRec. The defaults were chosen on validation data."""

    name: Literal["sasrec"] = "sasrec"
    granularities: Granularities = Granularities.model_validate(complete({}, _recipe_weights))
    """What is not named is that of `COSINE`, and the weights those of `alternate_weights` (null:
    all alike), unless `normalize: false` is said."""
    encoder: TransformerConfig = TransformerConfig()
    history_length: int = Field(default=50, ge=1)
    """Most recent interactions the model sees."""
    positions: Literal["from_start", "from_end", "none"] = "from_end"
    """Learned position vectors, counted from the oldest or from the most recent interaction."""
    table: TableConfig = DenseConfig()
    """What holds the item vectors."""
    items: ItemsConfig | None = None
    """What item vectors are made of beside ids; None: the table's rows are the item vectors."""
    item_init_std: float = Field(default=0.02, gt=0)
    input_norm: bool = True
    """LayerNorm on the sum of item and position vectors."""
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

    @field_validator("granularities", mode="before")
    @classmethod
    def _complete(cls, given: object) -> object:
        return complete(given, _recipe_weights)

    @property
    def item_features(self) -> tuple[str, ...]:
        """Those of the item tower."""
        return self.items.features if self.items else ()

    @property
    def counts_seen(self) -> bool:
        """Training needs all that its users have had, beyond their last `history_length` rows."""
        return self.seen_negatives or self.repeat_bias

    @property
    def nested(self) -> bool:
        """A smaller model can be cut out of this one."""
        return self.encoder.nested

    @property
    def blocks(self) -> tuple[int, ...]:
        """The granularities that have a model of their own, if it is nested."""
        return blocks_from(self.granularities.sizes, self.encoder.nested_from)

    @model_validator(mode="after")
    def _heads_divide_the_vector(self) -> "SASRecConfig":
        dim, heads = self.granularities.embedding_dim, self.encoder.num_heads
        if self.encoder.nested:
            check_blocks(self.blocks, heads=heads, ratio=self.encoder.hidden_ratio)
        elif self.encoder.nested_from:
            raise ValueError("encoder.nested_from has no effect without encoder.nested: true")
        if self.encoder.nested and self.encoder.distances:
            raise ValueError(
                "encoder.distances is an option of plain attention, not of encoder.nested"
            )
        if dim % heads:
            raise ValueError(f"encoder.num_heads {heads} does not divide embedding_dim {dim}")
        return self


class SASRec(Model):
    """User vectors from histories; item vectors are the table's rows."""

    Config = SASRecConfig
    config: SASRecConfig

    def __init__(
        self,
        config: SASRecConfig,
        num_items: int,
        *,
        num_users: int = 0,
        features: ItemFeatures | None = None,
        objective: Callable[..., NestedLossOutput] = nested_softmax,
    ) -> None:
        """Args:
        config: of this model.
        num_items: N.
        num_users: not used: users are what they have had.
        features: those that `config.items` names.
        objective: what is trained, called as `nested_softmax` is.
        """
        super().__init__()
        self.objective = objective
        dim = config.granularities.embedding_dim
        self.config = config
        self.granularities = config.granularities
        built = build_table(
            config.table,
            num_items,
            dim,
            init_std=config.item_init_std,
            sizes=config.granularities.sizes,
        )
        self.table = cast(EmbeddingTable, built)
        if config.items is not None:
            assert features is not None  # `features` of the config names some
            ids = self.table if config.items.ids else None
            std = config.item_init_std
            self.table = ItemTower(config.items, ids, features, config.granularities, init_std=std)
        self.position = nn.Embedding(config.history_length, dim)
        nn.init.normal_(self.position.weight, std=config.item_init_std)
        sizes, nested = config.blocks, config.encoder.nested
        self.input_norm = norm(sizes, nested=nested) if config.input_norm else nn.Identity()
        self.history_dropout = RowDropout(config.history_dropout)
        self.input_dropout = Dropout(config.encoder.dropout)
        self.output_dropout = Dropout(config.output_dropout)
        self.encoder = Transformer(sizes, config.encoder)
        self.scales = ScoreScales(config.granularities)
        if config.repeat_bias:
            self.repeats = RepeatBias(config.granularities)

    def encode(self, histories: Histories) -> Tensor:
        """A user vector at every position: `[T, D]`; position t has seen the items up to t."""
        return self._encode(histories, self.table(to_indices(histories.items, self.device)))

    def _encode(self, histories: Histories, x: Tensor, *, last: bool = False) -> Tensor:
        """As `encode`, from the items' vectors `[T, D]`; `last`: `[B, D]` at the last items."""
        layout = layout_of(histories, self.device)
        x = self.history_dropout(x)
        if self.config.positions != "none":
            from_start = self.config.positions == "from_start"
            x = x + self.position(layout.positions if from_start else layout.from_end)
        result: Tensor = self.encoder(self.input_dropout(self.input_norm(x)), layout, last=last)
        return result

    def loss(self, batch: Batch, negatives: Negatives | None) -> NestedLossOutput:
        """The objective of the next item, at every position and granularity."""
        targets = to_indices(batch.targets, self.device)
        counts_seen = self.config.counts_seen and negatives is not None
        negatives = self._chosen(negatives)
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

    def _chosen(self, negatives: Negatives | None) -> Negatives | None:
        """The negatives, or all items, that training has seen: the others have content alone, and
        as negatives they would teach that who has no id is never chosen.
        """
        if not isinstance(self.table, ItemTower) or self.table.all_trained:
            return negatives
        trained = self.table.trained
        if negatives is None or not trained[negatives.items].any():
            return Negatives(trained.nonzero().squeeze(1), None)  # a full softmax over them
        kept, log_q = trained[negatives.items], negatives.log_q
        return Negatives(negatives.items[kept], None if log_q is None else log_q[kept])

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]` from the most recent `history_length` interactions of non-empty histories."""
        recent = histories.last(self.config.history_length)
        inputs = self.table(to_indices(recent.items, self.device))
        return self._encode(recent, inputs, last=True)

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return self.table.vectors()

    def user_tower(self) -> nn.Module:
        """The encoder over padded rows."""
        position = None if self.config.positions == "none" else self.position
        from_start = self.config.positions == "from_start"
        return PaddedTransformer(position, self.input_norm, self.encoder, from_start=from_start)

    def score_of_repeats(self, sizes: tuple[int, ...]) -> Tensor | None:
        """`[S]` the learned bias of repeats; None: there is none."""
        if not self.config.repeat_bias:
            return None
        return self.repeats.of_scores(sizes, self.scales())

    def item_vectors_at(self, items: Tensor) -> Tensor:
        """`[R]` int64 -> `[R, D]`."""
        return self.table(items)
