"""Compiles Triton's kernels for NVIDIA GPUs on a machine without one; prints JSON.

python -m tests.losses.compiled_for_gpus 8,16,32,64,128,256 80,90 bf16,float32

Run as a process of its own (`test_fused.py`): the interpreter must be off.
"""

import json
import sys
import time

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from recsys.kernels.gpu import logsumexp as kernels
from recsys.losses.by_kernels.fused_logsumexp import STEP, Tiles, chunks_of, launch

GPUS = {80: 166_912, 90: 232_448}
"""Compute capability -> bytes of shared memory that one program may take (CUDA's programming
guide, technical specifications)."""
FLOATS = {
    "sums": ("row_scale", "col_scale", "bias", "peaks", "sums", "means"),
    "gradients": (
        *("own_grad", "scale_grad", "row_scale", "col_scale", "bias"),
        *("levels", "weights", "pulls"),
    ),
}


def source(kernel, kind, vectors, constants):
    """A kernel with the types of its arguments."""
    told = dict.fromkeys(FLOATS[kind], "*fp32")
    told |= dict.fromkeys(vectors, "*bf16" if constants.pop("BF16") else "*fp32")
    told["skip"] = "*i64"
    signature = {
        name: "constexpr" if name in constants else told.get(name, "i32")
        for name in kernel.arg_names
    }
    return ASTSource(kernel, signature, constants)


def sources(sizes, bf16):
    """The three kernels, by name, with the options that they are started with."""
    shared = {
        **chunks_of(sizes), "NUM_SIZES": len(sizes), "MEANS": True, "PRECISION": "tf32x3",
        "BF16": bf16, "STEP": STEP,
    }  # fmt: skip
    tiles = Tiles.of(sizes[-1], bf16=bf16)
    (rows, columns), (own, other) = tiles.sums, tiles.gradients
    of_sums = {**shared, "ROWS": rows, "COLUMNS": columns}
    yield "sums", source(kernels.sum_exponentials, "sums", ("users", "items"), of_sums)
    for side in ("tokens", "items"):
        of_side = {**shared, "OF_TOKENS": side == "tokens", "OWN": own, "OTHER": other}
        made = source(kernels.add_gradients, "gradients", ("own", "other"), of_side)
        yield f"gradients of {side}", made


def main(sizes, gpus, precisions):
    """Compiles for every GPU in every precision."""
    told = {}
    for bf16 in [precision == "bf16" for precision in precisions]:
        for name, kernel in sources(sizes, bf16):
            for capability in gpus:
                options = launch(bf16=bf16)
                target = GPUTarget("cuda", capability, 32)
                began = time.monotonic()
                compiled = triton.compile(kernel, target=target, options=options)
                what = f"{name}, {'bf16' if bf16 else 'float32'}, sm_{capability}"
                told[what] = {
                    "cubin": len(compiled.asm["cubin"]),
                    "shared": compiled.metadata.shared,
                    "most": GPUS[capability],
                }
                print(what, told[what], f"{time.monotonic() - began:.0f} s", flush=True)
    print(json.dumps(told))


if __name__ == "__main__":
    numbers = (tuple(map(int, word.split(","))) for word in sys.argv[1:3])
    main(*numbers, sys.argv[3].split(","))
