"""Trained models: one paper, one file, one line here."""

from recsys.models.sasrec import SASRec, SASRecConfig

__all__ = ["MODELS", "ModelConfig", "SASRec", "SASRecConfig"]

MODELS = {"sasrec": (SASRecConfig, SASRec)}
"""name -> (config, module). A module is built from its config and the number of items."""

ModelConfig = SASRecConfig
"""The union of all model configs; `name` tells them apart."""
