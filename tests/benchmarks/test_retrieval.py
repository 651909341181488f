"""The benchmark of first stages: what is built finds what it should, the fastest is chosen."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer

import recsys
from benchmarks.retrieval import frontier, ours
from benchmarks.retrieval.__main__ import left_out, vectors_of
from benchmarks.retrieval.measuring import measure_grid, measure_in_turns
from benchmarks.retrieval.memory import dropper
from benchmarks.retrieval.pool import Pool, WorkerError
from benchmarks.retrieval.sources import Trained
from benchmarks.retrieval.vectors import K, exact_lists, write_vectors
from benchmarks.retrieval.way import build_parts, build_seconds
from benchmarks.retrieval.ways import WAYS
from benchmarks.retrieval.worker import Worker, serve
from recsys.data.dataset import write_dataset
from tests.recipes.test_verbs import config, frame

N, DIM = 3000, 32


class Random:
    """Items and users of norm 1."""

    normalize, sizes, num_items = True, (8, 16, DIM), N

    def write_items(self, out):
        out[:] = unit(np.random.default_rng(0), N)

    def users(self, count):
        rng = np.random.default_rng(1)
        return unit(rng, count), unit(rng, count)


def unit(rng, count):
    drawn = rng.standard_normal((count, DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    return write_vectors(tmp_path_factory.mktemp("vectors"), Random(), {"num_items": N})


def best_of(vectors, way, **options):
    build_parts(vectors, way, 1)
    worker = Worker(vectors, way, 1)
    return worker.speed(way.grid[-1][-1] | options, "users", 0, 2)["recall@10"]


def test_the_lists_are_those_of_a_sorted_product(vectors):
    scores = vectors.users[:5] @ vectors.items.T
    assert (exact_lists(vectors.items, vectors.users[:5]) == np.argsort(-scores)[:, :K]).all()


@pytest.mark.parametrize("name", ["faiss-flat", "faiss-ivfpq2-fp16", "faiss-rabitq-fp16"])
def test_faiss_finds_everything_where_all_lists_are_visited_and_all_items_refined(vectors, name):
    assert best_of(vectors, WAYS[name], k_factor=N // K) > 0.999  # fp16 rounds


def test_ours_finds_everything_where_all_lists_are_visited_and_all_items_ranked(vectors):
    (way,) = [ours._way(replace(ours.OURS[0], kind="ivf,sq8", size=16, work=(N,), keeps=(N,)))]
    assert best_of(vectors, way) > 0.999  # fp16 rounds


def test_a_part_is_built_once_and_its_seconds_are_kept(vectors):
    way = WAYS["faiss-flat"]
    build_parts(vectors, way, 1)
    seconds = build_seconds(vectors, way)
    build_parts(vectors, way, 1)
    assert seconds == build_seconds(vectors, way) > 0


def test_a_part_from_elsewhere_is_used_and_its_seconds_are_unknown(vectors, tmp_path):
    way = replace(WAYS["faiss-flat"], parts=(replace(WAYS["faiss-flat"].parts[0], name="mine"),))
    (vectors.folder / "mine").symlink_to(tmp_path)
    build_parts(vectors, way, 1)
    assert np.isnan(build_seconds(vectors, way))
    assert list(tmp_path.iterdir()) == []


def test_a_worker_answers_each_line(vectors):
    build_parts(vectors, WAYS["faiss-flat"], 1)
    asked = [{"do": "memory"}, {"do": "latency", "point": {"k": K}, "count": 3, "cold": False}]
    answers = io.StringIO()
    lines = io.StringIO("".join(json.dumps(line) + "\n" for line in asked))
    serve(Worker(vectors, WAYS["faiss-flat"], 1), lines, answers)
    memory, latency = map(json.loads, answers.getvalue().splitlines())
    assert memory["resident"] == pytest.approx(4 * DIM * N, rel=0.01)
    assert len(latency["ms"]) == 3


def test_a_grid_is_measured_in_a_process_of_its_own(vectors):
    build_parts(vectors, WAYS["faiss-flat"], 1)
    pool = Pool(vectors, WAYS, 1)
    (row,) = measure_grid(pool, "faiss-flat")
    pool.close()
    assert row["tuned"]["recall@10"] == 1
    assert row["resident bytes"] == pytest.approx(4 * DIM, rel=0.01)


def test_a_process_that_ends_is_told_with_its_last_words(vectors):
    pool = Pool(vectors, WAYS, 1)
    with pytest.raises(WorkerError, match="faiss-hnsw"):
        pool.ask("faiss-hnsw-fp16", "memory")  # was not built


def test_ways_that_need_more_memory_or_another_package_are_left_out_with_the_reason(vectors):
    assert "--within" in left_out(vectors, WAYS["faiss-flat"], 1e-6)
    lacking = replace(WAYS["faiss-flat"], needs=("no_such_module", "no-such-package"))
    assert "pip install no-such-package" in left_out(vectors, lacking, None)


def test_vectors_that_stand_are_used_and_others_refused(vectors):
    assert vectors_of(None, None, False, None, vectors.folder) == vectors
    with pytest.raises(typer.BadParameter, match="choose another --folder"):
        vectors_of(N + 1, None, False, None, vectors.folder)
    with pytest.raises(typer.BadParameter, match="NUM_ITEMS"):
        vectors_of(None, None, False, None, vectors.folder / "empty")


def test_dropped_pages_are_read_again(tmp_path):
    np.save(tmp_path / "rows.npy", np.ones(1 << 20))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert rows.sum() == 1 << 20
    before = file_pages()
    dropper([tmp_path])()
    assert before - file_pages() > 1000
    assert rows.sum() == 1 << 20


def file_pages():
    return int(Path("/proc/self/statm").read_text().split()[2])


def test_vectors_of_a_run_are_its_items_and_two_groups_of_its_users(tmp_path):
    folder = write_dataset(tmp_path / "data", frame(), name="walks").folder
    run = recsys.train(config(folder, trainer={"epochs": 1}), out=tmp_path / "run")
    source = Trained(run)
    assert (source.sizes, source.num_items) == ((4, 8), 25)
    items = np.empty((25, 8), np.float32)
    source.write_items(items)
    trained = recsys.load_run(run).model.item_vectors().detach().numpy()
    norms = np.linalg.norm(trained, axis=1, keepdims=True) if source.normalize else 1
    np.testing.assert_allclose(items, trained / norms, rtol=1e-5)
    users = source.every_user(1)
    users /= np.linalg.norm(users, axis=1, keepdims=True) if source.normalize else 1
    measured, tuned = source.users(40)  # all of them
    np.testing.assert_allclose(measured, users[::2], rtol=1e-5)
    np.testing.assert_allclose(tuned, users[1::2], rtol=1e-5)
    with pytest.raises(ValueError, match="80 users, 82 are needed"):
        source.users(41)


def row(way, recall, speed, ms, resident):
    tuned = {"recall@10": recall, "queries/s": speed, "ms": ms}
    more = {"resident bytes": resident, "ours": way == "ours", "point": {"n": speed}}
    return {"way": way, "tuned": tuned, **tuned, **more}


ROWS = [
    row("ours", 0.96, 120, 3, 100),
    row("ours", 0.91, 200, 2, 100),
    row("large", 0.97, 100, 1, 400),
    row("small", 0.96, 50, 4, 80),
]


def test_points_that_another_beats_in_all_are_dominated():
    def figures(row):
        return row["recall@10"], row["queries/s"]

    assert frontier.undominated(ROWS, figures) == ROWS[:3]
    assert frontier.undominated([ROWS[0], dict(ROWS[0])], figures) == [ROWS[0]]


def test_points_are_measured_that_find_more_than_faster_ones_or_reach_a_target_first():
    slower = row("ours", 0.90, 199, 2, 100)
    low = row("ours", 0.5, 900, 1, 100)
    hardly = row("ours", 0.912, 150, 2.5, 100)
    assert frontier.worth_measuring([*ROWS, slower, low, hardly], 0.8) == ROWS
    first = row("ours", 0.95, 130, 2.9, 100)
    below = row("ours", 0.949, 140, 2.8, 100)
    found = frontier.worth_measuring([*ROWS, first, below], 0.8)
    assert found == [*ROWS, first, below]


def test_the_fastest_at_a_recall_is_chosen_by_tuning_users_and_compared_with_the_fastest_rival():
    batch = frontier.fastest(ROWS, 0.95, "batch")
    assert [(row["way"], row["times"]) for row in batch] == [
        ("ours", 1.2),
        ("large", 1.0),
        ("small", 0.5),
    ]
    single = frontier.fastest(ROWS, 0.90, "one user")
    assert [(row["way"], row["times"]) for row in single] == [
        ("large", 1.0),
        ("ours", 0.5),
        ("small", 0.25),
    ]


def test_a_verdict_holds_within_a_third_of_the_memory_or_ahead_in_the_same():
    by_use = {row["use"]: row for row in frontier.verdicts(ROWS) if row["recall >="] == 0.95}
    assert by_use["batch"]["times"] == 1.2  # 100 bytes of 400
    assert by_use["batch"]["times it"] == 2.4  # beside the rival of 80 bytes
    assert by_use["batch"]["holds"] == "yes"
    assert by_use["one user"]["times"] == pytest.approx(1 / 3)
    assert by_use["one user"]["holds"] == "yes"  # 4 / 3 beside the small one


def test_a_way_whose_process_ends_is_left_out_of_the_turns(vectors):
    build_parts(vectors, WAYS["faiss-flat"], 1)
    pool = Pool(vectors, WAYS, 1)
    rows = measure_grid(pool, "faiss-flat")
    lost = {**rows[0], "way": "faiss-hnsw-fp16"}  # was not built
    done, failed = measure_in_turns(pool, [*rows, lost], 1, 0)
    pool.close()
    assert [row["way"] for row in done] == ["faiss-flat"]
    assert done[0]["recall@10"] == 1 and len(done[0]["rounds"]) == 2
    assert "faiss-hnsw" in failed["faiss-hnsw-fp16"]
