"""`recsys serve` as a process, for benchmarks."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx


class Serving:
    """`recsys serve` in processes of its own."""

    def __init__(
        self, bundle: Path, folder: Path, workers: int, *settings: str, python: str = sys.executable
    ) -> None:
        """Starts it, and waits until it is ready.

        Args:
            bundle: to serve.
            folder: where its log goes, and where it runs: what is installed is imported there.
            workers: processes.
            settings: KEY=VALUE of `recsys serve`.
            python: of the environment that it runs in.

        Raises:
            RuntimeError: it ends before it is ready.
        """
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.address, self.log = f"http://127.0.0.1:{self.port}", folder / "log"
        command = [python, "-m", "recsys", "serve", str(bundle.resolve())]
        command += ["--port", str(self.port)]
        command += ["--workers", str(workers), "logs=false", *settings]
        # The tree's own code in this environment, what is installed in another one.
        own = python == sys.executable
        place = Path.cwd() if own else folder
        environment = {k: v for k, v in os.environ.items() if own or k != "PYTHONPATH"}
        start = time.perf_counter()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=place, env=environment
            )
        while not self._ready():
            time.sleep(0.05)
        self.start_seconds = time.perf_counter() - start

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(self.log.read_text())
        try:
            return httpx.get(f"{self.address}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def pids(self) -> list[int]:
        """Of the workers; of the server itself, where it works alone."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        names = {int(each): Path(f"/proc/{each}/cmdline").read_bytes() for each in children}
        workers = [each for each, name in names.items() if b"spawn_main" in name]
        return workers or [pid]

    def wait_for(self, workers: int) -> None:
        """Waits until as many work again; the server looks for killed ones now and then.

        Raises:
            RuntimeError: they do not come back.
        """
        for _ in range(120):
            if len(self.pids()) == workers and self._ready():
                return
            time.sleep(0.5)
        raise RuntimeError(f"{len(self.pids())} of {workers} workers: {self.log.read_text()}")

    def megabytes(self) -> float:
        """Memory of all workers, what they share counted once."""
        texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids()]
        sizes = [int(size) for text in texts for size in re.findall(r"^Pss: +(\d+)", text, re.M)]
        return sum(sizes) / 1024

    def cpu_seconds(self) -> float:
        """Of all its processes so far."""
        ticks = 0
        for pid in {self.process.pid, *self.pids()}:
            told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(told[11]) + int(told[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def maps(self, word: str) -> bool:
        """Whether a process has a file mapped whose path holds a word."""
        return any(word in Path(f"/proc/{pid}/maps").read_text() for pid in self.pids())

    def stop(self) -> None:
        """Ends it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
