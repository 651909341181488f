"""This library's side: a frame of pandas in, lists out."""

# --8<-- [start:lines]
import pandas as pd

import recsys


def recommend(frame: pd.DataFrame, model: str = "sasrec", **settings: object) -> pd.DataFrame:
    data = recsys.Dataset.from_frame(frame, user="user_id", item="item_id", time="time")
    told = [f"{key}={value}" for key, value in settings.items()]
    fitted = recsys.fit(data, model, told, fit_on="all")
    return fitted.recommend(frame[["user_id"]].drop_duplicates(), k=10)


# --8<-- [end:lines]

if __name__ == "__main__":
    from side import run

    run(recommend, "recsys")
