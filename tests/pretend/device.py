"""The pretend device: tensors that hold CPU tensors, compute like them, and do not mix with them.

`pretend` takes the place that torch keeps for devices from outside (PrivateUse1). A tensor on it is
a wrapper whose operations run on the CPU tensor inside, so figures are those of the CPU, random
numbers too. As on a real accelerator an operation on tensors of two devices is an error, `numpy()`
is refused, and what makes the host wait for the device can be counted.

Not like a real one: everything is done at once, memory has no end, and an index on the CPU is
refused too where CUDA would copy it in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "pretend"
_aten = torch.ops.aten
_COPIES = {_aten.copy_.default, _aten._to_copy.default, _aten._copy_from.default}
"""What may have tensors of both devices."""
_AT_ONCE = {
    _aten._conj.default: _aten.conj_physical.default,
    _aten._neg_view.default: _aten.neg.default,
}
"""Views that mark a tensor: the mark would not be seen where the tensor inside is computed with."""
_WAITS = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "unique_consecutive",
          "masked_select", "equal", "_coalesce"}  # fmt: skip
"""Operations whose result, or its size, the host waits for."""
_waits: list[str] = []


class PretendTensor(torch.Tensor):
    """A tensor of the pretend device; `held` is the CPU tensor inside."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> PretendTensor:
        """Wraps a CPU tensor, which is then nobody else's."""
        dense = held.layout is torch.strided
        made: PretendTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride() if dense else None,
            storage_offset=held.storage_offset() if dense else None,
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"{self.held!r} on {NAME}"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})


def _run(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on the CPU tensors inside, and its results wrapped."""
    op = _AT_ONCE.get(op, op)
    tensors: list[torch.Tensor] = []

    def held(tensor: torch.Tensor) -> torch.Tensor:
        tensors.append(tensor)
        return tensor.held if isinstance(tensor, PretendTensor) else tensor

    inside_args, inside = _mapped(held, args), _mapped(held, kwargs)
    _note_wait(op, args, kwargs)
    if op not in _COPIES:
        _refuse_mixed(op, tensors)
    wanted = kwargs.get("device")
    to_cpu = wanted is not None and torch.device(wanted).type != NAME
    wrappers = {id(t.held): t for t in tensors if isinstance(t, PretendTensor)}
    # A view of what is no inference tensor is none either.
    inference = torch.is_inference_mode_enabled() and all(t.is_inference() for t in tensors)
    if wanted is not None:
        inside["device"] = torch.device("cpu")
    result = op(*inside_args, **inside)
    if op is _aten.copy_.default and not isinstance(args[0], PretendTensor):
        return args[0]
    if to_cpu:
        alone = isinstance(result, torch.Tensor) and id(result) in wrappers
        return result.clone() if alone else result

    def wrap(tensor: torch.Tensor) -> torch.Tensor:
        same = wrappers.get(id(tensor))  # in place: the same again
        if same is not None:
            return same
        with torch.inference_mode(inference):
            return PretendTensor(tensor)

    return _mapped(wrap, result)


def _mapped(change: Any, given: Any) -> Any:
    """The same with every tensor in it changed; of lists, tuples and mappings alone, which is many
    times as fast as torch's trees.
    """
    if isinstance(given, torch.Tensor):
        return change(given)
    if type(given) in (list, tuple):
        return type(given)([_mapped(change, each) for each in given])
    if type(given) is dict:
        return {name: _mapped(change, each) for name, each in given.items()}
    return given


def _refuse_mixed(op: Any, tensors: list[torch.Tensor]) -> None:
    here = any(isinstance(tensor, PretendTensor) for tensor in tensors)
    for tensor in tensors:
        if here and not isinstance(tensor, PretendTensor) and tensor.dim():
            raise RuntimeError(
                f"{op}: expected all tensors to be on {NAME}:0, found one of shape "
                f"{tuple(tensor.shape)} and {tensor.dtype} on {tensor.device}"
            )


def _note_wait(op: Any, args: Any, kwargs: dict[str, Any]) -> None:
    name = op._schema.name.removeprefix("aten::")
    masks = name in ("index", "index_put_", "index_put") and any(
        index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
    )
    out = op is _aten.copy_.default and not isinstance(args[0], PretendTensor)
    device = kwargs.get("device")
    out |= name == "_to_copy" and device is not None and torch.device(device).type != NAME
    counted = name == "repeat_interleave" and kwargs.get("output_size") is None
    if name in _WAITS or masks or out or counted:
        _waits.append(name)


@contextmanager
def waits() -> Iterator[list[str]]:
    """Gathers the names of operations that make the host wait for the device."""
    before = list(_waits)
    _waits.clear()
    found: list[str] = []
    try:
        yield found
    finally:
        found.extend(_waits)
        _waits[:] = before


class _Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return 1 << 30, 1 << 31

    def synchronize(self, device: Any = None) -> None:
        """Everything is done at once."""


def _factory(op: Any) -> Any:
    def make(*args: Any, **kwargs: Any) -> torch.Tensor:
        kwargs.pop("pin_memory", None)
        return PretendTensor(op(*args, **{**kwargs, "device": torch.device("cpu")}))

    return make


def _copy_from(source: torch.Tensor, target: torch.Tensor, *_: Any) -> torch.Tensor:
    held = source.held if isinstance(source, PretendTensor) else source
    target.held.copy_(held)  # type: ignore[attr-defined]
    return target


_FACTORIES = (
    _aten.empty.memory_format,
    _aten.empty_strided.default,
    _aten.arange.default,
    _aten.arange.start,
    _aten.arange.start_step,
    _aten.eye.default,
    _aten.eye.m,
    _aten.linspace.default,
    _aten.randperm.default,
    _aten.randperm.generator,
)
_library: Any = None
_rest: Any = None


_IN_BF16 = (
    _aten.mm.default,
    _aten.bmm.default,
    _aten.addmm.default,
    _aten.baddbmm.default,
    _aten.scaled_dot_product_attention.default,
)
"""What autocast computes in bfloat16, as a GPU does."""


def _autocast(op: Any) -> Any:
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def run(*args: Any, **kwargs: Any) -> Any:
        def rounded(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.bfloat16() if tensor.dtype == torch.float32 else tensor

        args, kwargs = _mapped(rounded, args), _mapped(rounded, kwargs)
        with torch._C._ExcludeDispatchKeyGuard(key):
            return op(*args, **kwargs)

    return run


def install() -> torch.device:
    """Makes the device known to torch, once a process; returns it."""
    global _library, _rest
    if _library is None:
        _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
        _library = torch.library.Library("aten", "IMPL")
        for op in _FACTORIES:
            name = op._schema.name.removeprefix("aten::")
            overload = op._overloadname
            full = name if overload == "default" else f"{name}.{overload}"
            _library.impl(full, _factory(op), "PrivateUse1")
        _rest = torch.library.Library("_", "IMPL")
        _rest.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
        for op in _IN_BF16:
            name = op._schema.name.removeprefix("aten::")
            _library.impl(name, _autocast(op), "AutocastPrivateUse1")
        # `torch.tensor(..., device=...)` copies where Python's own dispatch is switched off.
        _library.impl("_copy_from", _copy_from, "PrivateUse1")
    return torch.device(NAME, 0)
