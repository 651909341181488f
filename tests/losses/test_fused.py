"""Triton's kernels: their figures in its interpreter, and that they compile for NVIDIA GPUs.

No GPU is asked for: the interpreter runs on the CPU, and so does the compiler.
"""

import json
import os
import subprocess
import sys

import pytest
import torch

from recsys.losses import logsumexp
from recsys.losses.by_kernels.fused_logsumexp import FusedLogSumExp, Tiles, chunks_of
from recsys.losses.logsumexp import nested_logsumexp
from tests.losses.fused import CASES

pytest.importorskip("triton")


def run(*words, **environment):
    """What a module prints last, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found():
    """The errors of every case, as shares of the largest value."""
    return run("tests.losses.fused", TRITON_INTERPRET="1")


@pytest.mark.parametrize("name", [*CASES, "full", "sampled", "seen"])
def test_values_and_gradients_are_those_of_the_naive_sums(name, found):
    within = dict.fromkeys(found[name], 2e-5)
    if name == "large logits":  # their rounding is as large as they are
        within = dict.fromkeys(found[name], 5e-4)
    if name == "bf16":  # slopes are rounded to eight bits before they are multiplied
        within |= {"users": 1e-2, "items": 1e-2}
    assert {part: gap for part, gap in found[name].items() if gap > within[part]} == {}


def test_bf16_rounds_what_is_multiplied(found):
    assert found["bf16"]["users"] > 1e-5


def test_they_compile_for_a_gpu_within_its_memory():
    told = run("tests.losses.compiled_for_gpus", "16,32", "90", "bf16")
    assert len(told) == 3
    for name, kernel in told.items():
        assert kernel["cubin"] > 0, name
        assert kernel["shared"] <= kernel["most"], name


def test_no_chunk_crosses_the_edge_of_a_granularity():
    chunks = chunks_of((8, 16, 300))
    assert chunks["EDGES"] == (0, 8, 16, 80, 144, 208, 272, 300)
    assert chunks["WIDTHS"] == (16, 16, 64, 64, 64, 64, 32)
    assert chunks["STARTS"] == (0, 1, 2, 7)


def test_tiles_keep_the_gradient_of_any_width_in_registers():
    for dim, own in ((16, 64), (256, 64), (512, 32), (1024, 16)):
        assert Tiles.of(dim, bf16=True).gradients == (own, 64)
    assert Tiles.of(256, bf16=False).gradients == (32, 32)


def test_one_place_chooses_them_and_only_for_float32_on_a_gpu(monkeypatch):
    taken = []
    monkeypatch.setattr(FusedLogSumExp, "apply", lambda *inputs: taken.append(inputs) or inputs)
    monkeypatch.setattr(logsumexp, "is_host", lambda _: False)
    for there, dtype, slices in (
        (True, torch.float32, [(0, 8)]),
        (False, torch.float32, [(0, 8)]),
        (True, torch.float64, [(0, 8)]),
        (True, torch.float32, [(0, 4)]),  # of longer vectors
    ):
        monkeypatch.setattr(
            "recsys.losses.by_kernels.fused_logsumexp.has_fused", lambda _, t=there: t
        )
        users, items = torch.ones(3, 8, dtype=dtype), torch.ones(4, 8, dtype=dtype)
        nested_logsumexp(users, items, torch.ones(1, 3, dtype=dtype), slices)
    ((_, _, _, col_scale, bias, skip, wanted),) = taken
    assert col_scale.shape == (1, 4) and bias.shape == (4,) and skip.shape == (3, 0)
    assert not wanted.bf16 and not wanted.means
