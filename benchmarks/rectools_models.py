"""Models that recsys and RecTools have both, and the settings of each side.

One `Pair` holds what is equal; both sides are written from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsys.data.splitting import Split
from recsys.evaluation.protocol import Protocol, find_protocol

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
EMBEDDING_DIM = 256
NUM_HEADS = 1
DROPOUT = 0.2
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Pair:
    """A model that both libraries have, and settings that both get."""

    kind: str
    """RecTools' class."""
    config: str
    """A file of configs/, for what is ours alone."""
    protocol_name: str
    num_layers: int
    history_length: int
    batch_tokens: int
    """Targets of a batch, about."""
    negatives: int | None
    """Of the sampled softmax; None: all items."""
    scale: float | None = None
    """Of cosines, in training (ours learns it from there); None: each library's own scores."""

    @property
    def protocol(self) -> Protocol:
        """By which both are measured; a protocol of request times tells them to both."""
        return find_protocol(self.protocol_name)

    def batch_users(self, split: Split) -> int:
        """Users that have `batch_tokens` targets between them, about: RecTools counts users."""
        targets = np.minimum(split.train_end - split.start - 1, self.history_length)
        return max(1, round(self.batch_tokens / float(targets[targets > 0].mean())))

    def ours(self, sizes: Sequence[int]) -> list[str]:
        """Overrides of `config`; no part of them is learned from the data."""
        loss = "name: softmax"
        if self.negatives is not None:
            loss = f"name: sampled_softmax, negatives: {{uniform: {self.negatives}}}"
        scale = [] if self.scale is None else [f"model.granularities.initial_scale={self.scale}"]
        return [
            f"protocol={self.protocol.name}",
            f"model.granularities.sizes={list(sizes)}",
            *scale,
            f"model.history_length={self.history_length}",
            "model.history_dropout=0",
            f"model.encoder.num_layers={self.num_layers}",
            f"model.encoder.num_heads={NUM_HEADS}",
            f"model.encoder.dropout={DROPOUT}",
            f"loss={{{loss}, distillation: 0, focus: 0}}",
            f"batching.batch_tokens={self.batch_tokens}",
            "trainer.optimizer="
            f"{{learning_rate: {LEARNING_RATE}, warmup_steps: 0, schedule: constant}}",
        ]

    def theirs(self, split: Split, epochs: int) -> dict[str, Any]:
        """Arguments of RecTools' class."""
        sampled = {"loss": "sampled_softmax", "n_negatives": self.negatives}
        scale = None if self.scale is None else {"logits_t": 1 / self.scale}
        return {
            "n_factors": EMBEDDING_DIM,
            "n_blocks": self.num_layers,
            "n_heads": NUM_HEADS,
            "session_max_len": self.history_length,
            "dropout_rate": DROPOUT,
            **({"loss": "softmax"} if self.negatives is None else sampled),
            **({} if scale is None else {"lightning_module_kwargs": scale}),
            "lr": LEARNING_RATE,
            "batch_size": self.batch_users(split),
            "epochs": epochs,
        }


PAIRS = {
    "sasrec": Pair(
        kind="SASRecModel",
        config="beauty_sasrec.yaml",
        protocol_name="s3rec",
        num_layers=1,
        history_length=50,
        batch_tokens=768,
        negatives=256,
    ),
    # All items, as RecTools' HSTUModel has it unless it is told otherwise. The scale is that of the
    # authors and of RecTools' tutorial (logits_t 0.05): at its default of 1 cosines hardly learn.
    "hstu": Pair(
        kind="HSTUModel",
        config="ml100k_hstu.yaml",
        protocol_name="request-time",
        num_layers=2,
        history_length=100,
        batch_tokens=1024,
        negatives=None,
        scale=20.0,
    ),
}
