"""recsys: recommender systems on nested embeddings.

Every verb of the command line is one call here:

    import recsys
    from data_prep import prepare

    prepare("ml-100k", out="data/ml-100k")
    recsys.train("configs/ml100k_sasrec.yaml", out="runs/demo")
    table = recsys.evaluate("runs/demo")
    recsys.report("runs/demo")
"""

from importlib import import_module
from typing import Any

_VERBS = {
    "train": "recsys.recipes.train",
    "evaluate": "recsys.recipes.evaluate",
    "compare": "recsys.recipes.evaluate",
    "evaluate_baselines": "recsys.recipes.baselines",
    "report": "recsys.recipes.report",
    "study": "recsys.recipes.study",
    "cut": "recsys.recipes.cut",
    "calibrate": "recsys.recipes.calibrate",
    "export": "recsys.recipes.export",
    "verify": "recsys.recipes.export",
    "tradeoff": "recsys.recipes.tradeoff",
    "bits": "recsys.recipes.bits",
    "nest": "recsys.recipes.nest",
    "vectors_for_new_items": "recsys.recipes.new_items",
    "load_run": "recsys.recipes.run",
    "diagnose": "recsys.doctor",
}

__all__ = list(_VERBS)


def __getattr__(name: str) -> Any:
    """Loads a verb when it is first asked for: `import recsys` itself loads nothing."""
    if name not in _VERBS:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}")
    return getattr(import_module(_VERBS[name]), name)
