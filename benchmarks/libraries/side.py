"""Runs one side in the interpreter that has its library.

PYTHON benchmarks/libraries/with_NAME.py FOLDER

FOLDER holds `ratings.csv` (user_id, item_id, time in milliseconds, unlike within a user) and
`settings.json` (arguments of `recommend`, and `seed`), and gets `lists.csv` (user_id, item_id, and
rank or score) and `told.json` (version).
"""

import json
import random
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd


def run(recommend: Callable[..., pd.DataFrame], library: str) -> None:
    """Reads the folder, calls `recommend`, and writes what it gave."""
    folder = Path(sys.argv[1])
    settings = json.loads((folder / "settings.json").read_text())
    _seed(settings.pop("seed"))
    frame = pd.read_csv(folder / "ratings.csv", dtype={"user_id": str, "item_id": str})
    lists = recommend(frame, **settings)
    kept = [name for name in ("user_id", "item_id", "rank", "score") if name in lists]
    kept = kept[:3] if "rank" in kept else kept
    lists[kept].to_csv(folder / "lists.csv", index=False)
    (folder / "told.json").write_text(json.dumps({"version": version(library)}))


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    try:
        import torch
    except ImportError:
        return
    torch.manual_seed(seed)
