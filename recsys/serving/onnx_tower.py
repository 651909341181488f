"""The user tower as ONNX: the trained encoder over padded rows of item vectors.

The network takes vectors, not item indices: at serving they come from the bundle's own tiers, so
the item table is not stored a second time inside the ONNX file.

Shape legend: B users, L longest history, D embedding_dim.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from recsys.errors import InstallationError
from recsys.models.fmrlrec import FMRLRec
from recsys.models.sasrec import SASRec
from recsys.serving.onnx_recurrence import PaddedRecurrence


@dataclass(frozen=True)
class _Grid:
    """Stands in for a JaggedLayout where every cell of the padded grid is a token.

    Cells behind the end of a history hold nonsense; attention is causal, so nobody reads it.
    """

    num_rows: int | torch.SymInt
    longest: int | torch.SymInt

    def pad(self, packed: Tensor) -> Tensor:
        return packed.view(self.num_rows, self.longest, *packed.shape[1:])

    def pack(self, padded: Tensor) -> Tensor:
        return padded.flatten(0, 1)


class PaddedTower(nn.Module):
    """`vectors [B, L, D]`, `lengths [B]` -> users `[B, D]`, with the model's own weights."""

    def __init__(self, model: SASRec) -> None:
        super().__init__()
        self.from_start = model.config.positions == "from_start"
        self.position = None if model.config.positions == "none" else model.position
        self.input_norm, self.encoder = model.input_norm, model.encoder

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        num_rows, longest, dim = vectors.shape
        if self.position is not None:
            steps = torch.arange(longest)
            backwards = (lengths[:, None] - 1 - steps).clamp_min(0)
            vectors = vectors + self.position(steps if self.from_start else backwards)
        tokens = self.input_norm(vectors).flatten(0, 1)
        encoded = self.encoder(tokens, _Grid(num_rows, longest)).view(num_rows, longest, dim)
        last = (lengths - 1)[:, None, None].expand(num_rows, 1, dim)
        users: Tensor = encoded.gather(1, last).squeeze(1)
        return users


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


def write_onnx(model: SASRec | FMRLRec, path: Path) -> None:
    """Writes the user tower of a model in evaluation mode.

    Raises:
        InstallationError: onnx or onnxscript is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InstallationError(
            f"the user tower is exported with {error.name}, which is missing; "
            "pip install 'recsys[export]', or export without it (--no-tower)"
        ) from error
    tower = PaddedTower(model) if isinstance(model, SASRec) else PaddedRecurrence(model)
    dim, longest = model.granularities.embedding_dim, model.config.history_length
    example = (torch.zeros(3, min(4, longest), dim), torch.tensor([1, 2, 3]).clamp(max=longest))
    batch = torch.export.Dim("batch")
    rows = {0: batch}
    if longest > 1:
        rows[1] = torch.export.Dim("length", min=1, max=longest)
    with warnings.catch_warnings(), _quiet("torch.onnx"):
        # About the exporter's own internals; what matters is the parity check that follows.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            tower.eval(),
            example,
            input_names=["vectors", "lengths"],
            output_names=["users"],
            dynamic_shapes=(rows, {0: batch}),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # only without dynamo
    program.save(path, external_data=False)
