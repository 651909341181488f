"""Feed files: their own vectors give the funnel's lists, and the texts beside them fit."""

import json

import numpy as np
import pytest

import recsys
from recsys.retrieval.bundle.loading import load_bundle
from recsys.stores.checking import check_store
from recsys.stores.feeds.redis_feed import two_stages
from recsys.stores.plan import make_plan
from recsys.stores.pushing import version_for, write_version
from recsys.stores.store import open_store
from tests.stores.bundles import FEEDS, NUM_ITEMS, write


def of_vespa(text):
    for line in text.splitlines():
        fields = json.loads(line)["fields"]
        yield fields["item_id"], fields["prefix"], fields["full"]


def of_bulk(text):
    lines = text.splitlines()
    for head, line in zip(lines[::2], lines[1::2], strict=True):
        document = json.loads(line)
        assert json.loads(head) == {"index": {"_id": str(document["item_index"])}}
        yield document["item_id"], document["prefix"], document["full"]


class FromFeed:
    """Searches what a feed holds, plainly."""

    def __init__(self, rows):
        ids, prefix, full = zip(*rows, strict=True)
        self.ids = np.array(ids, object)
        self.prefix, self.full = (np.array(each, np.float32) for each in (prefix, full))

    def search(self, version, query, k):
        plan = version.plan
        left = np.flatnonzero(~np.isin(self.ids, list(query.excluded)))
        near = self.prefix[left] @ query.user[: plan.prefix]
        left = left[np.argsort(-near, kind="stable")[: plan.keep]]
        scores = self.full[left] @ query.user
        best = np.argsort(-scores, kind="stable")[:k]
        return [(self.ids[left[place]], float(scores[place])) for place in best]

    def rank(self, version, query, items):
        raise NotImplementedError


def words_of(data):
    """Commands of a Redis feed, as a server reads them."""
    place = 0

    def number(mark):
        nonlocal place
        end = data.index(b"\r\n", place)
        assert data[place : place + 1] == mark
        value, place = int(data[place + 1 : end]), end + 2
        return value

    while place < len(data):
        words = []
        for _ in range(number(b"*")):
            length = number(b"$")
            words.append(data[place : place + length])
            assert data[place + length : place + length + 2] == b"\r\n"
            place += length + 2
        yield words


def of_hashes(data):
    for command, _key, *fields in words_of(data):
        assert command == b"HSET"
        told = dict(zip(fields[::2], fields[1::2], strict=True))
        vectors = (np.frombuffer(told[name], "<f4") for name in (b"prefix", b"full"))
        yield told[b"item_id"].decode(), *vectors


@pytest.mark.parametrize("store", FEEDS)
@pytest.mark.parametrize("normalize", [False, True])
def test_a_feed_gives_the_lists_of_the_funnel(store, normalize, tmp_path):
    opened = load_bundle(write(tmp_path / "bundle", normalize=normalize))
    feed = open_store(f"{store}:{tmp_path / 'feed'}", "items")
    version = version_for(feed, "items", make_plan(opened, "16:60,32"))
    assert write_version(feed, version, opened) == NUM_ITEMS
    feed.switch(version.name)
    parts = sorted((tmp_path / "feed" / "items").glob("feed-*"))
    assert len(parts) == 3
    data = b"".join(part.read_bytes() for part in parts)
    if store == "redis":
        rows = list(of_hashes(data))
    else:
        rows = list((of_vespa if store == "vespa" else of_bulk)(data.decode()))
    assert check_store(FromFeed(rows), version, opened, 30).identical == 30
    feed.close()


@pytest.mark.parametrize("store", FEEDS)
def test_a_feed_goes_on_behind_the_parts_that_are_whole(store, bundle, tmp_path):
    done = recsys.push(bundle, f"{store}:{tmp_path}")
    (tmp_path / done.version / "LOAD.txt").unlink()
    sorted((tmp_path / done.version).glob("feed-*"))[-1].unlink()
    again = recsys.push(bundle, f"{store}:{tmp_path}")
    assert again.written == 500 and again.version == done.version
    assert done.version in (tmp_path / "items" / "LOAD.txt").read_text()


def test_texts_of_vespa_name_version_and_stages(bundle, tmp_path):
    done = recsys.push(bundle, f"vespa:{tmp_path}", index="hnsw", stages="16:60,32")
    folder = tmp_path / done.version
    schema = (folder / f"{done.version}.sd").read_text()
    assert schema.count("{") == schema.count("}")
    assert f"schema {done.version} " in schema and "rerank-count: 60" in schema
    assert "attribute | index" in schema and "tensor<float>(x[16])" in schema
    query = json.loads((folder / "query.json").read_text())
    assert "targetHits: 60}nearestNeighbor" in query["yql"]
    assert len(query["input.query(full)"]) == 32


@pytest.mark.parametrize("store", ["opensearch", "elasticsearch"])
@pytest.mark.parametrize("index", ["exact", "hnsw"])
def test_texts_of_search_engines_fit_each_other(store, index, bundle, tmp_path):
    done = recsys.push(bundle, f"{store}:{tmp_path}", index=index, stages="16:60,32")
    tree = {
        name: json.loads((tmp_path / done.version / f"{name}.json").read_text())
        for name in ("index", "query", "alias")
    }
    fields = tree["index"]["mappings"]["properties"]
    size = "dimension" if store == "opensearch" else "dims"
    assert (fields["prefix"][size], fields["full"][size]) == (16, 32)
    assert fields["item_id"] == {"type": "keyword"}
    assert tree["query"]["rescore"]["window_size"] == 60
    assert tree["alias"]["actions"][1] == {"add": {"index": done.version, "alias": "items"}}
    assert "SEEN" in json.dumps(tree["query"]["query"])


def test_the_query_of_redis_escapes_ids_and_reads_the_answer():
    asked = []

    class Client:
        def execute_command(self, *words):
            asked.append(words)
            return [1, b"items:7", [b"distance", b"-2.5", b"item_id", b"it's 1"]]

    hits = two_stages(Client(), "items", np.ones(32, np.float32), ["a-b", "c"], (16, 60, 32), 10)
    assert hits == [("it's 1", 3.5)]
    assert asked[0][2] == r"(-@item_id:{a\-b|c})=>[KNN 60 @prefix $vector AS distance]"
    assert asked[1][2] == r"(@item_id:{it\'s\ 1})=>[KNN 10 @full $vector AS distance]"
    assert len(asked[0][6]) == 64 and len(asked[1][6]) == 128
