"""Fitted networks as ONNX: one file for each width, which holds that width's weights alone.

Shape legend: R rows.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from recsys.arrays import Arrays
from recsys.errors import RunError
from recsys.extras import require
from recsys.files.onnx_sessions import open_session
from recsys.rankers.examples import Examples
from recsys.rankers.layers.inputs import Batch
from recsys.rankers.neural.batches import Batches

_ROWS = 8
_CLOSE = 1e-3
_AXES = {
    "numbers": {0: "rows"},
    "fields": {0: "rows"},
    "items": {0: "rows"},
    "owners": {0: "rows"},
    "history": {0: "requests", 1: "length"},
}


class _AtShare(nn.Module):
    """A network at one width, with its inputs by position."""

    def __init__(self, network: Any, share: float) -> None:
        super().__init__()
        self.network, self.share = network, share

    def forward(self, *inputs: Tensor) -> Tensor:
        """`[R]` scores."""
        found: Tensor = self.network(
            Batch(**dict(zip(self.network.reads, inputs, strict=True))), self.share
        )
        return found


def sample(examples: Examples, reads: tuple[str, ...], longest: int) -> Arrays:
    """Inputs of some rows, of several requests where there are."""
    rows = np.linspace(0, int(examples.offsets[-1]) - 1, _ROWS).astype(np.int64)
    return Batches(examples, reads, longest).arrays(rows)


def multiply_adds(network: Any, share: float, arrays: Arrays) -> float:
    """Multiply-adds of matrix products for one row, at a share of the width."""
    tensors = Batch(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(tensors, share)
    return counter.get_total_flops() / 2 / _ROWS


def to_onnx(network: Any, share: float, arrays: Arrays) -> bytes:
    """The network at a share of its width, checked against torch on `arrays`.

    Raises:
        InstallationError: onnx, onnxscript or onnxruntime is missing.
        RunError: what was exported scores otherwise than the network.
    """
    require("export", purpose="keeping a fitted neural ranker")
    inputs = tuple(torch.from_numpy(array) for array in arrays.values())
    dims = {name: torch.export.Dim(name) for name in ("rows", "requests", "length")}
    shapes = tuple({at: dims[axis] for at, axis in _AXES[name].items()} for name in arrays)
    wrapped = _AtShare(network, share).eval()
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # About the exporter's own internals; the check below is what matters.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                wrapped,
                inputs,
                input_names=list(arrays),
                output_names=["scores"],
                dynamic_shapes=(shapes,),
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None  # only without dynamo
    model = program.model_proto.SerializeToString()
    with torch.no_grad():
        wanted = wrapped(*inputs).numpy()
    found = open_session(model, threads=1).run(None, dict(arrays))[0]
    if not np.allclose(found, wanted, atol=_CLOSE, rtol=_CLOSE):
        worst = float(np.abs(found - wanted).max())
        raise RunError(
            f"the exported network scores by up to {worst:.2g} otherwise than it did in training; "
            "try another version of onnxscript or onnxruntime (`recsys doctor`)"
        )
    return bytes(model)
