"""Models that read time: what follows depends on nothing but how long somebody was away."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.errors import ConfigError, DataError, ProtocolError
from recsys.recipes.training.cut import cut
from recsys.server.answering.answers import Answering
from recsys.server.answering.served import Served
from recsys.server.answering.stock import Stock
from recsys.server.settings import Limits
from recsys.server.web.schemas import RecommendRequest

RING, SHORT, LONG = 61, 60, 10**6
START = 10**9
SMALL = [
    "model.granularities.sizes=[8, 16]", "model.history_length=8", "threads=1",
    "model.history_dropout=0", "batching.batch_tokens=256", "protocol=request-time",
    "trainer.optimizer.learning_rate=0.02", "trainer.optimizer.warmup_steps=0",
    "loss={name: softmax, distillation: 0}", "model.encoder.dropout=0",
]  # fmt: skip


def visits(num_users=150, steps=10):
    """Whoever comes back at once goes one step on, others seven; a ring of items."""
    rng = np.random.default_rng(0)
    at_once = rng.integers(0, 2, (num_users, steps)).astype(bool)
    places = rng.integers(0, RING, num_users)[:, None] + np.where(at_once, 1, 7).cumsum(1)
    times = START + np.where(at_once, SHORT, LONG).cumsum(1)
    users = np.repeat(np.arange(num_users), steps)
    return pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in users],
            "item_id": [f"i{place}" for place in (places % RING).ravel()],
            "timestamp": times.ravel(),
        }
    )


@pytest.fixture(scope="module")
def data():
    return recsys.Dataset.from_frame(visits(), time="timestamp")


@pytest.fixture(scope="module")
def fitted(data):
    """`fitted(name, time)`: trained once."""
    made = {}

    def of(name, time):
        if (name, time) not in made:
            overrides = [*SMALL, "model.encoder.nested=true", f"model.time={time}"]
            if time == "request":
                overrides.append("model.gap_vectors=true")
            made[name, time] = recsys.fit(
                data, name, overrides, epochs=16 if time == "request" else 8
            )
        return made[name, time]

    return of


def ndcg(model, data):
    table = recsys.evaluate(model, data, ks=(1,), with_baselines=False)
    assert table.card.request_time.startswith("known")
    rows = table.rows.filter(metric="ndcg", k=1, segment="all")
    return dict(rows.select("granularity", "value").iter_rows())


@pytest.mark.parametrize("name", ["sasrec", "hstu", "fuxi"])
def test_the_time_of_the_request_tells_what_comes_next(name, data, fitted):
    known = ndcg(fitted(name, "request"), data)
    assert known[16] > 0.85 and known[8] > 0.75
    if name == "hstu":  # one of two, and no way to know which
        assert ndcg(fitted(name, "history"), data)[16] < 0.65


def test_recommendations_follow_the_moment_that_is_named(fitted, tmp_path):
    model = fitted("hstu", "request")
    model.save(tmp_path / "run")
    recsys.export(tmp_path / "run", tmp_path / "out", tiers="0:8:fp32:ram,8:16:fp32:mmap")
    recsys.export(tmp_path / "out", tmp_path / "again", tiers="0:16:fp16:ram")
    bundle, again = recsys.load(tmp_path / "out"), recsys.load(tmp_path / "again")
    served = Served(tmp_path / "out", verify=True, threads=1, shared=False)
    answering = Answering(Stock(served), Limits(), lambda *_: None)
    last = visits().group_by("user_id", maintain_order=True).last()
    user, item, seconds = last.row(3)
    frame = visits().filter(user_id=user)
    for gap, steps in ((SHORT, 1), (LONG, 7)):
        at, wanted = seconds + gap, f"i{(int(item[1:]) + steps) % RING}"
        for source in (model, bundle, again):
            moment = datetime.fromtimestamp(at, UTC)
            known = source.recommend([user], k=1, at=moment, filter_seen=False)
            guest = source.recommend(histories=frame, k=1, at=at, filter_seen=False)
            assert known["item_id"].to_list() == guest["item_id"].to_list() == [wanted]
        asked = {"k": 1, "at": at, "filter_seen": False}
        own = {"history": frame["item_id"].to_list(), "times": frame["timestamp"].to_list()}
        for person in ({"user": user}, own):
            (answer,) = answering.recommend([RecommendRequest(**asked, **person)])
            assert [each["item_id"] for each in answer["items"]] == [wanted]
    pairs = [(user, f"i{(int(item[1:]) + steps) % RING}") for steps in (1, 7)]
    for source in (model, bundle):
        near, far = (source.score(pairs, at=seconds + gap)["score"] for gap in (SHORT, LONG))
        assert near[0] > near[1] and far[0] < far[1]
    untimed = {"history": frame["item_id"].to_list(), "k": 1}
    (answer,) = answering.recommend([RecommendRequest(**untimed)])
    assert isinstance(answer, DataError) and "give `times`" in str(answer)
    for source in (model, bundle):
        with pytest.raises(DataError, match="a frame with the columns user_id, item_id and time"):
            source.recommend(histories={"guest": ["i1"]})
        with pytest.raises(ConfigError, match="at is 'soon'; a moment is expected"):
            source.recommend([user], at="soon")
    with pytest.raises(ValueError, match="1 times are given for 2 items"):
        RecommendRequest(history=["i1", "i2"], times=[3])


@pytest.mark.parametrize("name", ["sasrec", "hstu", "fuxi"])
def test_a_smaller_model_is_cut_out_of_one_that_reads_time(name, fitted, tmp_path):
    whole = fitted(name, "request")
    cut(whole.save(tmp_path / "run"), tmp_path / "small", granularity=8)
    small = recsys.load(tmp_path / "small")
    users = [f"u{user}" for user in range(20)]
    mine = small.user_vectors(users, at=START + 10**8)[1]
    prefixes = whole.user_vectors(users, granularity=8, at=START + 10**8)[1]
    np.testing.assert_allclose(mine, prefixes, atol=1e-5)


def test_a_protocol_that_tells_no_time_refuses_who_reads_it(data, fitted):
    refused = r"protocol s3rec does not tell; choose one that does \(request-time, "
    with pytest.raises(ConfigError, match=refused):
        recsys.fit(data, "hstu", ["model.time=request", "protocol=s3rec"])
    with pytest.raises(ProtocolError, match="does not tell"):
        recsys.evaluate(fitted("hstu", "request"), data, protocol="s3rec", with_baselines=False)
    untold = recsys.fit(data, "popularity")
    told = recsys.fit(data, "popularity", protocol="request-time")
    tables = [recsys.evaluate(each, data, with_baselines=False) for each in (untold, told)]
    differences = tables[0].card.differences(tables[1].card)
    assert any(line.startswith("request_time: 'not told to models'") for line in differences)
    timeless = recsys.Dataset.from_frame(visits().drop("timestamp"), order="given")
    with pytest.raises(DataError, match=r"reads time, and .* has no timestamps"):
        recsys.fit(timeless, "hstu")
