"""Buffers that stay in the host's memory when their module moves to a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import nn


class HostBuffers(nn.Module):
    """A module whose buffers `on_host` are read and written by the host at every step."""

    on_host: ClassVar[tuple[str, ...]] = ()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> HostBuffers:
        order = list(self._buffers)
        kept = {name: self._buffers.pop(name) for name in self.on_host}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        moved = kept | self._buffers
        self._buffers.clear()
        self._buffers.update({name: moved[name] for name in order})
        return self
