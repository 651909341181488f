"""Items outlive killed workers, killed servers and new versions, and reach all workers."""

import os
import shutil
import signal
import threading
import time

import httpx
import pytest

import recsys
from tests.server.conftest import around
from tests.server.test_versions import STOPPED, Command, children

ASKED = {"history": ["film 3", "film 4"], "k": 100, "filter_seen": False}


class Writer(threading.Thread):
    """Puts and deletes items, one after the other, and remembers what was acknowledged."""

    def __init__(self, server, first):
        super().__init__()
        self.server, self.number, self.over = server, first, threading.Event()
        self.kept, self.gone, self.asked = [], [], set()

    def run(self):
        while not self.over.wait(0.02):  # else thousands of items slow a slow machine further
            name, self.number = f"n{self.number}", self.number + 1
            self.asked.add(name)
            body = {"features": {"place": around([self.number])[0].tolist()}}
            if self.done(httpx.put, name, json=body):
                self.kept.append(name)
                if self.number % 5 == 0 and self.done(httpx.delete, name):
                    self.gone.append(self.kept.pop())

    def done(self, call, name, **more):
        try:
            answer = call(f"{self.server.address}/v1/items/{name}", timeout=20, **more)
        except httpx.HTTPError:  # a worker was killed: nothing was acknowledged
            return False
        assert answer.status_code == 200, answer.text
        return True


def shown(server):
    """Item ids of the list that one of the workers gives."""
    answer = httpx.post(f"{server.address}/v1/recommend", json=ASKED, timeout=20).json()
    return answer["version"], {item["item_id"] for item in answer["items"]}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ps") is None, reason="no ps on this machine")
def test_no_acknowledged_item_is_lost_by_kills_and_swaps(content_shelf, tmp_path):
    place = tmp_path / "b"
    shutil.copytree(content_shelf, place, symlinks=True)
    options = ("--items", str(tmp_path / "items"), "limits.k=10000", "items.watch=0.05")
    server = Command(place, tmp_path / "log", "--workers", "2", *options)
    writer = Writer(server, 0)
    writer.start()
    try:
        server.wait(lambda: len(writer.kept) > 10)
        killed = children(server.process.pid)[0]
        os.kill(killed, signal.SIGKILL)
        server.wait(lambda: len(set(children(server.process.pid)) - {killed}) == 2)
        recsys.export(place, place, tiers="0:8:fp16:ram", stages="8")
        server.wait(lambda: server.serving() == {"v000002": 2})
        so_far = len(writer.kept)
        server.wait(lambda: len(writer.kept) > so_far + 10)
        workers = children(server.process.pid)
        for pid in (server.process.pid, *workers):  # in the middle of a write, as may be
            os.kill(pid, signal.SIGKILL)
    finally:
        writer.over.set()
        writer.join()
        server.process.kill()
        server.process.wait(30)
    again = Command(place, tmp_path / "log", "--workers", "2", *options)
    try:
        kept, gone = set(writer.kept), set(writer.gone)
        ASKED["k"] = 30 + len(writer.asked)
        for _ in range(20):  # by both workers
            version, found = shown(again)
            assert version == "v000002"
            assert kept <= found and not gone & found
            # Of what was asked for last, nobody was told: it may be there or not.
            assert len(found - kept - {f"film {n}" for n in range(30)}) <= 3
        answer = httpx.put(f"{again.address}/v1/items/last", json={"vector": [0.5] * 8})
        assert answer.status_code == 200
        time.sleep(1)  # 20 times the pause between two looks
        assert all("last" in shown(again)[1] for _ in range(20))
    finally:
        assert again.stop() in STOPPED
