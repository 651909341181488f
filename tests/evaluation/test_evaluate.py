import math

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.dataset import SplitRule, write_dataset
from recsys.data.histories import Histories
from recsys.data.splitting import make_split
from recsys.errors import DataError, GranularityError, ProtocolError, RunError
from recsys.evaluation.evaluate import EvaluationOptions, RankingOptions, evaluate, rank_held_out
from recsys.evaluation.held_out import fit_histories
from recsys.evaluation.metrics import MISS
from recsys.evaluation.protocol import PROTOCOLS
from recsys.evaluation.ranking import make_scorer as scoring
from recsys.evaluation.ranking.compiled import CompiledRanking
from recsys.evaluation.recommend import recommend
from recsys.granularity import Granularities
from recsys.kernels import ranking
from recsys.reports.words import card_lines
from tests.evaluation.ranking.naive import (
    FixedScores,
    dense_scores,
    integer_vectors,
    metrics_of,
    random_dataset,
    rank_of,
    top_items,
)

KS = (1, 3, 10)
BUDGETS = (1, 700, 4000, 64 << 20)  # one score at a time ... everything in one block
CASES = [("s3rec", "test"), ("fmrlrec", "test"), ("s3rec", "valid"), ("global-time", "test")]


@pytest.fixture(params=[True, False], ids=["compiled", "torch"], autouse=True)
def way(request, monkeypatch):
    """Both ways of ranking vectors: they have to give the same figures."""
    monkeypatch.setattr(scoring, "can_compile", lambda items: request.param)


def users_of(dataset, split, part):
    """(user, history, targets) of everyone who can be measured."""
    lo, hi = split.targets(part)
    for user in range(dataset.num_users):
        history = dataset.items[split.start[user] : lo[user]].tolist()
        targets = sorted(set(dataset.items[lo[user] : hi[user]].tolist()))
        if history and targets:
            yield user, history, targets


def naive_ranks(dataset, split, part, scores, filter_seen):
    for user, history, targets in users_of(dataset, split, part):
        hidden = set(history) if filter_seen else set()
        yield [rank_of(scores[user], target, hidden) for target in targets]


@pytest.fixture(params=CASES, ids="-".join)
def case(request, tmp_path):
    protocol, part = PROTOCOLS[request.param[0]], request.param[1]
    dataset = random_dataset(tmp_path / "data", split=protocol.split)
    return dataset, make_split(dataset), protocol, part


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("extras", [True, False], ids=["lists", "fast"])
def test_every_granularity_equals_a_naive_dense_loop(case, budget, extras):
    dataset, split, protocol, part = case
    model = integer_vectors(dataset.num_users, dataset.num_items)
    table = evaluate(
        model,
        dataset,
        split,
        protocol=protocol,
        part=part,
        ks=KS,
        options=EvaluationOptions(extras=extras, ranking=RankingOptions(budget_bytes=budget)),
    )
    for size in model.granularities.sizes:
        scores = dense_scores(model, size)
        ranks = list(naive_ranks(dataset, split, part, scores, protocol.filter_seen))
        for k in KS:
            users = [metrics_of(user, k) for user in ranks]
            for metric in users[0] if extras else ("recall", "ndcg"):
                expected = np.mean([user[metric] for user in users])
                assert table.value(metric, k, size) == pytest.approx(expected), (metric, k, size)
    assert table.rows["num_users"].max() == len(ranks)


@pytest.mark.parametrize("normalize", [False, True], ids=["dot", "cosine"])
def test_block_sizes_leave_the_whole_table_as_it_is(case, normalize):
    dataset, split, protocol, part = case
    model = integer_vectors(dataset.num_users, dataset.num_items, normalize=normalize)
    first, *others = (
        evaluate(
            model,
            dataset,
            split,
            protocol=protocol,
            part=part,
            ks=KS,
            options=EvaluationOptions(ranking=RankingOptions(budget_bytes=budget)),
        )
        for budget in BUDGETS
    )
    for other in others:
        assert other.rows.equals(first.rows)


def test_cosine_scores_equal_the_dense_loop(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    split = make_split(dataset)
    model = integer_vectors(dataset.num_users, dataset.num_items, normalize=True)
    torch.manual_seed(0)
    model.users, model.items = torch.randn_like(model.users), torch.randn_like(model.items)
    table = evaluate(model, dataset, split, protocol=PROTOCOLS["s3rec"], part="test", ks=KS)
    for size in model.granularities.sizes:
        ranks = naive_ranks(dataset, split, "test", dense_scores(model, size), True)
        expected = np.mean([metrics_of(user, 10)["ndcg"] for user in ranks])
        assert table.value("ndcg", 10, size) == pytest.approx(expected)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(BUDGETS), st.booleans())
