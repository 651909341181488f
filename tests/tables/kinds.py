"""Every kind of table, small, for the tests that all of them pass."""

import numpy as np
import torch
from pydantic import TypeAdapter

from recsys.tables import ClusteredTable, TableConfig, build_table

ADAPTER = TypeAdapter(TableConfig)
KINDS = {
    "dense": {"name": "dense"},
    "mapped": {"name": "mapped"},
    "mapped_adagrad": {"name": "mapped", "optimizer": "adagrad"},
    "hash": {"name": "hashed", "method": "hash", "share": 0.5},
    "double": {"name": "hashed", "method": "double", "share": 0.5},
    "bloom": {"name": "hashed", "method": "bloom", "share": 0.5},
    "multi_probe": {"name": "hashed", "method": "multi_probe", "share": 0.5},
    "quotient_remainder": {"name": "hashed", "method": "quotient_remainder", "share": 0.75},
    "graph": {"name": "clustered", "share": 0.75},
    "graph_alone": {"name": "clustered", "share": 0.75, "hashed_share": 0.0},
    "low_rank": {"name": "low_rank", "share": 0.5},
    "tensor_train": {"name": "tensor_train", "share": 0.9},
    "product": {"name": "quantized", "method": "product", "share": 0.99},
    "residual": {"name": "quantized", "method": "residual", "share": 0.99},
    "widths": {"name": "widths", "share": 0.75, "start": 0.1, "ramp": 0.4, "every": 5},
    "sparse": {"name": "sparse", "kept": 5, "start": 0.1, "ramp": 0.4},
    "dynamic": {"name": "dynamic"},
}


def config_of(kind, **changes):
    return ADAPTER.validate_python({**KINDS[kind], **changes})


def make(kind, num_rows=20, dim=16, seed=0, **changes):
    """A table that is ready to be trained."""
    torch.manual_seed(seed)
    table = build_table(config_of(kind, **changes), num_rows, dim, init_std=0.1)
    if isinstance(table, ClusteredTable):
        table.assign(torch.from_numpy(np.arange(num_rows) % table.num_clusters))
    if kind == "dynamic":
        table.observe(torch.arange(num_rows))
    return table
