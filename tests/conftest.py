"""Fixtures that every folder of tests may use."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# No clock decides whether a test passes: kernels are compiled in some first example.
settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")

# No power is cut: what a killed process had written is in the hands of the system, synced or not.
os.fsync = lambda descriptor: None

# Every time, not once in a process: whichever test comes first, each fails by its own fault.
torch.set_warn_always(True)

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data(name)`: the folder of a real data set; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("RECSYS_TEST_DATA", _BESIDE)) / name
        if not folder.is_dir():
            pytest.skip(f"real data set {name} is absent (no {folder}; set RECSYS_TEST_DATA)")
        return folder

    return find