def test_ranks_by_counting_equal_ranks_from_lists(tmp_path_factory, seed, budget, filter_seen):
    folder = tmp_path_factory.mktemp("data") / "d"
    dataset = random_dataset(folder, seed, 12, 30, split="leave-last-out")
    split = make_split(dataset)
    model = integer_vectors(dataset.num_users, dataset.num_items, seed=seed)
    options = {"part": "test", "filter_seen": filter_seen, "ks": (5,)}
    options["options"] = RankingOptions(budget_bytes=budget)
    try:
        counted = rank_held_out(model, dataset, split, **options)
    except DataError:  # nobody drew a history of three
        return
    listed = rank_held_out(model, dataset, split, lists=True, **options)
    assert counted.counts is None
    assert listed.counts is not None
    np.testing.assert_array_equal(np.where(counted.ranks > 5, MISS, counted.ranks), listed.ranks)


def test_recommended_items_are_counted_as_in_the_naive_loop(case):
    dataset, split, protocol, part = case
    model = integer_vectors(dataset.num_users, dataset.num_items)
    ranking = rank_held_out(
        model,
        dataset,
        split,
        part=part,
        filter_seen=protocol.filter_seen,
        ks=KS,
        lists=True,
        options=RankingOptions(budget_bytes=900),
    )
    for g, size in enumerate(model.granularities.sizes):
        scores = dense_scores(model, size)
        for column, k in enumerate(KS):
            expected = np.zeros(dataset.num_items, int)
            for user, history, _ in users_of(dataset, split, part):
                hidden = set(history) if protocol.filter_seen else set()
                expected[top_items(scores[user], hidden, k)] += 1
            np.testing.assert_array_equal(ranking.counts[g, column], expected)


@pytest.mark.parametrize("k", [1, 7, 400])
@pytest.mark.parametrize("budget", [40_000, 64 << 20])
def test_lists_of_a_wide_catalogue_equal_sorting_it(k, budget):
    model = integer_vectors(9, 300)
    model.items[::7] = torch.arange(43 * 7).reshape(43, 7) / 64  # far from ties, still exact
    random = np.random.default_rng(0)
    offsets = np.arange(0, 10 * 60, 60)
    histories = Histories(np.arange(9), random.integers(0, 300, 540).astype(np.int32), offsets)
    for filter_seen in (False, True):
        lists = recommend(model, histories, 300, k=k, filter_seen=filter_seen, budget_bytes=budget)
        scores = dense_scores(model, 7)
        for row in range(9):
            history = histories.items[row * 60 : row * 60 + 60].tolist()
            hidden = set(history) if filter_seen else set()
            expected = top_items(scores[row], hidden, k)
            assert lists[row].tolist() == expected + [-1] * (k - len(expected))


def test_the_card_counts_users_and_targets_that_training_has_not_seen(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="global-time")
    rule = SplitRule(name="global-time", valid_quantile=0.1, test_quantile=0.4)
    split = make_split(dataset, rule)
    held = list(users_of(dataset, split, "test"))
    trained = set(fit_histories(dataset, split, "train").items.tolist())
    users = sum(split.train_end[user] == split.start[user] for user, _, _ in held)
    targets = sum(item not in trained for _, _, items in held for item in items)
    assert users and targets
    model = integer_vectors(dataset.num_users, dataset.num_items)
    options = {"protocol": PROTOCOLS["global-time"], "part": "test"}
    card = evaluate(model, dataset, split, **options).card
    total = sum(len(items) for _, _, items in held)
    assert card.untrained.startswith(
        f"{users} of {len(held)} users and {targets} of {total} targets have no training row"
    )
    assert dict(card_lines(card))["without training"] == card.untrained
    assert not card.differences(card.model_copy(update={"untrained": ""}))


def test_segments_count_their_own_targets_only(tmp_path):
    dataset = random_dataset(tmp_path / "data", 3, 60, 40, split="global-time")
    split = make_split(dataset)
    model = integer_vectors(dataset.num_users, dataset.num_items)
    scores = dense_scores(model, 7)
    options = {"protocol": PROTOCOLS["global-time"], "part": "test", "ks": KS}
    table = evaluate(model, dataset, split, **options)
    train = [
        item
        for user in range(dataset.num_users)
        for item in dataset.items[split.start[user] : split.train_end[user]].tolist()
    ]
    popularity = [train.count(item) for item in range(dataset.num_items)]
    order = sorted(range(dataset.num_items), key=lambda item: (-popularity[item], item))
    head = set(order[: math.ceil(0.2 * dataset.num_items)])
    cold = {item for item in range(dataset.num_items) if not popularity[item]}
    everything = set(order)
    for name, members in {
        "all": everything, "head": head, "tail": everything - head,
        "cold": cold, "warm": everything - cold,
    }.items():  # fmt: skip
        values = []
        for user, history, targets in users_of(dataset, split, "test"):
            ranks = [rank_of(scores[user], t, set(history)) for t in targets if t in members]
            values += [metrics_of(ranks, 10)] if ranks else []
        assert values, f"no {name} target in the data of this test"
        rows = table.rows.filter(segment=name, metric="ndcg", k=10, granularity=7)
        assert rows["num_users"].item() == len(values)
        assert rows["value"].item() == pytest.approx(np.mean([v["ndcg"] for v in values]))


