"""Content-kNN against a naive loop, on the checkerboard, and through the verb."""

import numpy as np
import pytest

import recsys
from recsys.baselines import fit_baseline
from recsys.baselines.content_knn import ContentKNNConfig
from recsys.data.features.loading import load_features
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_categories, write_numbers, write_vectors
from recsys.data.histories import Histories
from recsys.errors import DataError
from tests.contract import check_model, checkerboard

ORIGIN = FeatureOrigin(source="made by hand")
NUM = 20


@pytest.fixture
def folder(tmp_path):
    """The checkerboard; text and genres tell the parity, item 4 has neither."""
    board = checkerboard(tmp_path / "board", NUM)
    parity = board.item_frame()["item_id"].to_numpy() % 2
    there = np.arange(NUM) != 4
    text = np.stack([parity, 1 - parity, np.ones(NUM)], axis=1)
    write_vectors(board.folder, "text", text + 3.0, there, ORIGIN)
    offsets = np.concatenate([[0], there.cumsum()])
    write_categories(
        board.folder, "genres", parity[there].astype(np.int32), offsets, ["even", "odd"], ORIGIN
    )
    write_numbers(board.folder, "year", np.ones(NUM), there, ORIGIN)
    return board.folder


def test_it_passes_the_checkerboard_by_what_items_say_of_their_parity(tmp_path):
    def fit(board, rows):
        ids = board.item_frame()["item_id"].to_numpy()
        write_categories(
            board.folder, "side", (ids % 2).astype(np.int32), np.arange(NUM + 1), ["e", "o"], ORIGIN
        )
        config = ContentKNNConfig(features=("side",))
        return fit_baseline(config, rows, NUM, load_features(board.folder, ["side"]))

    check_model(fit, tmp_path)


def naive(features, config, history):
    """`[N]` by loops: cosine of a decayed mean of the last items with every item."""
    text, genres = features.vectors["text"], features.categories["genres"]
    rows = text.rows(np.arange(NUM)).astype(float)
    mean = rows[text.present].mean(0) if config.centre else 0.0
    content = []
    for item in range(NUM):
        vector = (rows[item] - mean) * text.present[item]
        bag = np.zeros(len(genres.names))
        for value in genres.rows(np.array([item]))[0]:
            having = sum(value in genres.rows(np.array([i]))[0] for i in range(NUM))
            bag[value] = np.log(NUM / having)
        content.append(
            np.concatenate([part / max(np.linalg.norm(part), 1e-12) for part in (vector, bag)])
        )
    profile = np.zeros(len(content[0]))
    for age, item in enumerate(reversed(history[-config.last :])):
        profile += config.decay**age * content[item]
    return np.array([profile @ vector for vector in content]) / np.linalg.norm(profile) / 2**0.5


@pytest.mark.parametrize("centre", [True, False])
def test_scores_are_those_of_a_naive_loop(folder, centre):
    features = load_features(folder)
    config = ContentKNNConfig(features=("text", "genres"), last=2, decay=0.5, centre=centre)
    lists = [[1, 2, 7], [4, 3], [8]]
    offsets = np.array([0, 3, 5, 6])
    histories = Histories(np.arange(3), np.concatenate(lists).astype(np.int32), offsets)
    scores = fit_baseline(config, histories, NUM, features).scores(histories).numpy()
    for row, history in enumerate(lists):
        np.testing.assert_allclose(scores[row], naive(features, config, history), atol=1e-3)


def test_a_history_without_content_scores_all_items_alike(folder):
    histories = Histories(np.array([0]), np.array([4], np.int32), np.array([0, 1]))
    config = ContentKNNConfig(features=("text",))
    scores = fit_baseline(config, histories, NUM, load_features(folder)).scores(histories)
    assert (scores == 0).all()


def test_numbers_and_missing_features_are_refused(folder):
    none = Histories(np.array([0]), np.array([1], np.int32), np.array([0, 1]))
    with pytest.raises(DataError, match="'year' is a number"):
        fit_baseline(ContentKNNConfig(features=("year",)), none, NUM, load_features(folder))
    with pytest.raises(DataError, match="none were given"):
        fit_baseline(ContentKNNConfig(), none, NUM)


def test_the_verb_measures_it_beside_the_others(folder):
    table = recsys.evaluate_baselines(
        folder, ["popularity", "content_knn"], ["content_knn.features=[genres]"]
    )
    assert table.rows["run"].unique(maintain_order=True).to_list() == ["popularity", "content_knn"]
    with pytest.raises(DataError, match="recsys encode"):
        recsys.evaluate_baselines(folder, ["content_knn"], ["content_knn.features=[image]"])
