"""What the system is told of how mapped tiers will be read."""

import sys
from pathlib import Path

import pytest

from recsys.retrieval.bundle.loading import load_bundle
from recsys.retrieval.funnel import Funnel, Stage
from tests.retrieval.bundles import write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/smaps")


def scattered(folder):
    """Whether each mapped file of a folder is expected to be read here and there, by name."""
    found, name = {}, None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0]:
            name = str(Path(words[5]).relative_to(folder)) if str(folder) in line else None
        elif words[0] == "VmFlags:" and name is not None:
            found[name] = "rr" in words
    return found


def test_rows_that_are_ranked_are_read_here_and_there_and_what_is_scanned_as_a_whole(tmp_path):
    folder, _ = write(tmp_path / "out", "0:8:int8:mmap,8:32:fp16:mmap", normalize=True)
    bundle = load_bundle(folder)
    stages = [Stage(8, 50), Stage(32, 10)]
    funnel = Funnel(bundle, stages)
    told = scattered(bundle.folder)
    assert {name: told[name] for name in told if "norm" in name} == {
        "items/norm-0008.f32": False,
        "items/norm-0032.f32": True,
    }
    tiers = {name.split("/")[1]: flag for name, flag in told.items() if "norm" not in name}
    assert tiers == {"0000-0008-int8": False, "0008-0032-fp16": True}
    Funnel(bundle, stages, finder=funnel.scan)  # any other finder: nothing is scanned
    assert all(scattered(bundle.folder).values())
    Funnel(bundle, [Stage(32, 10)])
    told = scattered(bundle.folder)
    assert not any(flag for name, flag in told.items() if "norm-0008" not in name)
