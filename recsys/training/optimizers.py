"""AdamW with a warm-up and a schedule that depend on the step alone.

Reference: Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from recsys.config import StrictModel


class OptimizerConfig(StrictModel):
    """AdamW and its schedule."""

    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    """On matrices of the networks."""
    table_weight_decay: float = Field(default=0.0, ge=0)
    """On embedding tables."""
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_steps: int = Field(default=100, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine: down to 5 % of learning_rate at the last epoch."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this L2 norm."""

    def rate(self, step: int, progress: float) -> float:
        """Learning rate of `step` (0-based), `progress` in 0..1 of the planned training."""
        warmed = min(1.0, (step + 1) / (self.warmup_steps + 1))
        shape = 1.0
        if self.schedule == "cosine":
            shape = 0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
        return self.learning_rate * warmed * shape


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over all trainable parameters; vectors (biases, norms, scales) are not decayed."""
    tables: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if "table" in name.split("."):
            tables.append(parameter)
        else:
            (matrices if parameter.ndim > 1 else vectors).append(parameter)
    groups = [
        {"params": tables, "weight_decay": config.table_weight_decay},
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Puts one learning rate into every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
