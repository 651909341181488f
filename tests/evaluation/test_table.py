"""Tables of figures in files: what one does not tell is not taken for what is told today."""

import json

import polars as pl
import pytest

from recsys.errors import ProtocolError
from recsys.evaluation.metric_table import SCHEMA, MetricTable, join_tables, load_table
from recsys.evaluation.protocol import ProtocolCard


@pytest.fixture
def table():
    card = ProtocolCard(
        protocol="s3rec", dataset="x", content_hash="0" * 64, filters=(), tie_rule="given order",
        split="leave-last-out", part="test", fit_on="train", filter_seen=True,
    )  # fmt: skip
    return MetricTable(card, pl.DataFrame(schema=SCHEMA))


def test_baselines_measured_before_settings_were_chosen_stand_beside_no_others(table, tmp_path):
    table.save(tmp_path / "new.json")
    tree = json.loads((tmp_path / "new.json").read_text())
    del tree["card"]["baselines"]
    (tmp_path / "old.json").write_text(json.dumps(tree))
    new, old = load_table(tmp_path / "new.json"), load_table(tmp_path / "old.json")
    assert new.card == table.card
    assert "default settings" in old.card.baselines
    with pytest.raises(ProtocolError, match=r"baselines: .*run `recsys evaluate` again"):
        join_tables([old, new])
