"""What `recsys tradeoff` refuses before it opens anything."""

import pytest

from recsys.config import parse
from recsys.errors import ConfigError
from recsys.evaluation.tradeoff.sweep import Sweep
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


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"keeps": []}, "keeps: .*at least 1 item"),
        ({"keeps": [-5]}, r"keeps.0: .*greater than 0"),
        ({"codecs": []}, "codecs: .*at least 1 item"),
        ({"indexes": []}, "indexes: .*at least 1 item"),
        ({"granularities": []}, "granularities: .*at least 1 item"),
        ({"index_recall": 99}, "index_recall: .*less than or equal to 1"),
    ],
)
def test_a_sweep_over_nothing_is_refused(given, told):
    with pytest.raises(ConfigError, match=told):
        parse(Sweep, {"granularities": [8], "rankings": [16]} | given, "the sweep")
