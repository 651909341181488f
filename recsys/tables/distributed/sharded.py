"""Sharded tables by torchrec.

What is known of the engine, and heeded here (torchrec 1.8 on gloo):
- Bags of length one, not EmbeddingCollection, which corrupts memory with uneven column shards.
- Gradients of the table are divided by the number of processes; so is what the trainer averages.
- Row-wise sharding wants as many bags from every process: they are padded with empty ones.
- The update happens inside backward, so the rate must be set before it (`set_rate`), clipping never
  sees these gradients, and a step may look the table up once.
- Row-wise Adagrad keeps a sum for every row of every column shard: other cuts, other steps.

Shape legend: N rows, D embedding_dim, R rows requested, W processes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from recsys.errors import ConfigError, RunError
from recsys.extras import extra
from recsys.processes import current, ensure_group
from recsys.tables.distributed.plan import Shard, ShardedConfig, cut
from recsys.tables.distributed.row_exchange import RowExchange
from recsys.tables.distributed.shard_files import (
    Piece,
    Spread,
    load_spread,
    save_spread,
    saved_shapes,
)

with extra("shard"):
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        SplitTableBatchedEmbeddingBagsCodegen,
    )
    from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
    from torchrec.distributed.planner import EmbeddingShardingPlanner
    from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
    from torchrec.distributed.planner.types import (
        KernelConfig,
        ParameterConstraints,
        TopologyFactory,
        TrainerConfig,
    )
    from torchrec.distributed.types import (
        EmbeddingModuleShardingPlan,
        EnumerableShardingSpec,
        ParameterSharding,
        ShardingEnv,
        ShardMetadata,
    )
    from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
    from torchrec.modules.embedding_modules import EmbeddingBagCollection
    from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

_NAME = "rows"
_BLOCK = 1 << 14
"""Rows that are drawn at once when a table is first filled; a value is a function of its block."""
_OPTIMIZERS = {
    "sgd": EmbOptimType.EXACT_SGD,
    "adagrad": EmbOptimType.EXACT_ADAGRAD,
    "rowwise_adagrad": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
}


class ShardedTable(nn.Module):
    """`num_rows` vectors over all processes of the run; has no parameters for other optimizers."""

    def __init__(
        self,
        config: ShardedConfig,
        num_rows: int,
        embedding_dim: int,
        *,
        init_std: float,
        sizes: Sequence[int] = (),
    ) -> None:
        """Args:
            config: how it is cut and updated.
            num_rows: N.
            embedding_dim: D.
            init_std: standard deviation of the first values, which depend on torch's seed alone,
                not on how the table is cut.
            sizes: granularities, ascending; () is (D,).

        Raises:
            ConfigError: the table cannot be cut like that.
        """
        super().__init__()
        ensure_group()
        self.config, self.num_rows, self.embedding_dim = config, num_rows, embedding_dim
        self.processes = current()
        world_size, sizes = self.processes.world_size, tuple(sizes) or (embedding_dim,)
        if config.sharding == "auto":
            self.shards = _planned(num_rows, embedding_dim, world_size)
        else:
            self.shards = cut(config, num_rows, sizes, world_size)
        seed = int(torch.randint(1 << 40, ()))
        with torch.random.fork_rng(devices=[]):  # the engine draws first values that nobody wants
            engine = _build(config, num_rows, embedding_dim, self.shards)
        # Hidden from nn.Module: its parameters are not for the run's optimizer or state_dict.
        self._engine = (engine,)
        self._kernels = [
            module
            for looked_up in engine._lookups  # not among its modules()
            for module in looked_up.modules()
            if isinstance(module, SplitTableBatchedEmbeddingBagsCodegen)
        ]
        self.blocks, self._sums = self._parts(engine)
        self.exchange = RowExchange(self.shards, self.blocks, self.processes)
        self._fill(init_std, seed)

    def forward(self, rows: Tensor, *, size: int | None = None, sparse: bool = False) -> Tensor:  # noqa: ARG002
        """Vectors of rows; all processes call it together, each with rows of its own.

        With gradients enabled, backward updates the rows; without, only processes that hold the
        first `size` coordinates are asked.

        Args:
            rows: `[...]` int64.
            size: 1..D; None: D.
            sparse: not used: the gradient never leaves the engine.

        Returns:
            `[..., size]` float32.
        """
        size = self.embedding_dim if size is None else size
        flat = rows.reshape(-1)
        if not torch.is_grad_enabled():
            return self.exchange.read(flat, size).view(*rows.shape, size)
        number = self.processes.largest(len(flat))
        lengths = torch.zeros(number, dtype=torch.int64)
        lengths[: len(flat)] = 1
        bags = KeyedJaggedTensor(keys=[_NAME], values=flat, lengths=lengths)
        found: Tensor = self._engine[0](bags).values()
        return found[: len(flat), :size].view(*rows.shape, size)

    def vectors(self) -> Tensor:
        """`[N, D]`, all of them, on every process: for tables that fit into one.

        Raises:
            ConfigError: a gradient is wanted.
        """
        if torch.is_grad_enabled():
            raise ConfigError(
                "a loss over the whole catalogue would gather the sharded table in every step; "
                "use sampled_softmax or gbce, or model.table.name=dense"
            )
        found: Tensor = self(torch.arange(self.num_rows))
        return found

    @property
    def nbytes(self) -> int:
        """4 N D, over all processes."""
        return 4 * self.num_rows * self.embedding_dim

    def set_rate(self, share: float) -> None:
        """Before backward: the table's rate is this share of its peak."""
        for kernel in self._kernels:
            kernel.set_learning_rate(self.config.learning_rate * share)

    def save(self, folder: Path) -> None:
        """Writes weights and optimizer state into an empty folder; all processes call it."""
        save_spread(folder, {"weight": self._spread(self.blocks), **self._state()})

    def load(self, folder: Path) -> None:
        """Reads what any number of processes have saved, however they had cut the table.

        Sums of row-wise Adagrad are means over the columns of a shard: they are averaged where a
        shard is put together from several, and taken as they are where one is cut.

        Raises:
            RunError: it is another table's.
        """
        shapes = saved_shapes(folder)
        if shapes.get("weight") != (self.num_rows, self.embedding_dim):
            raise RunError(
                f"{folder} holds a table of the shape {shapes.get('weight')}, this one is "
                f"{(self.num_rows, self.embedding_dim)}; resume the run it belongs to"
            )
        load_spread(folder, {"weight": self._spread(self.blocks)})
        if self.config.optimizer == "adagrad":
            load_spread(folder, {"sum": self._spread(self._sums)})
        elif self.config.optimizer == "rowwise_adagrad":
            self._load_row_sums(folder, [name for name in shapes if name.startswith("sum/")])

    def _load_row_sums(self, folder: Path, names: list[str]) -> None:
        for shard, sums in self._sums.items():
            sums.zero_()
            for name in names:
                lo, hi = (int(edge) for edge in name.removeprefix("sum/").split("-"))
                common = min(hi, shard.end) - max(lo, shard.column)
                if common > 0:
                    part = torch.empty_like(sums)
                    load_spread(folder, {name: self._row_spread(shard.column, {shard: part})})
                    sums.add_(part, alpha=common / shard.width)

    def _state(self) -> dict[str, Spread]:
        """The optimizer's sums, by names that say which columns they are of."""
        if self.config.optimizer == "sgd":
            return {}
        if self.config.optimizer == "adagrad":
            return {"sum": self._spread(self._sums)}
        return {
            f"sum/{lo}-{hi}": self._row_spread(lo, self._sums)
            for lo, hi in sorted({(shard.column, shard.end) for shard in self.shards})
        }

    def _row_spread(self, column: int, sums: dict[Shard, Tensor]) -> Spread:
        """`[N]`: one number a row, of the shards that start at `column`."""
        pieces = {
            shard: Piece(shard.rank, (shard.row,), (shard.rows,))
            for shard in self.shards
            if shard.column == column
        }
        own = {pieces[shard]: sums[shard] for shard in pieces if shard in sums}
        return Spread((self.num_rows,), tuple(pieces.values()), own)

    def _spread(self, blocks: dict[Shard, Tensor]) -> Spread:
        pieces = {
            shard: Piece(shard.rank, (shard.row, shard.column), (shard.rows, shard.width))
            for shard in self.shards
        }
        own = {pieces[shard]: block for shard, block in blocks.items()}
        return Spread((self.num_rows, self.embedding_dim), tuple(pieces.values()), own)

    def _parts(self, engine: Any) -> tuple[dict[Shard, Tensor], dict[Shard, Tensor]]:
        """This process's weights `[rows, width]` and optimizer sums, as the kernels hold them."""
        sums: dict[int, Tensor] = {}
        for kernel in self._kernels:
            weights = kernel.split_embedding_weights()
            states = kernel.split_optimizer_states() if self.config.optimizer != "sgd" else []
            sums.update(
                {
                    weight.data_ptr(): state[0]
                    for weight, state in zip(weights, states, strict=False)
                }
            )
        blocks, own_sums = {}, {}
        for part in engine.state_dict()[f"embedding_bags.{_NAME}.weight"].local_shards():
            (row, column), (rows, width) = part.metadata.shard_offsets, part.metadata.shard_sizes
            shard = Shard(self.processes.rank, row, rows, column, width)
            blocks[shard] = part.tensor.detach()
            if part.tensor.data_ptr() in sums:
                own = sums[part.tensor.data_ptr()].detach()
                own_sums[shard] = own.view(rows, width) if own.numel() > rows else own.view(rows)
        return blocks, own_sums

    def _fill(self, init_std: float, seed: int) -> None:
        """First values: a block of rows is drawn from a seed of its own, wherever it stands."""
        first = min((shard.row for shard in self.blocks), default=0)
        last = max((shard.row_end for shard in self.blocks), default=0)
        for lo in range(first // _BLOCK * _BLOCK, last, _BLOCK):
            generator = torch.Generator().manual_seed(seed + lo // _BLOCK)
            drawn = torch.randn(_BLOCK, self.embedding_dim, generator=generator) * init_std
            for shard, block in self.blocks.items():
                start, end = max(lo, shard.row), min(lo + _BLOCK, shard.row_end)
                if start < end:
                    part = drawn[start - lo : end - lo, shard.column : shard.end]
                    block[start - shard.row : end - shard.row] = part

    @contextmanager
    def gathered(self, folder: Path) -> Iterator[Tensor]:
        """See `Sharded`; memory holds a block of rows at a time."""
        first = self.processes.first
        with tempfile.TemporaryFile(dir=folder) if first else nullcontext() as stream:
            whole = torch.empty(0, self.embedding_dim)
            if stream is not None:
                shape = (self.num_rows, self.embedding_dim)
                # Without it a full disk would kill the process at some later write.
                os.posix_fallocate(stream.fileno(), 0, 4 * self.num_rows * self.embedding_dim)
                whole = torch.from_numpy(np.memmap(stream, np.float32, "w+", shape=shape))
            with torch.no_grad():
                for lo in range(0, self.num_rows, _BLOCK):
                    rows = torch.arange(lo, min(lo + _BLOCK, self.num_rows))
                    found = self(rows if first else rows[:0])
                    if first:
                        whole[lo : lo + len(rows)] = found
            yield whole


def _build(config: ShardedConfig, num_rows: int, dim: int, shards: tuple[Shard, ...]) -> Any:
    """The engine: an EmbeddingBagCollection of one table, sharded as told."""
    plan = EmbeddingModuleShardingPlan()
    whole_rows = len({shard.row for shard in shards}) == 1
    kind = "row_wise" if not whole_rows else "column_wise"
    if len(shards) == 1:
        kind = "table_wise"
    plan[_NAME] = ParameterSharding(
        kind,
        "fused",
        [shard.rank for shard in shards],
        EnumerableShardingSpec(
            [
                ShardMetadata(
                    [shard.row, shard.column], [shard.rows, shard.width], f"rank:{shard.rank}/cpu"
                )
                for shard in shards
            ]
        ),
    )
    fused: dict[str, Any] = {
        "optimizer": _OPTIMIZERS[config.optimizer],
        "learning_rate": config.learning_rate,
        "eps": config.eps,
    }
    sharder = EmbeddingBagCollectionSharder(fused_params=fused)
    environment = ShardingEnv.from_process_group(dist.group.WORLD)
    return sharder.shard(_collection(num_rows, dim), plan, environment, torch.device("cpu"))


def _collection(num_rows: int, dim: int) -> Any:
    table = EmbeddingBagConfig(
        name=_NAME,
        num_embeddings=num_rows,
        embedding_dim=dim,
        feature_names=[_NAME],
        pooling=PoolingType.SUM,
    )
    return EmbeddingBagCollection(tables=[table], device=torch.device("meta"))


def _planned(num_rows: int, dim: int, world_size: int) -> tuple[Shard, ...]:
    """What torchrec's planner finds; on a CPU it knows no row-wise sharding."""
    planner = EmbeddingShardingPlanner(
        topology=TopologyFactory.create_topology(
            TrainerConfig(world_size=world_size), kernel_config=KernelConfig(compute_device="cpu")
        ),
        storage_reservation=FixedPercentageStorageReservation(0.1),
        constraints={
            _NAME: ParameterConstraints(
                sharding_types=["table_wise", "column_wise"], compute_kernels=["fused"]
            )
        },
    )
    plan = planner.plan(_collection(num_rows, dim), [EmbeddingBagCollectionSharder()])
    found = plan.plan[""][_NAME].sharding_spec.shards
    return tuple(
        Shard(part.placement.rank(), part.shard_offsets[0], part.shard_sizes[0],
              part.shard_offsets[1], part.shard_sizes[1])
        for part in found
    )  # fmt: skip
