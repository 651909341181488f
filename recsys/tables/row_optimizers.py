"""Row-wise optimizers: updates of the rows used by a step, in place.

The moments of other rows stand still meanwhile (as in the LazyAdam of TensorFlow), so a step costs
what its batch costs. References: Loshchilov and Hutter, ICLR 2019 (AdamW); Duchi et al., JMLR 2011
(Adagrad), with one sum a row as in torchrec's row-wise Adagrad.

Shape legend: N rows of the table, R rows touched, D embedding_dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class UpdateRule:
    """The settings of an update, from the optimizer of the run."""

    rate: float
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    eps: float = 1e-8


def touched_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Rows `[R]`, ascending and unique, and their gradients `[R, D]`; of a dense one: all."""
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        return gradient.indices()[0], gradient.values()
    return torch.arange(len(gradient), device=gradient.device), gradient


def adamw_rows(
    weight: Tensor, state: dict[str, Tensor], rows: Tensor, values: Tensor, rule: UpdateRule
) -> None:
    """AdamW on `weight [N, D]` with `exp_avg`, `exp_avg_sq` `[N, D]` and `step []` in `state`.

    The bias correction goes by the number of steps, not by how often a row was in one.
    """
    state["step"] += 1
    (beta1, beta2), count = rule.betas, _count(state["step"])
    mean = state["exp_avg"][rows].lerp_(values, 1.0 - beta1)
    square = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1.0 - beta2)
    state["exp_avg"].index_copy_(0, rows, mean)
    state["exp_avg_sq"].index_copy_(0, rows, square)
    scale = square.div_(1.0 - beta2**count).sqrt_().add_(rule.eps)
    kept = weight[rows].mul_(1.0 - rule.rate * rule.weight_decay)
    factor = -rule.rate / (1.0 - beta1**count)
    if isinstance(factor, Tensor):
        kept.addcdiv_(mean.mul_(factor), scale)
    else:
        kept.addcdiv_(mean, scale, value=factor)
    weight.index_copy_(0, rows, kept)


def _count(step: Tensor) -> float | Tensor:
    """The number of steps; a tensor stays where it is, as reading it would wait for the device."""
    return float(step) if step.device.type == "cpu" else step


def adagrad_rows(
    weight: Tensor, state: dict[str, Tensor], rows: Tensor, values: Tensor, rule: UpdateRule
) -> None:
    """Row-wise Adagrad on `weight [N, D]` with `sum [N]`, of mean squares, in `state`."""
    sums = state["sum"][rows].add_(values.square().mean(1))
    state["sum"].index_copy_(0, rows, sums)
    kept = weight[rows].mul_(1.0 - rule.rate * rule.weight_decay)
    kept.addcdiv_(values, sums.sqrt_().add_(rule.eps)[:, None], value=-rule.rate)
    weight.index_copy_(0, rows, kept)
