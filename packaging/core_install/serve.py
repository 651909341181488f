"""Serves bundles where the core alone is installed, and says what it finds.

python serve.py FOLDER [--towers]

FOLDER is what `check.py` has made: bundles, and `expected.json` with the lists that the whole
installation finds. Without --towers nothing but the core may be there; with it the extras `serve`
and `faiss` as well.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

FOREIGN = ("torch", "scipy", "pandas", "implicit", "matplotlib", "torchrec", "tensorboardX")
EXTRAS = ("faiss", "onnxruntime")


def main(folder: Path, towers: bool) -> None:
    """Fails where a list differs, a module is there that must not be, or an error is unclear."""
    for module in FOREIGN if towers else (*FOREIGN, *EXTRAS):
        assert find_spec(module) is None, f"{module} is installed beside the core"
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    _check_verify(folder / "plain")
    if towers:
        for name in ("plain", "indexed"):
            _compare(f"{name}, by histories", by_histories(folder / name, expected), expected[name])
    else:
        _compare("plain, by stored users", by_users(folder / "plain"), expected["stored"])
        _check_errors(folder, expected)
    print("ok:", "core with serve and faiss" if towers else "core alone")


def by_users(bundle_folder: Path, rows: slice = slice(0, 20)) -> Any:
    """`(ids, scores)` for users whose vectors the bundle holds."""
    from recsys.retrieval.bundle.loading import load_bundle
    from recsys.retrieval.bundle_funnel import open_funnel
    from recsys.serving.catalogue import Catalogue

    bundle = load_bundle(bundle_folder)
    found = open_funnel(bundle).search(bundle.users.decode(rows, 0, bundle.dim))
    return Catalogue(bundle).ids(found.items), found.scores.tolist()


def by_histories(bundle_folder: Path, expected: dict[str, Any]) -> Any:
    """`(ids, scores)` for histories of external ids, by the user tower."""
    from recsys.retrieval.bundle.loading import load_bundle
    from recsys.retrieval.bundle_funnel import open_funnel
    from recsys.serving.catalogue import Catalogue
    from recsys.serving.user_tower import UserTower

    bundle = load_bundle(bundle_folder)
    catalogue, tower, funnel = Catalogue(bundle), UserTower(bundle), open_funnel(bundle)
    histories = catalogue.histories(expected["histories"])
    filters = catalogue.filters(*histories)
    found = funnel.search(tower.user_vectors(*histories), filters=filters)
    return catalogue.ids(found.items), found.scores.tolist()


def _compare(what: str, found: Any, wanted: Any) -> None:
    assert list(found[0]) == wanted[0], f"{what}: other items than the whole installation finds"
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-4, atol=1e-5, err_msg=what)


def _check_verify(bundle: Path) -> None:
    import recsys

    assert recsys.verify(bundle) > 0


def _check_errors(folder: Path, expected: dict[str, Any]) -> None:
    """What needs an extra names the line that installs it."""
    import recsys
    from recsys.errors import InstallationError

    calls = {
        "train": lambda: recsys.train(folder / "no.yaml", out=folder / "no"),
        "serve": lambda: by_histories(folder / "plain", expected),
        "faiss": lambda: by_users(folder / "indexed"),
    }
    for extra, call in calls.items():
        try:
            call()
        except InstallationError as error:
            assert f"pip install 'recsys[{extra}]'" in str(error), error
        else:
            raise AssertionError(f"the extra {extra} is not missed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--towers" in sys.argv)
