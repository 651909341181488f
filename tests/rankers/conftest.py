"""Neural rankers, fitted once for all tests."""

import pytest

from recsys.config import parse
from recsys.rankers.registry import RANKERS
from tests.rankers.made import SCHEMA, made

NEURAL = ("autoint", "dcn_v2", "din", "dlrm", "finalmlp", "wukong")
NESTED = ("din", "wukong")
"""Those that are kept at two widths: an export takes seconds."""
OWN = {
    "autoint": {"attention_dim": 16, "layers": 1, "hidden": [16]},
    "dcn_v2": {"hidden": [16], "rank": 4, "experts": 2},
    "din": {"hidden": [16], "attention_hidden": [8]},
    "dlrm": {"hidden": [16], "bottom": [8]},
    "finalmlp": {"first": [16], "second": [16], "gate_first": ["taste"], "gate_hidden": [8]},
    "wukong": {"hidden": [16], "machine_hidden": [16], "layers": 2, "rank": 4},
}


def config_of(name, **sections):
    """A small config of that ranker."""
    training = {"loss": "pointwise", "epochs": 8, "batch_rows": 256, "learning_rate": 0.02}
    tree = {
        "name": name,
        "norm": True,
        "inputs": {"embedding_dim": 8, "init_std": 0.1, **sections.pop("inputs", {})},
        "training": training | sections.pop("training", {}),
        "widths": {"shares": [1.0]},
        **OWN[name],
        **sections,
    }
    return parse(RANKERS.find(name), tree, "a test")


class Fitted:
    """Rankers by name, each fitted when it is first asked for."""

    def __init__(self):
        self.train, self.validation, self.test = made(700, 0), made(100, 1), made(150, 2)
        self._kept = {}

    def __getitem__(self, name):
        if name not in self._kept:
            widths = {"shares": [0.5, 1.0] if name in NESTED else [1.0]}
            config = config_of(name, widths=widths)
            self._kept[name] = config.fit(SCHEMA, self.train, self.validation, 0)
        return self._kept[name]


@pytest.fixture(scope="session")
def fitted():
    return Fitted()
