"""RecTools' side: a frame of pandas in, lists out."""

# --8<-- [start:lines]
import pandas as pd
import rectools.models
from implicit import nearest_neighbours
from rectools import Columns
from rectools.dataset import Dataset


def recommend(frame: pd.DataFrame, model: str = "SASRecModel", **settings: object) -> pd.DataFrame:
    names = {"user_id": Columns.User, "item_id": Columns.Item, "time": Columns.Datetime}
    rows = frame.rename(columns=names).assign(**{Columns.Weight: 1.0})
    rows[Columns.Datetime] = pd.to_datetime(rows[Columns.Datetime], unit="ms")
    dataset = Dataset.construct(rows)
    if model == "ImplicitItemKNNWrapperModel":
        settings = {"model": getattr(nearest_neighbours, settings.pop("kind"))(**settings)}
    fitted = getattr(rectools.models, model)(**settings).fit(dataset)
    users = rows[Columns.User].unique()
    return fitted.recommend(users=users, dataset=dataset, k=10, filter_viewed=True)


# --8<-- [end:lines]

if __name__ == "__main__":
    from side import run

    run(recommend, "rectools")
