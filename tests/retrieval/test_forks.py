"""A server that loads a bundle, searches, and then forks its workers."""

import subprocess
import sys

SERVER = """
import os
import signal

import numpy as np

from recsys.retrieval.codecs.registry import encode
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.index.building import build_index
from recsys.retrieval.bundle.unwritten_tiers import InMemory
from recsys.retrieval.bundle.tiers import parse_tiers

items, users = (np.random.default_rng(0).standard_normal((n, 16), np.float32) for n in (2000, 64))
funnels = {}
for codec in ("int8", "fp32"):
    bundle = InMemory(items, parse_tiers(f"0:16:{codec}:ram", 16), (8, 16), normalize=False)
    for kind in ("scan", "ivf,pqx4", "ivf,sq8", "scann"):
        finder = None if kind == "scan" else build_index(bundle, kind, 8, threads=2)
        stages = [Stage(8, 100), Stage(16, 10)]
        funnels[codec, kind] = Funnel(bundle, stages, finder=finder, threads=2)
found = {name: funnel.search(users).items for name, funnel in funnels.items()}
for name, funnel in funnels.items():
    worker = os.fork()
    if worker == 0:
        signal.alarm(30)
        os._exit(0 if np.array_equal(funnel.search(users).items, found[name]) else 1)
    print(*name, os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
"""


def test_a_forked_worker_finds_what_the_server_found():
    done = subprocess.run([sys.executable, "-c", SERVER], stdout=-1, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    assert [line for line in lines if not line.endswith(" 0")] == []
