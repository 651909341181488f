"""implicit's side: a frame of pandas in, lists out."""

# --8<-- [start:lines]
import implicit.als
import implicit.nearest_neighbours
import pandas as pd
import scipy.sparse as sp


def recommend(frame: pd.DataFrame, model: str = "als", **settings: object) -> pd.DataFrame:
    users, items = (frame[name].astype("category") for name in ("user_id", "item_id"))
    places = (users.cat.codes, items.cat.codes)
    known = sp.coo_matrix(([1.0] * len(frame), places), dtype="float32").tocsr()
    kinds = {
        "als": implicit.als.AlternatingLeastSquares,
        "bm25": implicit.nearest_neighbours.BM25Recommender,
        "tfidf": implicit.nearest_neighbours.TFIDFRecommender,
        "cosine": implicit.nearest_neighbours.CosineRecommender,
    }
    fitted = kinds[model](**settings)
    fitted.fit(known, show_progress=False)
    found, scores = fitted.recommend(range(known.shape[0]), known, N=10)
    lists = pd.DataFrame({"user_id": users.cat.categories.repeat(10), "item_id": found.ravel()})
    lists["item_id"] = items.cat.categories[lists["item_id"]]
    lists["score"] = scores.ravel()
    return lists


# --8<-- [end:lines]

if __name__ == "__main__":
    from side import run

    run(recommend, "implicit")
