"""Export of the user tower as ONNX.

The network takes vectors, not item indices: at serving they come from the bundle's own tiers, so
the item table is not stored a second time inside the ONNX file.

Shape legend: B users, L longest history, D embedding_dim.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from recsys.extras import require
from recsys.serving.user_tower import time_inputs


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Lets a logger and those below it speak of errors alone."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def write_onnx(
    tower: nn.Module, path: Path, *, dim: int, longest: int, reads_time: str = "none"
) -> None:
    """Writes the user tower of a model in evaluation mode.

    Args:
        tower: `Model.user_tower` of the model.
        path: the ONNX file.
        dim: D.
        longest: L at most.
        reads_time: none; history: there is an input `timestamps`; request: `asked_at` too.

    Raises:
        InstallationError: onnx or onnxscript is missing.
    """
    require("export", purpose="writing the user tower (--no-tower leaves it out)")
    length = min(4, longest)
    example = [torch.zeros(3, length, dim), torch.tensor([1, 2, 3]).clamp(max=longest)]
    batch = torch.export.Dim("batch")
    rows = {0: batch}
    if longest > 1:
        rows[1] = torch.export.Dim("length", min=1, max=longest)
    shapes = [rows, {0: batch}]
    if reads_time != "none":
        example.append(torch.arange(3 * length).view(3, length))
        shapes.append(rows)
    if reads_time == "request":
        example.append(torch.arange(3) + 100)
        shapes.append({0: batch})
    with warnings.catch_warnings(), _quiet("torch.onnx"):
        # About the exporter's own internals; what matters is the parity check that follows.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            tower.eval(),
            tuple(example),
            input_names=["vectors", "lengths", *time_inputs(reads_time)],
            output_names=["users"],
            dynamic_shapes=tuple(shapes),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # only without dynamo
    program.save(path, external_data=False)
