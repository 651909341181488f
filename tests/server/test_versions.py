"""New versions are swapped in while requests run, bad ones refused, killed workers replaced."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import httpx
import pytest

import recsys
from recsys.retrieval.bundle.versions import point_to
from recsys.server.settings import ServerSettings
from recsys.server.versions import Versions
from recsys.server.web.metrics import Metrics

STOPPED = (0, -signal.SIGTERM)
"""Exit codes: uvicorn ends by the signal that it was sent."""
ASKED = {"history": ["film 3", "film 4"], "k": 5}


@pytest.fixture
def place(shelf, tmp_path):
    """A shelf of its own, with one version."""
    shutil.copytree(shelf, tmp_path / "b", symlinks=True)
    return tmp_path / "b"


def damage(place, version):
    path = place / version / "items" / "0000-0004-fp32" / "values"
    flipped = bytearray(path.read_bytes())
    flipped[7] ^= 1
    path.write_bytes(flipped)


def publish(place, tiers="0:8:fp16:ram"):
    return recsys.export(place, place, tiers=tiers, stages="8").name


def test_a_new_version_serves_and_a_bad_one_is_refused(place):
    versions = Versions(ServerSettings(bundle=place, threads=1), Metrics())
    versions.open()
    assert not versions.renew()
    assert publish(place) == "v000002"
    assert versions.renew()
    assert versions.served.version == "v000002"
    publish(place, "0:4:fp32:ram,4:8:fp16:ram")
    damage(place, "v000003")
    for _ in range(2):  # and it is not read again at each look
        assert not versions.renew()
        assert versions.served.version == "v000002"
    value = versions.metrics.registry.get_sample_value
    assert value("recsys_swaps_total", {"result": "refused"}) == 1
    assert value("recsys_swaps_total", {"result": "swapped"}) == 1
    assert value("recsys_workers", {"version": "v000001"}) == 0
    assert value("recsys_workers", {"version": "v000002"}) == 1
    point_to(place, "v000001")
    assert versions.renew()


def test_a_version_serves_on_when_its_files_are_gone(place, answering):
    versions = Versions(ServerSettings(bundle=place, threads=1), Metrics())
    versions.open()
    shutil.rmtree(place / "v000001")
    assert not versions.renew()
    from recsys.server.web.schemas import RecommendRequest, SimilarRequest

    stages = RecommendRequest(history=["film 3"], stages="4:9,8", k=5, columns=["title"])
    assert versions.answering.recommend([stages, RecommendRequest(user="u3")])[0]["items"]
    (found,) = versions.answering.similar([SimilarRequest(item="film 3")])
    assert found["items"] == answering.similar([SimilarRequest(item="film 3")])[0]["items"]


def test_a_worker_that_begins_while_a_bad_version_is_current_serves_the_last_good_one(
    place, tmp_path, monkeypatch
):
    monkeypatch.setenv("RECSYS_SERVER_SHARED", str(tmp_path))
    settings = ServerSettings(bundle=place, threads=1)
    Versions(settings, Metrics()).open()
    publish(place, "0:4:fp32:ram,4:8:fp16:ram")
    damage(place, "v000002")
    later = Versions(settings, Metrics())
    later.open()
    assert later.served.version == "v000001"
    assert not later.renew()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Command:
    """`recsys serve` as a process of its own."""

    def __init__(self, place, log, *options):
        self.port, self.log = free_port(), log
        command = [sys.executable, "-m", "recsys", "serve", str(place), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "threads=1", "watch=0.1", *options],
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
        )
        self.address = f"http://127.0.0.1:{self.port}"
        self.wait(lambda: httpx.get(f"{self.address}/readyz").status_code == 200)

    def wait(self, done):
        for _ in range(1200):
            assert self.process.poll() is None, self.log.read_text()
            try:
                if done():
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def serving(self):
        """Version -> workers."""
        lines = httpx.get(f"{self.address}/metrics").text.splitlines()
        found = (
            line.removeprefix('recsys_workers{version="').split('"} ')
            for line in lines
            if line.startswith("recsys_workers{")
        )
        return {version: int(float(count)) for version, count in found if float(count)}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def children(pid):
    found = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid=,args=", "-ww"], capture_output=True, text=True
    )
    lines = [line.split(None, 1) for line in found.stdout.splitlines()]
    return [int(child) for child, told in lines if "spawn_main" in told]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ps") is None, reason="no ps on this machine")
def test_no_request_fails_while_versions_change_and_a_worker_is_killed(place, tmp_path):
    server = Command(place, tmp_path / "log", "--workers", "2")
    over, counts, wrong = threading.Event(), Counter(), []

    def ask():
        while not over.is_set():
            try:
                answer = httpx.post(f"{server.address}/v1/recommend", json=ASKED, timeout=20)
            except httpx.HTTPError as error:
                wrong.append(repr(error))
                continue
            counts[answer.json().get("version")] += 1
            if answer.status_code != 200 or len(answer.json()["items"]) != 5:
                wrong.append(answer.text)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        server.wait(lambda: server.serving() == {"v000001": 2})
        publish(place)
        server.wait(lambda: server.serving() == {"v000002": 2})
        bad = tmp_path / "bad"  # damaged before a worker can look at it
        recsys.export(place, bad, tiers="0:4:fp32:ram,4:8:fp16:ram", stages="8")
        damage(bad, "v000001")
        shutil.copytree(bad / "v000001", place / "v000003")
        point_to(place, "v000003")
        server.wait(
            lambda: (
                server.log.read_text().count("is refused") >= 2
                or server.serving() != {"v000002": 2}
            )
        )
        point_to(place, "v000002")
        assert wrong == []
        killed = children(server.process.pid)[0]
        os.kill(killed, signal.SIGKILL)
        server.wait(lambda: len(set(children(server.process.pid)) - {killed}) == 2)
        server.wait(lambda: server.serving() == {"v000002": 2})
        time.sleep(0.3)
    finally:
        over.set()
        for thread in threads:
            thread.join()
        code = server.stop()
    assert code in STOPPED
    assert len(wrong) <= 3  # what the killed worker had open
    assert counts["v000001"] and counts["v000002"]
    assert "v000003" not in counts
    assert sum(counts.values()) > 20
    for line in server.log.read_text().splitlines():
        json.loads(line)


@pytest.mark.slow
def test_half_open_connections_starve_nobody_and_stopping_waits_for_answers(place, tmp_path):
    server = Command(place, tmp_path / "log")
    slow = []
    for _ in range(100):
        slow.append(socket.create_connection(("127.0.0.1", server.port)))
        slow[-1].sendall(b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{")
    for _ in range(20):
        assert httpx.post(f"{server.address}/v1/recommend", json=ASKED).status_code == 200
    for each in slow:
        each.close()
    assert server.stop() in STOPPED
