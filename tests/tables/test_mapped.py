"""Rows updated where they lie, against the same updates in memory."""

import pytest
import torch
from safetensors.torch import load_file

from recsys.errors import ConfigError, InstallationError
from recsys.files.tensor_file import write_tensors
from recsys.losses import SampledSoftmaxConfig
from recsys.models.sasrec import SASRec
from recsys.recipes.training.train import train
from recsys.runs.loading import load_run
from recsys.tables import MappedConfig, MappedTable, UpdateRule
from recsys.training.logs import read_lines
from recsys.training.optimizers import RowAdamW
from tests.contract import checkerboard
from tests.models.test_models import settings
from tests.tables.kinds import make


def sampled(board, *, sparse_gradients=False, **model):
    config = settings("sasrec", board.folder, **model)
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"sparse_gradients": sparse_gradients}),
            "loss": SampledSoftmaxConfig(),
            "trainer": config.trainer.model_copy(update={"epochs": 4}),
        }
    )


def losses_of(run):
    return [line["loss"] for line in read_lines(run / "log.jsonl") if line["event"] == "train"]


def test_mapped_rows_move_as_sparse_rows_in_memory_do():
    mapped = make("mapped")
    weight = torch.nn.Parameter(mapped.weight.detach().clone())
    optimizer = RowAdamW([weight], lr=0.1, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    for rows in ([1, 4, 4], [2, 1], [19]):
        wanted = torch.randn(len(rows), 16)
        for table in (
            mapped,
            lambda rows: torch.nn.functional.embedding(rows, weight, sparse=True),
        ):
            ((table(torch.tensor(rows)) - wanted).square().sum()).backward()
        optimizer.step()
        mapped.update_rows(UpdateRule(0.1, (0.9, 0.98), 0.05))
        assert mapped.weight.grad is None
        torch.testing.assert_close(mapped.weight, weight)


def test_row_wise_adagrad_is_what_the_paper_says():
    table = make("mapped_adagrad", 3, 2)
    before = table.weight.detach().clone()
    gradient = torch.tensor([[3.0, 4.0]])
    for sums in (12.5, 25.0):  # the mean square of (3, 4), once and twice
        (table(torch.tensor([1])) * gradient).sum().backward()
        table.update_rows(UpdateRule(0.1))
        before[1] -= 0.1 * gradient[0] / sums**0.5
        torch.testing.assert_close(table.weight.detach(), before)
    assert table.optimizer_slots()["sum"].tolist() == [0.0, 25.0, 0.0]


def test_what_is_released_is_still_there():
    table = make("mapped", 1000, 64, resident_mib=1)
    before = table.weight.detach().clone()
    for _ in range(3):
        table(torch.arange(1000))
        table.release()
    assert torch.equal(table.weight, before)


def test_a_run_that_is_resumed_ends_with_the_weights_of_one_that_was_not(tmp_path, monkeypatch):
    board = checkerboard(tmp_path / "board")
    whole = train(sampled(board, table={"name": "mapped"}), out=tmp_path / "whole")
    real, steps = SASRec.loss, iter(range(1, 1000))

    def killed(self, *arguments):
        if next(steps) == 8:
            raise KeyboardInterrupt
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SASRec, "loss", killed)
        with pytest.raises(KeyboardInterrupt):
            train(sampled(board, table={"name": "mapped"}), out=tmp_path / "part")
    kept = next((tmp_path / "part" / "checkpoints").iterdir()) / "optimizer.safetensors"
    assert load_file(kept)["exp_avg/table"].abs().sum() > 0
    resumed = train(sampled(board, table={"name": "mapped"}), out=tmp_path / "part", resume=True)
    one, other = (load_file(run / "model.safetensors") for run in (whole, resumed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_mapped_and_dense_runs_end_alike(tmp_path):
    board = checkerboard(tmp_path / "board")
    runs = [
        train(
            sampled(board, table={"name": name}, init="normal", sparse_gradients=True),
            out=tmp_path / name,
        )
        for name in ("dense", "mapped")
    ]
    # The first values come from the same generator, and every row is in every batch here.
    assert losses_of(runs[0]) == pytest.approx(losses_of(runs[1]), rel=1e-5)
    assert load_run(runs[1]).model.item_vectors().shape == (20, 16)


def test_a_table_that_does_not_fit_the_disk_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"make room there, or choose another place"):
        MappedTable(MappedConfig(folder=tmp_path), 2**40, 1024, init_std=0.1)
    with pytest.raises(ConfigError, match="nowhere"):
        MappedTable(MappedConfig(folder=tmp_path / "nowhere"), 10, 4, init_std=0.1)
    assert not list(tmp_path.iterdir())


def test_files_written_block_by_block_are_safetensors(tmp_path):
    tensors = {
        "a": torch.randn(3, 5),
        "b": torch.arange(7, dtype=torch.int64),
        "c": torch.tensor(True),
        "d": torch.zeros(0, 4),
        "e": torch.arange(5, dtype=torch.uint8),
        "f": torch.randn(4, 6).T,
        "g": torch.randn(9).to(torch.float16),
        "large": torch.randn(5_000_000),
        "columns": torch.randn(3000, 3000)[:, :2000],
    }
    calls = []
    write_tensors(tmp_path / "file", tensors, after_block=lambda: calls.append(1))
    found = load_file(tmp_path / "file")
    assert found.keys() == tensors.keys() and len(calls) == 10
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_a_mapped_table_says_that_it_needs_linux(monkeypatch):
    monkeypatch.delattr("os.posix_fallocate")
    with pytest.raises(InstallationError, match="which Linux alone has; train there, or choose"):
        make("mapped", 10, 4)
