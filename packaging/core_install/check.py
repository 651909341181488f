"""Installs the core alone into a clean environment and serves bundles there: `make core`.

python packaging/core_install/check.py [RUN]

RUN is a finished run; without one a small model is trained on synthetic ratings. Its bundles are
served by the whole installation, then by the core (users of the bundle), then by the core with the
extras `serve` and `faiss` (histories, and an index); all must find the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TREE = ("recsys", "data_prep", "pyproject.toml", "README.md", "LICENSE")
sys.path[:0] = [str(ROOT), str(HERE)]

import serve  # noqa: E402

import recsys  # noqa: E402


def main(run: Path | None) -> None:
    """Makes bundles and lists, installs, compares."""
    with tempfile.TemporaryDirectory(prefix="recsys-core-") as name:
        folder = Path(name)
        make_bundles(run or small_run(folder), folder)
        python = clean_environment(folder / "venv")
        source = copied_tree(folder / "source")
        for wanted, options in ((f"{source}", ()), (f"{source}[serve,faiss]", ("--towers",))):
            started = time.perf_counter()
            _call(python, "-m", "pip", "install", "--quiet", "--no-compile", wanted)
            print(f"installed in {time.perf_counter() - started:.0f} s: {Path(wanted).name}")
            _call(python, str(HERE / "serve.py"), str(folder), *options)
        _call(python, "-m", "pip", "check")


def small_run(folder: Path) -> Path:
    """One epoch on synthetic ratings, in seconds."""
    from data_prep import PrepareOptions, SyntheticOptions, prepare
    from recsys.granularity import Granularities
    from recsys.models import SASRecConfig
    from recsys.runs.config import RunConfig
    from recsys.training.trainer import TrainerConfig

    sizes = SyntheticOptions(num_users=400, num_items=300, num_interactions=6_000, seed=1)
    dataset = prepare("synthetic", PrepareOptions(synthetic=sizes), out=folder / "data")
    model = SASRecConfig(granularities=Granularities(sizes=(8, 16, 32)))
    config = RunConfig(data=dataset.folder, model=model, trainer=TrainerConfig(epochs=1))
    return recsys.train(config, out=folder / "run")


def make_bundles(run: Path, folder: Path) -> None:
    """Two bundles of a run, and what the whole installation finds in them."""
    recsys.export(run, folder / "plain", tower=True)
    recsys.export(run, folder / "indexed", tower=True, index="ivf", users=False)
    from recsys.retrieval.bundle.loading import load_bundle
    from recsys.serving.catalogue import Catalogue

    bundle = load_bundle(folder / "plain")
    items, offsets = bundle.seen
    named = Catalogue(bundle).ids(items[: offsets[20]])
    histories = [named[lo:hi] for lo, hi in pairwise(offsets[:21])]
    expected = {"histories": [history for history in histories if history]}
    for name in ("plain", "indexed"):
        expected[name] = serve.by_histories(folder / name, expected)
    expected["stored"] = serve.by_users(folder / "plain")
    (folder / "expected.json").write_text(json.dumps(expected), "utf-8")


def clean_environment(folder: Path) -> str:
    """An environment with pip alone; the path of its interpreter."""
    venv.create(folder, with_pip=True, symlinks=True)
    return str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")


def copied_tree(folder: Path) -> Path:
    """The files that are installed, without what earlier builds left beside them."""
    folder.mkdir()
    for name in TREE:
        given = ROOT / name
        if given.is_dir():
            shutil.copytree(given, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(given, folder / name)
    return folder


def _call(*command: str) -> None:
    """Runs away from the tree, so that what is installed is imported and nothing else."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(command, check=True, cwd=tempfile.gettempdir(), env=environment)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
