"""What every table keeps, whatever it is made of."""

import pytest
import torch

from recsys.losses import LOSSES
from recsys.models import SASRecConfig
from recsys.recipes.training.train import train
from recsys.runs.loading import load_run
from recsys.tables import SelfUpdating, penalty_of
from recsys.training.optimizers import OptimizerConfig, build_optimizer
from tests.contract import checkerboard
from tests.models.test_models import settings
from tests.tables.kinds import KINDS, config_of, make
from tests.tables.test_mapped import losses_of

every_kind = pytest.mark.parametrize("kind", KINDS)
# A codebook of 16 words outweighs a table of 20 rows.
NUM_ROWS = 60
HASHED = ("hash", "double", "bloom", "multi_probe", "graph")


def own_parameters(table):
    """Tensors that training moves, by name."""
    return {name: parameter.detach().clone() for name, parameter in table.named_parameters()}


class Holder(torch.nn.Module):
    def __init__(self, table):
        super().__init__()
        self.table = table


@every_kind
def test_all_vectors_are_the_rows_looked_up_one_by_one(kind):
    table = make(kind, NUM_ROWS).eval()
    with torch.no_grad():
        whole = table.vectors()
        rows = torch.cat([table(torch.tensor([row])) for row in range(NUM_ROWS)])
    assert whole.shape == (NUM_ROWS, 16)
    torch.testing.assert_close(whole, rows)


@every_kind
@pytest.mark.parametrize("grad", [True, False])
def test_a_lookup_of_a_granularity_is_the_prefix_of_the_whole(kind, grad):
    table = make(kind, NUM_ROWS).eval()
    rows = torch.tensor([[3, 7], [3, 0]])
    with torch.set_grad_enabled(grad):
        whole = table(rows)
        for size in (1, 4, 6, 16):
            prefix = table(rows, size=size)
            assert prefix.shape == (2, 2, size)
            torch.testing.assert_close(prefix, whole[..., :size])


@every_kind
@pytest.mark.parametrize("sparse", [True, False])
def test_every_parameter_moves_towards_what_is_asked_of_it(kind, sparse):
    holder = Holder(make(kind, NUM_ROWS).train())
    optimizer = build_optimizer(holder, OptimizerConfig(learning_rate=0.02))
    before, wanted = own_parameters(holder.table), torch.randn(NUM_ROWS, 16)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = (holder.table(torch.arange(NUM_ROWS), sparse=sparse) - wanted).square().mean()
        penalty = penalty_of(holder)
        (loss if penalty is None else loss + penalty).backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]
    for name, after in own_parameters(holder.table).items():
        if kind == "dynamic":  # the row of ids without a row was not looked up
            assert torch.equal(before[name][0], after[0])
            before[name], after = before[name][1:], after[1:]
        rows = (after - before[name]).flatten(1).abs().sum(1) > 0
        # No index need have its hash in every row of the pool.
        assert rows.all() or (kind in HASHED and rows.any())


@every_kind
def test_what_was_saved_is_what_is_loaded(kind):
    one, other = make(kind, NUM_ROWS, seed=1).eval(), make(kind, NUM_ROWS, seed=2).eval()
    assert not torch.equal(one.vectors(), other.vectors())
    other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    assert torch.equal(one.vectors(), other.vectors())


SHARED = {kind for kind, config in KINDS.items() if "share" in config}


@pytest.mark.parametrize("kind", sorted(SHARED))
@pytest.mark.parametrize("share", [0.5, 0.25, 0.125])
def test_a_table_takes_no_more_than_its_share(kind, share):
    num_rows, dim = 3_000, 64
    table = make(kind, num_rows, dim, share=share)
    dense = 4 * num_rows * dim
    assert table.nbytes <= share * dense
    if kind not in ("low_rank", "tensor_train", "product", "residual"):  # they come in large steps
        assert table.nbytes > 0.93 * share * dense


def test_bytes_are_what_the_arithmetic_says():
    n, d = 3_000, 64
    assert make("dense", n, d).nbytes == make("mapped", n, d).nbytes == 4 * n * d
    assert make("hash", n, d, share=0.25).nbytes == 4 * (n // 4) * d
    assert make("low_rank", n, d, share=0.25).nbytes == 4 * 15 * (n + d)  # 0.25 n d / (n + d)
    # 750 rows less the list of clusters (n / d rows), half of them hashed.
    assert make("graph", n, d, share=0.25).nbytes == 4 * 703 * d + 4 * n
    # 64 codes of a byte would be a quarter, but the codebook takes 4 * 256 * d of it: 32 codes.
    assert make("product", n, d, share=0.25).nbytes == 32 * n + 4 * 256 * d
    widths = make("widths", n, d, share=0.25)
    assert widths.nbytes == 4 * 2 * widths.budget + 8 * n <= n * d
    assert 4 * 2 * (widths.budget + 1) + 8 * n > n * d


def test_a_lookup_of_a_prefix_reads_no_coordinate_behind_it():
    for kind in ("dense", "mapped", "hash", "double", "low_rank", "graph"):
        table = make(kind, NUM_ROWS)
        with torch.no_grad():
            before = table(torch.arange(NUM_ROWS), size=4)
            for parameter in table.parameters():
                if parameter.shape[-1] == 16:
                    parameter[:, 4:] = float("nan")
            assert torch.equal(table(torch.arange(NUM_ROWS), size=4), before)


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax"])
@every_kind
def test_sasrec_learns_the_checkerboard_on_every_table(kind, loss, tmp_path):
    board = checkerboard(tmp_path / "board", size=60)
    config = settings("sasrec", board.folder, table=KINDS[kind])
    config = config.model_copy(
        update={
            "model": config.model.model_copy(update={"sparse_gradients": loss != "softmax"}),
            "loss": LOSSES.find(loss)(),
            "trainer": config.trainer.model_copy(update={"epochs": 6}),
        }
    )
    run = train(config, out=tmp_path / "run")
    losses = losses_of(run)
    assert len(losses) == 6 and losses[-1] < 0.95 * losses[0]
    model = load_run(run).model
    assert torch.isfinite(model.item_vectors()).all()
    assert type(model.table).__name__ == type(make(kind, NUM_ROWS)).__name__


def test_the_table_is_dense_where_the_config_names_none():
    assert SASRecConfig.model_validate({}).table.name == "dense"
    assert SASRecConfig.model_validate({"table": {}}).table.name == "dense"


def test_an_unknown_table_or_key_is_answered_with_the_known_ones(tmp_path):
    from recsys.config import parse
    from recsys.errors import ConfigError

    with pytest.raises(ConfigError, match=r"clustered, dense, dynamic, hashed"):
        parse(SASRecConfig, {"table": {"name": "hash"}}, "a file")
    with pytest.raises(ConfigError, match="did you mean 'share'"):
        parse(SASRecConfig, {"table": {"name": "hashed", "shar": 0.5}}, "a file")


def test_tables_that_update_themselves_are_left_alone_by_the_optimizer():
    for kind in KINDS:
        holder = Holder(make(kind, NUM_ROWS))
        optimizer = build_optimizer(holder, OptimizerConfig())
        own = isinstance(holder.table, SelfUpdating)
        assert own == (config_of(kind).name in ("mapped", "dynamic"))
        assert len(optimizer.own) == own
        grouped = [p for group in optimizer.param_groups for p in group["params"]]
        assert len(grouped) == (0 if own else len(list(holder.parameters())))
