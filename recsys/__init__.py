"""recsys: recommender systems on nested embeddings.

Every verb of the command line is one call here:

    import recsys
    from data_prep import prepare

    prepare("ml-100k", out="data/ml-100k")
    recsys.train("configs/ml100k_sasrec.yaml", out="runs/demo")
    table = recsys.evaluate("runs/demo")
    recsys.report("runs/demo")

and a frame is enough, without folders:

    data = recsys.Dataset.from_frame(frame, user="user_id", item="item_id", time="ts")
    model = recsys.fit(data, "sasrec", epochs=20)
    top = model.recommend(["u1", "u7"], k=10)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time see `__getattr__`
    from recsys.data.dataset import Dataset
    from recsys.doctor import diagnose
    from recsys.library.diversity import Diversity
    from recsys.library.evaluating import evaluate
    from recsys.library.show import show
    from recsys.library.sources.fitting import fit
    from recsys.library.sources.loading import load
    from recsys.library.verb import recommend
    from recsys.recipes.bundles.export import export
    from recsys.recipes.bundles.nest import Nesting, nest
    from recsys.recipes.bundles.new_items import vectors_for_new_items
    from recsys.recipes.bundles.push import push
    from recsys.recipes.bundles.search_options import IndexOptions, RoutedStages
    from recsys.recipes.bundles.verify import verify
    from recsys.recipes.clicks.fit import fit_clicks
    from recsys.recipes.evaluating.baselines import evaluate_baselines
    from recsys.recipes.evaluating.bits import bits
    from recsys.recipes.evaluating.evaluate import compare
    from recsys.recipes.evaluating.lists import evaluate_lists
    from recsys.recipes.evaluating.paired import compare_paired
    from recsys.recipes.evaluating.queries import Measuring
    from recsys.recipes.evaluating.report import report
    from recsys.recipes.evaluating.tradeoff import tradeoff
    from recsys.recipes.last_stage.measure import compare_last_stages
    from recsys.recipes.ranking.bundles import rank_attach
    from recsys.recipes.ranking.config import RankConfig
    from recsys.recipes.ranking.earlier import rank_earlier
    from recsys.recipes.ranking.evaluate import Sweeping, rank_evaluate
    from recsys.recipes.ranking.fit import rank_fit
    from recsys.recipes.training.calibrate import calibrate
    from recsys.recipes.training.cut import cut
    from recsys.recipes.training.train import train
    from recsys.recipes.training.tune import tune
    from recsys.recipes.updating.compatibility import compatibility
    from recsys.recipes.updating.update import update
    from recsys.runs.loading import load_run
    from recsys.studies import study
    from recsys.studies.seed_runs.figures import compare_seeds, evaluate_seeds
    from recsys.studies.seed_runs.training import train_seeds

_VERBS = {
    "fit": "recsys.library.sources.fitting",
    "load": "recsys.library.sources.loading",
    "recommend": "recsys.library.verb",
    "show": "recsys.library.show",
    "evaluate_lists": "recsys.recipes.evaluating.lists",
    "train": "recsys.recipes.training.train",
    "evaluate": "recsys.library.evaluating",
    "tune": "recsys.recipes.training.tune",
    "compare": "recsys.recipes.evaluating.evaluate",
    "compare_paired": "recsys.recipes.evaluating.paired",
    "evaluate_baselines": "recsys.recipes.evaluating.baselines",
    "report": "recsys.recipes.evaluating.report",
    "study": "recsys.studies",
    "train_seeds": "recsys.studies.seed_runs.training",
    "evaluate_seeds": "recsys.studies.seed_runs.figures",
    "compare_seeds": "recsys.studies.seed_runs.figures",
    "cut": "recsys.recipes.training.cut",
    "calibrate": "recsys.recipes.training.calibrate",
    "update": "recsys.recipes.updating.update",
    "compatibility": "recsys.recipes.updating.compatibility",
    "export": "recsys.recipes.bundles.export",
    "verify": "recsys.recipes.bundles.verify",
    "push": "recsys.recipes.bundles.push",
    "tradeoff": "recsys.recipes.evaluating.tradeoff",
    "bits": "recsys.recipes.evaluating.bits",
    "rank_earlier": "recsys.recipes.ranking.earlier",
    "rank_fit": "recsys.recipes.ranking.fit",
    "rank_evaluate": "recsys.recipes.ranking.evaluate",
    "rank_attach": "recsys.recipes.ranking.bundles",
    "fit_clicks": "recsys.recipes.clicks.fit",
    "compare_last_stages": "recsys.recipes.last_stage.measure",
    "nest": "recsys.recipes.bundles.nest",
    "vectors_for_new_items": "recsys.recipes.bundles.new_items",
    "load_run": "recsys.runs.loading",
    "diagnose": "recsys.doctor",
}
_OPTIONS = {
    "Dataset": "recsys.data.dataset",
    "Diversity": "recsys.library.diversity",
    "IndexOptions": "recsys.recipes.bundles.search_options",
    "Measuring": "recsys.recipes.evaluating.queries",
    "Nesting": "recsys.recipes.bundles.nest",
    "RankConfig": "recsys.recipes.ranking.config",
    "RoutedStages": "recsys.recipes.bundles.search_options",
    "Sweeping": "recsys.recipes.ranking.evaluate",
}
"""What some verbs take, and the data they begin with."""

__all__ = [
    "Dataset",
    "Diversity",
    "IndexOptions",
    "Measuring",
    "Nesting",
    "RankConfig",
    "RoutedStages",
    "Sweeping",
    "bits",
    "calibrate",
    "compare",
    "compare_last_stages",
    "compare_paired",
    "compare_seeds",
    "compatibility",
    "cut",
    "diagnose",
    "evaluate",
    "evaluate_baselines",
    "evaluate_lists",
    "evaluate_seeds",
    "export",
    "fit",
    "fit_clicks",
    "load",
    "load_run",
    "nest",
    "push",
    "rank_attach",
    "rank_earlier",
    "rank_evaluate",
    "rank_fit",
    "recommend",
    "report",
    "show",
    "study",
    "tradeoff",
    "train",
    "train_seeds",
    "tune",
    "update",
    "vectors_for_new_items",
    "verify",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *_VERBS, *_OPTIONS})


def __getattr__(name: str) -> Any:
    """Loads a verb when it is first asked for: `import recsys` itself loads nothing.

    Raises:
        InstallationError: the verb needs an extra that is not installed.
    """
    module = _VERBS.get(name) or _OPTIONS.get(name)
    if module is None:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}")
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        from recsys.extras import missing_import

        known = missing_import(error)
        if known is None:
            raise
        raise known from error
