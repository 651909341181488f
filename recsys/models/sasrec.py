"""SASRec on nested vectors: a causal transformer over item vectors.

Kang and McAuley, Self-Attentive Sequential Recommendation, ICDM 2018, with softmax losses
(Klenitskiy and Vasilev, RecSys 2023) and, with `layer: ligr`, eSASRec (Tikhonovich et al. 2025).
The output weights are the input table (MRL-E of Kusupati et al. 2022).

With `time: request` (or history) attention scores have a bias by the time between two interactions,
as HSTU has (Zhai et al., ICML 2024), and each interaction a vector by the time to the next request.

Departures from the paper: packed tokens instead of padding; a LayerNorm on the input embedding,
without which a table of small initial values is drowned by what attention adds; and, with
`history_mean`, the mean of recent items is added to what attention finds (`layers.histories.mean`).

Shape legend: B users, T tokens, N items, D embedding_dim.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.layers.dropout import Dropout
from recsys.layers.histories.mean import HistoryMean
from recsys.layers.nested import blocks_from, check_blocks, norm
from recsys.layers.padded_transformer import PaddedTransformer
from recsys.layers.transformer import Transformer, TransformerConfig
from recsys.losses.softmax import NestedLossOutput, nested_softmax
from recsys.models.next_item import NextItemConfig, NextItemModel


class SASRecConfig(NextItemConfig):
    """Options of SASRec and eSASRec. The defaults were chosen on validation data."""

    name: Literal["sasrec"] = "sasrec"
    usual: ClassVar[Mapping[str, Any]] = {
        **NextItemConfig.usual,
        "trainer": {"histories": 450_000},
    }
    """The second was chosen on the validation parts of Beauty, Games and MovieTweetings."""
    encoder: TransformerConfig = TransformerConfig()
    positions: Literal["from_start", "from_end", "none"] = "from_end"
    """Learned position vectors, counted from the oldest or from the most recent interaction."""
    input_norm: bool = True
    """LayerNorm on the sum of item and position vectors."""
    history_mean: int = Field(default=20, ge=0)
    """Most recent items whose mean, with learned weights on its coordinates, is added to user
    vectors: what a user has liked all along, where attention tells what comes next. 0: none is."""

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


class SASRec(NextItemModel):
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
        super().__init__(config, num_items, features, objective)
        dim = config.granularities.embedding_dim
        self.position = nn.Embedding(config.history_length, dim)
        nn.init.normal_(self.position.weight, std=config.item_init_std)
        sizes, nested = config.blocks, config.encoder.nested
        self.input_norm = norm(sizes, nested=nested) if config.input_norm else nn.Identity()
        self.input_dropout = Dropout(config.encoder.dropout)
        self.encoder = Transformer(sizes, config.encoder, timed=config.time != "none")
        window = config.history_mean
        self.mean = HistoryMean(window, sizes, nested=nested) if window else None
        self._add_scores()

    def _encode(self, histories: Histories, x: Tensor, *, last: bool = False) -> Tensor:
        layout = self._layout(histories)
        x = self.history_dropout(x)
        mean = None if self.mean is None else self.mean(x, layout, last=last)
        x = self._with_gaps(x, layout)
        if self.config.positions != "none":
            from_start = self.config.positions == "from_start"
            x = x + self.position(layout.positions if from_start else layout.from_end)
        users: Tensor = self.encoder(self.input_dropout(self.input_norm(x)), layout, last=last)
        return users if mean is None else users + mean

    def user_tower(self) -> nn.Module:
        """The encoder over padded rows."""
        position = None if self.config.positions == "none" else self.position
        return PaddedTransformer(
            position,
            self.input_norm,
            self.encoder,
            from_start=self.config.positions == "from_start",
            gaps=self.gaps,
            mean=self.mean,
        )
