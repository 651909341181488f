"""A push killed at any moment: acknowledged rows stay, and the alias leads to whole versions."""

import json

import pytest

from tests.forked import run
from tests.stores.bundles import params, write

MOMENTS = ("add:3:after", "finish:1:before", "switch:1:before", "switch:1:after", "time:0.03")
NUM_ITEMS = 210
PLACES = {"milvus": "milvus.db", "qdrant": "qdrant"}


def process(*words):
    return run("-m", "tests.stores.killed", *words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "store",
    params("duckdb", "sqlite-vec", "lancedb", "faiss", "usearch", "milvus", "qdrant", "pgvector"),
)
def test_a_kill_loses_nothing_and_leaves_the_alias_on_a_whole_version(store, tmp_path, request):
    place = request.getfixturevalue("server") if store == "pgvector" else None
    target = f"{store}:{place or tmp_path / PLACES.get(store, store)}"
    bundles = [
        write(tmp_path / f"bundle{seed}", seed, num_items=NUM_ITEMS)
        for seed in range(len(MOMENTS) + 1)
    ]
    log = tmp_path / "log"
    killed = 0
    for number, moment in enumerate((*MOMENTS, "none")):
        acknowledged = int(log.read_text()) if log.exists() else 0
        log.unlink(missing_ok=True)
        done = process(target, bundles[number], moment, log, *bundles[:number])
        assert done.stdout, f"after {MOMENTS[number - 1]}: {done.stderr[-3000:]}"
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["holds"], (moment, told)
        if number:
            before = MOMENTS[number - 1]
            assert told["same"] and told["written"] <= NUM_ITEMS - acknowledged, (before, told)
            led = told.get("bundle")
            if before.startswith("time"):  # the push may have been quicker
                assert led in (f"bundle{number - 2}", f"bundle{number - 1}")
            elif before == "switch:1:after":
                assert led == f"bundle{number - 1}"
            elif number > 1:
                assert led == f"bundle{number - 2}"
            else:
                assert told["current"] is None
        killed += done.returncode == -9
    assert killed >= 4


@pytest.mark.parametrize("store", params("milvus"))
@pytest.mark.parametrize("left", [0, 100])
def test_index_files_of_milvus_lite_that_a_kill_tore_are_made_again(store, left, tmp_path):
    bundle = write(tmp_path / "bundle", num_items=NUM_ITEMS)
    target, log = f"{store}:{tmp_path / PLACES[store]}", tmp_path / "log"
    assert process(target, bundle, "none", log).returncode == 0
    process(target, bundle, "none", log, bundle)  # loads it, which writes the index files
    torn = [path for path in tmp_path.rglob("*.idx") if path.stat().st_size]
    for path in torn:
        path.write_bytes(path.read_bytes()[:left])
    done = process(target, bundle, "none", log, bundle)
    assert done.stdout, done.stderr[-3000:]
    assert torn and json.loads(done.stdout.splitlines()[-1])["holds"]
