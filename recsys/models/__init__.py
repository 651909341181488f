"""Trained models: one paper, one file, one line here.

Every module is built as `module(config, num_items, num_users=, features=, objective=)` and has
`granularities`, `loss(batch, negatives)`, `user_vectors(histories)` and `item_vectors()`. Every
config has a `name` of its own, `granularities`, `history_length` and `features`.
"""

from typing import Any

from recsys.models.sasrec import SASRec, SASRecConfig

__all__ = ["MODELS", "Model", "ModelConfig", "SASRec", "SASRecConfig"]

MODELS: dict[str, tuple[Any, Any]] = {"sasrec": (SASRecConfig, SASRec)}
"""name -> (config, module)."""

Model = SASRec
"""The union of all modules."""

ModelConfig = SASRecConfig
"""The union of all model configs; `name` tells them apart, `sasrec` where it is left out."""
