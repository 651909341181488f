"""AdamW with warm-up and a schedule.

Reference: Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.devices import is_host
from recsys.tables import SelfUpdating, UpdateRule, self_updating
from recsys.tables.row_optimizers import adamw_rows, touched_rows


class OptimizerConfig(StrictModel):
    """Options of AdamW and its schedule."""

    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    """On matrices of the networks."""
    table_weight_decay: float = Field(default=0.0, ge=0)
    """On embedding tables; with sampled negatives on the rows of the step alone."""
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_steps: int = Field(default=100, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
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


class RowAdamW(torch.optim.AdamW):
    """AdamW that updates only the rows used by a step, where a parameter has a sparse gradient.

    Their moments stand still meanwhile (as in the LazyAdam of TensorFlow), so a step costs what
    its batch costs, however large the table is. Dense gradients are torch's own affair.
    """

    table_decay: float = 0.0
    """Weight decay of the tables in `own`."""
    own: tuple[SelfUpdating, ...] = ()
    """Tables that update themselves whenever this optimizer steps."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; `closure` as torch has it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._step_rows(parameter, group)
                    parameter.grad = None
        for table in self.own:
            table.update_rows(_rule_of(self.param_groups[0], self.table_decay))
        super().step()
        return loss

    def _step_rows(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        rows, values = touched_rows(cast(Tensor, parameter.grad))
        adamw_rows(parameter, state, rows, values, _rule_of(group, group["weight_decay"]))


def _rule_of(group: dict[str, Any], weight_decay: float) -> UpdateRule:
    return UpdateRule(group["lr"], group["betas"], weight_decay, group["eps"])


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float | Tensor:
    """Scales all gradients down to `max_norm` (L2, of all together); returns what it was.

    Unlike torch's own, it takes sparse gradients. On a device the norm stays there.
    """
    values = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            values.append(parameter.grad.values())
        elif parameter.grad is not None:
            values.append(parameter.grad)
    if not values:
        return 0.0
    found: Tensor = torch.stack([value.norm() for value in values]).norm()
    if not is_host(found.device):
        torch._foreach_mul_(values, (max_norm / found).clamp_max(1.0))
        return found
    norm = float(found)
    if max_norm < norm < math.inf:
        for value in values:
            value.mul_(max_norm / norm)
    return norm


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> RowAdamW:
    """AdamW over all trainable parameters; vectors (biases, norms, scales) are not decayed;
    biases by distance, one row a head, are.

    Tables that update themselves do so on the optimizer's step, by its rate.
    """
    own = [table for _, table in self_updating(model)]
    taken = {id(parameter) for table in own for parameter in table.parameters()}
    tables: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if id(parameter) in taken:
            continue
        if any(part.endswith("table") for part in name.split(".")):
            tables.append(parameter)
        else:
            (matrices if parameter.ndim > 1 else vectors).append(parameter)
    groups = [
        {"params": tables, "weight_decay": config.table_weight_decay},
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = RowAdamW(
        [group for group in groups if group["params"]] or [{"params": []}],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )
    optimizer.own = tuple(cast(SelfUpdating, table) for table in own)
    optimizer.table_decay = config.table_weight_decay
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Puts one learning rate into every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
