"""The pages that are made when the site is built: the map of files and the keys of configs."""

import runpy

from recsys.losses import LOSSES
from recsys.models import MODELS
from recsys.runs.config import RunConfig
from tests.examples.pages import ROOT

MAP = runpy.run_path(str(ROOT / "docs/_build/file_map.py"))
CONFIGS = runpy.run_path(str(ROOT / "docs/_build/config_reference.py"))


def test_every_module_says_what_it_is():
    silent = [
        f"{folder}/{file}"
        for folder, _, modules in MAP["folders"]()
        for file, line in modules
        if not line
    ]
    assert not silent


def test_the_map_has_a_line_for_every_module_that_holds_something():
    text = MAP["page"]()
    for package in ("recsys", "data_prep", "benchmarks", "examples"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name != "__init__.py" and path.stat().st_size:
                assert f"| `{path.name}` |" in text
    assert text.count("\n| `") > 200


def test_the_page_of_configs_has_every_key_with_its_default_and_meaning():
    text = CONFIGS["page"]()
    assert all(f"| `{name}` |" in text for name in RunConfig.model_fields)
    assert all(f"### loss (name: {name})" in text for name in LOSSES.inside)
    assert all(f"### model (name: {name})" in text for name in MODELS.inside)
    assert "| `mapped` | bool | `false` | Histories stay on disk" in text