def quick(granularities):
    """Options of an evaluation at given prefixes."""
    ranking = RankingOptions(granularities=granularities)
    return EvaluationOptions(extras=False, ranking=ranking)


def test_untrained_prefixes_can_be_asked_for(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    split = make_split(dataset)
    model = integer_vectors(dataset.num_users, dataset.num_items)
    options = {"protocol": PROTOCOLS["s3rec"], "part": "test", "ks": KS}
    table = evaluate(model, dataset, split, options=quick(Granularities(sizes=(1, 5))), **options)
    assert table.rows["granularity"].unique().sort().to_list() == [1, 5]
    ranks = naive_ranks(dataset, split, "test", dense_scores(model, 5), True)
    expected = np.mean([metrics_of(user, 10)["ndcg"] for user in ranks])
    assert table.value("ndcg", 10, 5) == pytest.approx(expected)
    with pytest.raises(GranularityError, match="granularity 8 is longer than the vectors"):
        evaluate(model, dataset, split, options=quick(Granularities(sizes=(8,))), **options)


def test_prefixes_of_a_cosine_model_are_ranked_by_cosine_whether_that_is_named_or_not(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    split = make_split(dataset)
    model = integer_vectors(dataset.num_users, dataset.num_items, (2, 7), normalize=True)
    options = {"protocol": PROTOCOLS["s3rec"], "part": "test", "ks": KS}
    tables = [
        evaluate(model, dataset, split, options=quick(granularities), **options).rows
        for granularities in (
            Granularities(sizes=(2, 5)),
            Granularities(sizes=(2, 5), normalize=True),
            Granularities(sizes=(2, 5), normalize=False),
        )
    ]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])
    histories = fit_histories(dataset, split, "train")
    first, second = (
        recommend(model, histories, 23, k=5, filter_seen=False, granularities=granularities)
        for granularities in (Granularities(sizes=(3,)), Granularities(sizes=(3,), normalize=True))
    )
    assert np.array_equal(first, second)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("extras", [True, False], ids=["lists", "fast"])
def test_a_score_model_is_ranked_with_granularity_null(case, budget, extras):
    dataset, split, protocol, part = case
    vectors = integer_vectors(dataset.num_users, dataset.num_items)
    scores = torch.from_numpy(dense_scores(vectors, 7))
    scores[:, 4] = -torch.inf
    table = evaluate(
        FixedScores(scores),
        dataset,
        split,
        protocol=protocol,
        part=part,
        ks=(3, 100),
        options=EvaluationOptions(extras=extras, ranking=RankingOptions(budget_bytes=budget)),
    )
    assert table.rows["granularity"].null_count() == len(table.rows)
    ranks = list(naive_ranks(dataset, split, part, scores.tolist(), protocol.filter_seen))
    for k in (3, 100):  # 100 is more than the catalogue: only what is hidden or unscored is missed
        expected = np.mean([metrics_of(user, k)["recall"] for user in ranks])
        assert table.value("recall", k) == pytest.approx(expected)
    assert table.value("recall", 100) < 1


