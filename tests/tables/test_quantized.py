"""Codebooks that are trained along stay where their rows are."""

import pytest
import torch

from recsys.tables import penalty_of
from recsys.training.optimizers import OptimizerConfig, build_optimizer
from tests.tables.kinds import make
from tests.tables.test_contract import Holder


@pytest.mark.parametrize("kind", ["product", "residual"])
def test_rows_keep_apart_and_words_stay_on_their_scale(kind):
    """At the rate of the recipes, from its first values on; every step asks for some rows."""
    num_rows, dim = 400, 64
    torch.manual_seed(0)
    table = make(kind, num_rows, dim, share=0.5)
    with torch.no_grad():
        for parameter in table.parameters():
            parameter.mul_(0.2)  # as of an init_std of 0.02
    holder, wanted = Holder(table).train(), torch.randn(num_rows, dim)
    optimizer = build_optimizer(holder, OptimizerConfig())
    generator = torch.Generator().manual_seed(1)
    for _ in range(100):
        rows = torch.randint(num_rows, (64,), generator=generator)
        optimizer.zero_grad()
        loss = -(table(rows) * wanted[rows]).sum(1).mean() + penalty_of(holder)
        loss.backward()
        optimizer.step()
    table.eval()
    with torch.no_grad():
        rows, served = table.weight, table.vectors()
        assert len(served.unique(dim=0)) > 0.9 * num_rows
        sizes = served.norm(dim=1) / rows.norm(dim=1)
        assert sizes.min() > 0.3 and sizes.max() < 2
        cosine = torch.nn.functional.cosine_similarity(served, rows)
        assert cosine.mean() > 0.5
