import warnings

import pytest

from recsys.baselines import BASELINES, fit_baseline
from recsys.baselines.als import AlsConfig, BprConfig
from recsys.granularity import Granularities
from tests.contract import check_model

SMALL = Granularities(sizes=(4, 8))
IMPERSONAL = ("popularity", "recent_popularity")
SETTINGS = {
    "als": AlsConfig(granularities=SMALL),
    "bpr": BprConfig(granularities=SMALL, iterations=300),
}


@pytest.mark.parametrize("name", [n for n in BASELINES.inside if n != "content_knn"])
def test_every_baseline_passes_the_checkerboard(name, tmp_path):
    config = SETTINGS.get(name) or BASELINES.find(name)()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # implicit warns where BLAS threads are left on
        check_model(
            lambda board, rows: fit_baseline(config, rows, board.num_items),
            tmp_path,
            personal=name not in IMPERSONAL,
        )
