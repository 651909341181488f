"""LensKit's side: a frame of pandas in, lists out."""

# --8<-- [start:lines]
import pandas as pd
from lenskit import batch, topn_pipeline
from lenskit.als import ImplicitMFScorer
from lenskit.data import from_interactions_df
from lenskit.knn import EASEScorer, ItemKNNScorer


def recommend(frame: pd.DataFrame, model: str = "ItemKNN", **settings: object) -> pd.DataFrame:
    rows = frame[["user_id", "item_id"]].assign(timestamp=pd.to_datetime(frame["time"], unit="ms"))
    data = from_interactions_df(rows)
    kinds = {"ItemKNN": ItemKNNScorer, "EASE": EASEScorer, "ImplicitMF": ImplicitMFScorer}
    pipeline = topn_pipeline(kinds[model](**settings), n=10)
    pipeline.train(data)
    return batch.recommend(pipeline, list(rows["user_id"].unique()), n=10).to_df()


# --8<-- [end:lines]

if __name__ == "__main__":
    from side import run

    run(recommend, "lenskit")
