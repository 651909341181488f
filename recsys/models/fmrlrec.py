"""fMRLRec: item vectors from text and images, users by a nested linear recurrence.

Wang et al., Train Once, Deploy Anywhere: Matryoshka Representation Learning for Multimodal
Recommendation, EMNLP 2024. The vectors of frozen encoders (text, images) are projected together to
D coordinates; LRU layers of nested linear layers and blockwise norms read the history. A smaller
model is cut out of the trained one by `recsys cut`.

Departures from the paper and its code: each modality's vectors are divided by their length first,
so that no encoder outweighs another by its scale; a missing text or image is zeros; packed tokens
instead of padding; an id table may be added (`ids`). The paper's loss is `loss.name: softmax` with
`distillation: 0`, its scores are dot products (the default here, `normalize: false`).

Shape legend: B users, T tokens, N items, D embedding_dim, F coordinates of all features, K
negatives.
"""

from collections.abc import Callable
from typing import Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from recsys.data.batching import Batch
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.errors import DataError
from recsys.granularity import Granularities
from recsys.layers.dropout import Dropout, RowDropout
from recsys.layers.jagged import layout_of
from recsys.layers.lru import LRUConfig, LRULayer
from recsys.layers.nested import blocks_from, check_blocks
from recsys.layers.padded_lru import PaddedRecurrence
from recsys.losses.softmax import Negatives, NestedLossOutput, ScoreScales, nested_softmax
from recsys.models.base import Model, ModelConfig
from recsys.tables import DenseConfig, EmbeddingTable, TableConfig, build_table


class FMRLRecConfig(ModelConfig):
    """Options of fMRLRec. The defaults are the paper's model with this library's usual sizes."""

    name: Literal["fmrlrec"] = "fmrlrec"
    granularities: Granularities = Granularities()
    encoder: LRUConfig = LRUConfig()
    features: tuple[str, ...] = ("text", "image")
    """Item features that are vectors, any that the data set has; none needs `ids`."""
    ids: bool = False
    """A vector of its own for every item is added to what its features give."""
    history_length: int = Field(default=50, ge=1)
    """Most recent interactions the model sees."""
    history_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the history's items that training hides from the encoder."""
    table: TableConfig = DenseConfig()
    """What holds the vectors of `ids`."""
    item_init_std: float = Field(default=0.02, gt=0)
    """Of the vectors of `ids`."""

    @property
    def item_features(self) -> tuple[str, ...]:
        """As `features`."""
        return self.features

    @property
    def nested(self) -> bool:
        """A smaller model can be cut out of this one."""
        return True

    @property
    def blocks(self) -> tuple[int, ...]:
        """The granularities that have a model of their own."""
        return blocks_from(self.granularities.sizes, self.encoder.nested_from)

    @model_validator(mode="after")
    def _can_be_built(self) -> "FMRLRecConfig":
        if not self.features and not self.ids:
            raise ValueError("the items have neither features nor ids; name features, or ids: true")
        check_blocks(self.blocks, ratio=self.encoder.hidden_ratio)
        return self


class FMRLRec(Model):
    """User vectors from histories; item vectors are a projection of the items' features."""

    Config = FMRLRecConfig
    config: FMRLRecConfig
    content: Tensor
    """`[N, F]`; not a part of the weights: it stands in the data set."""

    def __init__(
        self,
        config: FMRLRecConfig,
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
        features: at least those that the config names.
        objective: what is trained, called as `nested_softmax` is.

        Raises:
            DataError: a feature that the config names is absent, or holds no vectors.
        """
        super().__init__()
        self.config, self.granularities = config, config.granularities
        self.objective = objective
        sizes, dim = config.granularities.sizes, config.granularities.embedding_dim
        if config.features:
            content = join_features(features, config.features)
            self.register_buffer("content", content, persistent=False)
            # Rows of a plain projection are nested already: coordinate c is made of all inputs.
            self.projection = nn.Linear(content.shape[1], dim)
        if config.ids:
            std = config.item_init_std
            built = build_table(config.table, num_items, dim, init_std=std, sizes=sizes)
            self.table = cast(EmbeddingTable, built)
        self.history_dropout = RowDropout(config.history_dropout)
        self.input_dropout = Dropout(config.encoder.dropout)
        self.layers = nn.ModuleList(
            LRULayer(config.blocks, config.encoder) for _ in range(config.encoder.num_layers)
        )
        self.scales = ScoreScales(config.granularities)

    def rows(self, items: Tensor) -> Tensor:
        """Vectors of item indices: `[...]` int64 -> `[..., D]`."""
        if not self.config.features:
            return self.table(items)
        projected: Tensor = self.projection(self.content[items])
        return projected + self.table(items) if self.config.ids else projected

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        if not self.config.features:
            return self.table.vectors()
        projected: Tensor = self.projection(self.content)
        return projected + self.table.vectors() if self.config.ids else projected

    def encode(self, histories: Histories) -> Tensor:
        """A user vector at every position: `[T, D]`; position t has seen the items up to t."""
        return self._encode(histories, self.rows(to_indices(histories.items, self.device)))

    def _encode(self, histories: Histories, x: Tensor, *, last: bool = False) -> Tensor:
        """As `encode`, from the items' vectors `[T, D]`; `last`: `[B, D]` at the last items."""
        layout = layout_of(histories, self.device)
        x = self.history_dropout(x)
        x = self.input_dropout(x)
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, layout, last=last and number == len(self.layers))
        return x

    def loss(self, batch: Batch, negatives: Negatives | None) -> NestedLossOutput:
        """The objective of the next item, at every position and granularity."""
        targets = to_indices(batch.targets, self.device)
        read = to_indices(batch.histories.items, self.device)
        if negatives is None:
            items = self.item_vectors()
            inputs = nn.functional.embedding(read, items)
        else:
            rows = self.rows(torch.cat([read, negatives.items, targets]))
            inputs, items = rows[: len(read)], rows[len(read) :]
        users = self._encode(batch.histories, inputs)
        return self.objective(
            users, items, targets, self.scales(), self.granularities, negatives=negatives
        )

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]` from the most recent `history_length` interactions of non-empty histories."""
        recent = histories.last(self.config.history_length)
        inputs = self.rows(to_indices(recent.items, self.device))
        return self._encode(recent, inputs, last=True)

    def user_tower(self) -> nn.Module:
        """The recurrence over padded rows, in real numbers."""
        return PaddedRecurrence(self.layers, self.config.history_length)


def join_features(features: ItemFeatures | None, names: tuple[str, ...]) -> Tensor:
    """`[N, F]` float32: vectors of the features side by side, each of length 1, zeros where absent.

    Raises:
        DataError: one is absent, or holds no vectors.
    """
    found = {} if features is None else features.vectors
    for name in names:
        if name not in found:
            raise DataError(
                f"fmrlrec reads the feature {name!r} as vectors; the given features are "
                f"{', '.join(sorted(found)) or 'none'}: make it with `recsys encode` or "
                "`recsys attach`, or name others in model.features"
            )
    parts = [torch.from_numpy(found[name].vectors.astype("float32")) for name in names]
    return torch.cat([nn.functional.normalize(part, dim=1) for part in parts], dim=1)
