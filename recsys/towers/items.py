"""The item tower: nested item vectors from ids and features.

    model.items = {"features": ["text", "categories"]}

A table gives every item a row of its own; texts, pictures, categories and numbers give rows to all
items that have them, also to those nobody has ever had. The tower stands where a table stands: the
model looks items up in it, reads them and scores by them. What is looked up is encoded once per
step, the rest of the catalogue not at all.

Coordinate j of the result depends on coordinates up to j's granularity of each part, so prefixes
are nested through and through, and parameters can be cut.

In training whole modalities of an item are left out at random, ids among them (Volkovs et al.,
DropoutNet, NeurIPS 2017): what is missing later has been missing before. Items without a training
row have no id at all (`trained`); they are nobody's negatives, or having no id would come to mean
never being chosen.

Shape legend: N items, U items looked up, M modalities (the id is the first), D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal, cast

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.data.features.loading import ItemFeatures
from recsys.devices import free_memory, is_host, on_device
from recsys.errors import ConfigError
from recsys.granularity import Granularities
from recsys.tables import EmbeddingTable
from recsys.tables.plain.lookup import distinct
from recsys.towers.fusion import GatedSum, Projection
from recsys.towers.modalities import (
    CategoryModality,
    Modality,
    NumberModality,
    VectorModality,
)

IDS = "ids"
"""The name of the id among the modalities."""
_BLOCK = 1 << 13
_HELD = 0.25
"""The part of a device's free memory that features may take; larger ones are read by the host."""


def refuse_taken(names: Collection[str]) -> None:
    """Raises ValueError where a feature has a name that its part of a network cannot have."""
    if taken := [name for name in names if name == IDS or hasattr(nn.ModuleDict, name)]:
        raise ValueError(f"{taken[0]!r} is a name that networks keep for themselves; rename it")


