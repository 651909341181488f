"""Training on two hosts, both of them this machine: two torchrun agents that meet on loopback.

    python examples/two_hosts.py [FOLDER]

On real hosts the command is the same, with the name of one of them instead of 127.0.0.1, started
on each; see docs/cluster.md. Makes its own small data set; takes about a minute.
"""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

import recsys
from data_prep import PrepareOptions, SyntheticOptions, prepare

HOSTS, PROCESSES = 2, 1
"""Agents, and processes of each."""
CONFIG = {
    "threads": 1,
    "model": {
        "granularities": {"sizes": [8, 16, 32]},
        "table": {"name": "sharded", "sharding": "tier_aligned", "optimizer": "rowwise_adagrad"},
    },
    "trainer": {"epochs": 3},
}


def main(folder: Path) -> Path:
    """Prepares, trains on two hosts, evaluates on one; returns the run folder."""
    sizes = SyntheticOptions(num_users=300, num_items=200, num_interactions=4_000, seed=1)
    dataset = prepare("synthetic", PrepareOptions(synthetic=sizes), out=folder / "data")
    config, run = folder / "config.yaml", folder / "run"
    config.write_text(yaml.safe_dump({**CONFIG, "data": str(dataset.folder)}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", f"--nnodes={HOSTS}"),
        *(f"--nproc_per_node={PROCESSES}", "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}"),
        *("--rdzv-id=two-hosts", "--local-addr=127.0.0.1"),
        *("-m", "recsys", "train", str(config), "--out", str(run), "--resume"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    agents = [subprocess.Popen(command, env=environment) for _ in range(HOSTS)]
    codes = [agent.wait() for agent in agents]
    if any(codes):
        raise SystemExit(f"the agents ended with {codes}")
    table = recsys.evaluate(run, with_baselines=False)
    print(f"{HOSTS} hosts, {HOSTS * PROCESSES} processes: ndcg@10 {table.value('ndcg', 10):.4f}")
    return run


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="recsys-")))
