"""What `recsys tradeoff` refuses before it opens anything."""

import pytest

from recsys.errors import ConfigError
from recsys.recipes.evaluating.tradeoff import tradeoff


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"k": 0}, "k is 0; a whole number of 1 or more"),
        ({"keep_ndcg": -1}, "keep_ndcg is -1; a share"),
        ({"out": __file__}, "is a file, and the report is a folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(options, told, tmp_path):
    with pytest.raises(ConfigError, match=told):
        tradeoff(tmp_path / "run", **options)