class ItemsConfig(StrictModel):
    """The parts of which item vectors are made."""

    features: tuple[str, ...] = Field(min_length=1)
    """Names of features of the data set, as `recsys encode`, `attach` and `columns` leave them."""
    ids: bool = True
    """Every item that training has seen also has a row of its own."""
    fusion: Literal["gated_sum", "projection"] = "gated_sum"
    """gated_sum: a gate for each modality and coordinate, by which modalities are there.
    projection: one linear map of all modalities side by side."""
    modality_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of an item's features that training leaves out, each by itself and whole."""
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the items whose id training leaves out."""
    components: int = Field(default=256, ge=1)
    """Directions of most variance that are read of frozen vectors."""
    whitening: float = Field(default=1.0, ge=0, le=1)
    """How far the variances of these directions are made alike: 1: wholly, which tells items apart
    best; 0: not at all, so what most items differ in weighs most, and new items are like others."""
    bins: int = Field(default=16, ge=1)
    """Parts that the range of a number is divided into."""

    @model_validator(mode="after")
    def _names_differ(self) -> ItemsConfig:
        if len(set(self.features)) != len(self.features):
            raise ValueError(f"a feature is named twice in {self.features}")
        if IDS in self.features:
            raise ValueError(f"{IDS!r} is not a feature; say `ids: true`")
        refuse_taken(self.features)
        return self


class ItemTower(nn.Module):
    """An `EmbeddingTable` whose rows are made from an id table and features."""

    num_rows: int
    embedding_dim: int
    ids: EmbeddingTable | None
    trained: Tensor
    """`[N]` bool: the items that training has seen; the others have no id."""
    _present: Tensor
    _rates: Tensor

    def __init__(
        self,
        config: ItemsConfig,
        table: EmbeddingTable | None,
        features: ItemFeatures,
        granularities: Granularities,
        *,
        init_std: float,
    ) -> None:
        """Args:
        config: what vectors are made of.
        table: the rows of the ids; None exactly if `config.ids` is false.
        features: at least those that the config names.
        granularities: their last is D.
        init_std: standard deviation of the first values.
        """
        super().__init__()
        self.config = config
        self.ids = table
        self.num_rows, self.embedding_dim = features.num_items, granularities.embedding_dim
        dim = self.embedding_dim
        self.modalities = nn.ModuleDict(
            {name: _modality(name, features, dim, config, init_std) for name in config.features}
        )
        self.names = (*((IDS,) if table is not None else ()), *config.features)
        fusion = GatedSum if config.fusion == "gated_sum" else Projection
        self.fusion = fusion(len(self.names), granularities)
        present = [torch.from_numpy(_present(features, name)) for name in config.features]
        self.register_buffer("_present", torch.stack(present, dim=1), persistent=False)
        self.register_buffer("trained", torch.ones(features.num_items, dtype=torch.bool))
        rates = [config.id_dropout] * (table is not None)
        rates += [config.modality_dropout] * len(config.features)
        self.register_buffer("_rates", torch.tensor(rates), persistent=False)
        self._thins = any(rates)
        self._all_trained: bool | None = True
        self._hidden: frozenset[str] = frozenset()

    def forward(self, rows: Tensor, *, size: int | None = None, sparse: bool = False) -> Tensor:
        """`[...]` int64 -> `[..., size]`; each item is encoded once, however often it is named."""
        items, places, _ = distinct(rows)
        return nn.functional.embedding(places, self.encode(items, size=size, sparse=sparse))

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> ItemTower:
        """As of any `nn.Module`; a device takes the features too, if they fit into its memory."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        parts = [cast(Modality, part) for part in self.modalities.values()]
        device = self.trained.device
        fits = sum(part.held_bytes for part in parts) <= _HELD * free_memory(device)
        for part in parts:
            part.hold(device if fits and not is_host(device) else None)
        return self

    def encode(self, items: Tensor, *, size: int | None = None, sparse: bool = False) -> Tensor:
        """`[U]` item indices -> `[U, size]`; None: D."""
        parts = [self.modalities[name](items, size) for name in self.config.features]
        if self.ids is not None:
            parts.insert(0, self.ids(items, size=size, sparse=sparse))
        fused: Tensor = self.fusion(parts, self._thinned(self.present(items)))
        return fused

    def view(self, items: Tensor, shown: Collection[str]) -> Tensor:
        """`[U]` item indices -> `[U, D]`, as if the items had nothing but the modalities `shown`;
        nothing is left out at random.
        """
        nothing = self.fusion.missing.new_zeros(len(items), self.embedding_dim)
        parts = []
        for name in self.names:
            if name not in shown:
                parts.append(nothing)
            elif name == IDS and self.ids is not None:
                parts.append(self.ids(items))
            else:
                parts.append(self.modalities[name](items))
        kept = on_device(np.array([name in shown for name in self.names]), items.device)
        fused: Tensor = self.fusion(parts, self.present(items) & kept)
        return fused

    def nothing(self) -> Tensor:
        """`[D]` the vector of what has no modality at all."""
        missing: Tensor = self.fusion.missing.sum(0)
        return missing

    def vectors(self) -> Tensor:
        """`[N, D]`, encoded block by block."""
        blocks = torch.arange(len(self.trained), device=self.trained.device).split(_BLOCK)
        return torch.cat([self.encode(block) for block in blocks])

    @property
    def nbytes(self) -> int:
        """Bytes of the ids and of the tower; frozen features are mapped from the data set."""
        own = [*self.modalities.state_dict().values(), *self.fusion.state_dict().values()]
        sizes = [tensor.numel() * tensor.element_size() for tensor in own]
        total: int = sum(sizes, start=0 if self.ids is None else self.ids.nbytes)
        return total

    def present(self, items: Tensor) -> Tensor:
        """`[U, M]` bool: which modalities each item has."""
        present = self._present[items]
        if self.ids is not None:
            present = torch.cat([self.trained[items, None], present], dim=1)
        if self._hidden:
            shown = [name not in self._hidden for name in self.names]
            present &= torch.tensor(shown, device=present.device)
        return present

    def _thinned(self, present: Tensor) -> Tensor:
        """What training leaves of `present [U, M]`: of everything an item has, never nothing."""
        if not (self.training and self._thins):
            return present
        kept = present & (torch.rand(present.shape, device=present.device) >= self._rates)
        return torch.where(kept.any(1, keepdim=True), kept, present)

    def note_trained(self, counts: np.ndarray) -> None:
        """Takes the ids from items without a training row, `counts [N]`."""
        self.trained.copy_(torch.from_numpy(counts > 0))
        self._all_trained = None

    @property
    def all_trained(self) -> bool:
        """Whether training has seen every item; read from the device once."""
        if self._all_trained is None:
            self._all_trained = bool(self.trained.all())
        return self._all_trained

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._all_trained = None

    def hide(self, names: Collection[str]) -> None:
        """Goes on without these modalities (`ids` is one), as if no item had them.

        Raises:
            ConfigError: the tower has no such modality.
        """
        if strangers := sorted(set(names) - set(self.names)):
            raise ConfigError(
                f"items are not made of {', '.join(strangers)}; they are made of "
                f"{', '.join(self.names)}"
            )
        self._hidden = frozenset(names)


def _modality(
    name: str, features: ItemFeatures, dim: int, config: ItemsConfig, init_std: float
) -> Modality:
    if name in features.vectors:
        return VectorModality(
            features.vectors[name],
            dim,
            components=config.components,
            strength=config.whitening,
            init_std=init_std,
        )
    if name in features.categories:
        return CategoryModality(features.categories[name], dim, init_std=init_std)
    return NumberModality(features.numbers[name], dim, bins=config.bins, init_std=init_std)


def _present(features: ItemFeatures, name: str) -> np.ndarray:
    kinds = (features.vectors, features.categories, features.numbers)
    return next(np.array(kind[name].present) for kind in kinds if name in kind)
