"""From ratings to a recall/NDCG table at every granularity, in five calls.

    python examples/quickstart.py [FOLDER]

Makes its own small synthetic data set, so it needs no download and takes about a minute.
"""

import sys
import tempfile
from pathlib import Path

import recsys
from data_prep import PrepareOptions, SyntheticOptions, prepare
from recsys.granularity import Granularities
from recsys.models import SASRecConfig
from recsys.runs.config import RunConfig
from recsys.training.trainer import TrainerConfig


def main(folder: Path) -> Path:
    """Prepares, trains, evaluates, reports; returns the HTML page."""
    sizes = SyntheticOptions(num_users=1_000, num_items=500, num_interactions=15_000, seed=1)
    dataset = prepare("synthetic", PrepareOptions(synthetic=sizes), out=folder / "data")

    config = RunConfig(
        data=dataset.folder,
        model=SASRecConfig(granularities=Granularities(sizes=(8, 16, 32, 64))),
        trainer=TrainerConfig(epochs=3),
    )
    run = recsys.train(config, out=folder / "run")

    table = recsys.evaluate(run)
    for size in (8, 16, 32, 64):
        print(f"{size:3d} coordinates: ndcg@10 {table.value('ndcg', 10, size, run='run'):.4f}")

    # The vectors themselves: every prefix of a row is a good vector.
    loaded = recsys.load_run(run)
    items = loaded.model.item_vectors()
    print(f"item vectors {tuple(items.shape)}")

    page, *_ = recsys.report(run)
    print(page)
    return page


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="recsys-"))
    main(place)