def test_a_constant_scorer_finds_nothing(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    scores = FixedScores(torch.zeros(dataset.num_users, dataset.num_items))
    options = {"protocol": PROTOCOLS["fmrlrec"], "part": "test", "ks": (10,)}
    table = evaluate(scores, dataset, make_split(dataset), **options)
    assert table.value("recall", 10) == 0


def test_never_more_than_the_budget_is_scored_at_once(tmp_path, monkeypatch):
    dataset = random_dataset(tmp_path / "data", 0, 50, 200, split="leave-last-out")
    model = integer_vectors(dataset.num_users, dataset.num_items)
    sizes = []
    original = scoring.prefix_scores

    def watched(users, items, granularities, **options):
        sizes.append(len(users) * len(items))
        return original(users, items, granularities, **options)

    monkeypatch.setattr(scoring, "prefix_scores", watched)
    monkeypatch.setattr(scoring, "can_compile", lambda items: False)
    rank_held_out(
        model,
        dataset,
        make_split(dataset),
        part="test",
        filter_seen=True,
        options=RankingOptions(budget_bytes=1600),
    )
    assert sizes
    assert max(sizes) <= 1600 / scoring.BYTES_PER_SCORE


def test_the_kernels_make_lists_within_the_budget(monkeypatch):
    users, items = torch.randn(200, 8), torch.randn(3_000, 8)
    seen = Histories(np.arange(200), np.zeros(200, np.int32), np.arange(201))
    areas = []
    original = ranking.collect_best

    def watched(*arguments):
        areas.append(arguments[-1].nbytes + arguments[-2].nbytes)
        return original(*arguments)

    monkeypatch.setattr(ranking, "collect_best", watched)
    sizes = Granularities(sizes=(4, 8))
    whole = CompiledRanking(items, sizes, 64 << 20).best(users, seen, 20)
    areas.clear()
    assert (CompiledRanking(items, sizes, 1 << 20).best(users, seen, 20) == whole).all()
    assert len(areas) > 1 and max(areas) * torch.get_num_threads() <= 1 << 20


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_vectors_that_are_not_finite_are_refused(tmp_path, bad):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    options = {"protocol": PROTOCOLS["s3rec"], "part": "test"}
    options["options"] = EvaluationOptions(extras=False)
    for which, words in (("items", "item vectors"), ("users", "user vectors")):
        model = integer_vectors(dataset.num_users, dataset.num_items)
        getattr(model, which)[:, 0] = bad
        with pytest.raises(RunError, match=f"the {words} hold NaN"):
            evaluate(model, dataset, make_split(dataset), **options)


def test_nan_scores_are_refused(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    scores = FixedScores(torch.full((dataset.num_users, dataset.num_items), math.nan))
    with pytest.raises(RunError, match="NaN"):
        evaluate(scores, dataset, make_split(dataset), protocol=PROTOCOLS["s3rec"], part="test")


def test_a_model_of_another_catalogue_is_refused(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    model = integer_vectors(dataset.num_users, dataset.num_items + 1)
    with pytest.raises(RunError, match="the data set has"):
        evaluate(model, dataset, make_split(dataset), protocol=PROTOCOLS["s3rec"], part="test")


def test_a_score_model_has_no_granularities(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    scores = FixedScores(torch.zeros(dataset.num_users, dataset.num_items))
    options = {"protocol": PROTOCOLS["s3rec"], "part": "test"}
    with pytest.raises(GranularityError, match="has no nested vectors"):
        evaluate(
            scores,
            dataset,
            make_split(dataset),
            options=quick(Granularities(sizes=(2,))),
            **options,
        )


def test_validation_of_a_model_that_saw_it_is_refused(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    model = integer_vectors(dataset.num_users, dataset.num_items)
    options = {"protocol": PROTOCOLS["s3rec"], "part": "valid", "fit_on": "train+valid"}
    with pytest.raises(ProtocolError, match="has seen the validation targets"):
        evaluate(model, dataset, make_split(dataset), **options)


def test_the_split_must_be_the_protocols(tmp_path):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    model = integer_vectors(dataset.num_users, dataset.num_items)
    with pytest.raises(ProtocolError, match="needs the split global-time"):
        evaluate(
            model, dataset, make_split(dataset), protocol=PROTOCOLS["global-time"], part="test"
        )


def test_a_data_set_of_short_histories_says_so(tmp_path):
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": ["a", "b"]})
    dataset = write_dataset(tmp_path / "data", frame, name="short", split=SplitRule())
    with pytest.raises(DataError, match="no user of short has both"):
        evaluate(
            integer_vectors(2, 2), dataset, make_split(dataset), protocol=PROTOCOLS["s3rec"],
            part="test",
        )  # fmt: skip


@pytest.mark.parametrize("extras", [True, False], ids=["lists", "fast"])
def test_a_target_whose_score_is_nan_is_refused_and_not_ranked_first(tmp_path, extras):
    dataset = random_dataset(tmp_path / "data", split="leave-last-out")
    model = integer_vectors(dataset.num_users, dataset.num_items, normalize=True)
    model.users[:, :2] = model.items[:, :2] = 1e30  # finite; products and norms are not
    options = {"protocol": PROTOCOLS["s3rec"], "part": "test", "ks": (5,)}
    options["options"] = EvaluationOptions(extras=extras)
    with pytest.raises(RunError, match="the score of a target is NaN"):
        evaluate(model, dataset, make_split(dataset), **options)
