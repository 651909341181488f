"""Precision of a training step: which products are taken in bfloat16, and what stays in float32.

In bfloat16 a forward pass multiplies matrices (linear layers, attention) in half the bytes. Losses
add up small numbers by the thousand, so they are taken out of it: their vectors become float32, and
whatever they multiply in bfloat16 they add up in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

Precision = Literal["float32", "bf16"]
_LOW = (torch.bfloat16, torch.float16)
_products: ContextVar[bool] = ContextVar("products in bfloat16", default=False)

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def forward_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """What is computed inside multiplies matrices at that precision; weights stay in float32."""
    if precision == "float32":
        yield
        return
    with torch.autocast(device.type, torch.bfloat16):
        yield


def products_in_bf16() -> bool:
    """Whether a loss, called inside `forward_in("bf16", ...)`, may multiply in bfloat16."""
    return _products.get()


def raised(vectors: Tensor) -> Tensor:
    """In float32, if they are of half that; others as they are."""
    return vectors.float() if vectors.dtype in _LOW else vectors


def sums_in_float32(loss: Callable[P, R]) -> Callable[P, R]:
    """For a function of vectors: it gets them in float32, and autocast leaves it alone."""

    @wraps(loss)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        given: Any = (*args, *kwargs.values())
        kind = next(x.device.type for x in given if isinstance(x, Tensor))
        if not torch.is_autocast_enabled(kind):
            return loss(*args, **kwargs)
        inside: Any = [raised(x) if isinstance(x, Tensor) else x for x in given]
        named = dict(zip(kwargs, inside[len(args) :], strict=True))
        token = _products.set(True)
        try:
            with torch.autocast(kind, enabled=False):
                return loss(*inside[: len(args)], **named)
        finally:
            _products.reset(token)

    return run
