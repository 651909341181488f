"""Writing of torch tensors as safetensors, block by block.

safetensors' own writer makes a copy of all of them first; its reader maps the file and is used as
it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from recsys.files.safetensors_layout import lay_out

_BLOCK = 1 << 24
_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, after_block: Callable[[], None] | None = None
) -> None:
    """Writes a safetensors file; call it on a temporary path (`recsys.files.atomic.atomic_path`).

    Args:
        path: the file.
        tensors: on any device; of the same name as they shall be read by.
        after_block: called after every 16 MiB.
    """
    layout = lay_out(
        {name: (_CODES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()}
    )
    with path.open("wb") as stream:
        stream.write(layout.head)
        for name in layout.names:
            for block in _blocks(tensors[name].detach()):
                stream.write(block.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
                if after_block is not None:
                    after_block()


def _blocks(tensor: Tensor) -> Iterator[Tensor]:
    """Parts in the order of the file; of a tensor that lies in pieces, only a part is copied."""
    if not tensor.numel():
        return iter(())
    if tensor.is_contiguous():
        tensor = tensor.view(-1)
    row_bytes = tensor.element_size() * tensor.numel() // len(tensor)
    return iter(tensor.split(max(1, _BLOCK // row_bytes)))
