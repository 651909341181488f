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
    "train": "recsys.recipes.training.train",
    "evaluate": "recsys.recipes.evaluating.evaluate",
    "compare": "recsys.recipes.evaluating.evaluate",
    "evaluate_baselines": "recsys.recipes.evaluating.baselines",
    "report": "recsys.recipes.evaluating.report",
    "study": "recsys.study",
    "cut": "recsys.recipes.training.cut",
    "calibrate": "recsys.recipes.training.calibrate",
    "export": "recsys.recipes.serving.export",
    "verify": "recsys.recipes.serving.export",
    "tradeoff": "recsys.recipes.evaluating.tradeoff",
    "bits": "recsys.recipes.evaluating.bits",
    "nest": "recsys.recipes.serving.nest",
    "vectors_for_new_items": "recsys.recipes.serving.new_items",
    "load_run": "recsys.recipes.run",
    "diagnose": "recsys.doctor",
}

__all__ = list(_VERBS)


def __getattr__(name: str) -> Any:
    """Loads a verb when it is first asked for: `import recsys` itself loads nothing."""
    if name not in _VERBS:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}")
    return getattr(import_module(_VERBS[name]), name)
