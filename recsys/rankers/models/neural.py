"""Neural rankers: the options that all have, and how they are fitted and opened.

A config is read without torch; the network of its name comes from `recsys/rankers/networks` when it
is fitted, and a fitted one scores by onnxruntime.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from recsys.extras import require
from recsys.rankers.base import Ranker, RankerConfig
from recsys.rankers.examples import Examples, Schema
from recsys.rankers.neural.onnx_ranker import (
    OnnxRanker,
    RankerManifest,
    Width,
    described,
    load_onnx_ranker,
)
from recsys.rankers.neural.options import InputOptions, TrainingOptions, Widths


class NeuralConfig(RankerConfig):
    """A ranker that is a network; subclasses name it and add their own options."""

    network: ClassVar[str]
    """`module:Class` of the network, which is built as `Class(features, config)`."""

    inputs: InputOptions = InputOptions()
    training: TrainingOptions = TrainingOptions()
    widths: Widths = Widths()
    history_length: int = Field(default=50, ge=1)
    """Last items of a history that are read, by a network that reads histories."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of hidden units."""
    norm: bool = False
    """LayerNorm in hidden layers."""

    def build(self, features: Any) -> Any:
        """An untrained network (features: `recsys.rankers.networks.base.Features`)."""
        module, _, name = self.network.partition(":")
        return getattr(import_module(module), name)(features, self)

    def check_installed(self) -> None:
        """Raises InstallationError where torch, onnx or onnxruntime is missing."""
        require("export", purpose="fitting a neural ranker")

    def fit(self, schema: Schema, train: Examples, validation: Examples, seed: int) -> Ranker:
        """Trains the network, keeps the weights that were best on `validation`, exports them.

        Raises:
            InstallationError: torch, onnx or onnxruntime is missing.
            DataError, ConfigError: see `recsys.rankers.neural.fitting.fit_network`.
        """
        self.check_installed()
        # By name: what reads configs and scores needs no torch.
        fitting = import_module("recsys.rankers.neural.fitting")
        exporting = import_module("recsys.rankers.neural.exporting")
        network = fitting.fit_network(self, schema, train, validation, seed)
        arrays = exporting.sample(validation, network.reads, self.history_length)
        widths, models = [], {}
        for share in self.widths.shares:
            models[share] = exporting.to_onnx(network, share, arrays)
            adds = exporting.multiply_adds(network, share, arrays)
            widths.append(Width(share=share, file=f"width_{share:g}.onnx", multiply_adds=adds))
        served = self.widths.served or 1.0
        manifest = RankerManifest(
            name=self.name,
            loss=self.training.loss,
            reads=network.reads,
            history_length=self.history_length,
            widths=tuple(widths),
            served=served,
            **described(schema),
        )
        return OnnxRanker(schema, manifest, models, served)

    @classmethod
    def load(cls, folder: Path, schema: Schema) -> Ranker:
        """Opens what `Ranker.save` wrote; needs no torch.

        Raises:
            RunError: there is no such ranker, or a file of it is missing.
            DataError: it was fitted on other features.
        """
        return load_onnx_ranker(folder, schema)
