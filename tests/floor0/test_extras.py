"""Extras: what each is for, what is told where one is missing, and what needs none of them."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import recsys
from recsys import extras
from recsys.errors import InstallationError
from recsys.extras import EXTRAS, extra, missing_import, require

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OF_EXTRAS = sorted({module for known in EXTRAS.values() for module in known.modules} | {"pandas"})
STORES = ("qdrant", "pgvector", "milvus", "lancedb", "duckdb", "sqlitevec", "usearch")
"""Clients of vector stores: who pushes to one does not want them all."""

CORE = (
    "recsys.cli",
    "recsys.data",
    "recsys.doctor.printing",
    "recsys.granularity",
    "recsys.rankers.in_bundle",
    "recsys.recipes.bundles.push",
    "recsys.recipes.bundles.verify",
    "recsys.reports.bundle",
    "recsys.reports.terminal",
    "recsys.reports.tradeoff.terminal",
    "recsys.retrieval",
    "recsys.serving.catalogue",
    "recsys.serving.item_tower",
    "recsys.serving.rebundle",
    "recsys.serving.user_tower",
    "recsys.stores",
    "data_prep",
)
NOT_CORE = (
    "data_prep.one_end",
    "data_prep.item_features.image_encoder",
    "data_prep.item_features.image_inputs",
    "data_prep.item_features.image_urls",
)
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def python(code, *arguments, blocked=OF_EXTRAS):
    """Runs code in a process where some modules cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED.format(blocked=set(blocked)) + code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def modules_of(name):
    """The module, or every module in the package."""
    path = ROOT / name.replace(".", "/")
    files = [path.with_suffix(".py")] if path.with_suffix(".py").exists() else path.rglob("*.py")
    dotted = (".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files)
    return [module.removesuffix(".__init__") for module in dotted if module not in NOT_CORE]


def imported(path):
    """Names of the modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(lines):
    return {normal(re.match(r"[\w.-]+", line)[0]) for line in lines} - {"recsys"}


def test_the_core_imports_where_no_extra_is_installed():
    names = sorted({module for name in CORE for module in modules_of(name)})
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = python(code, *names)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(names) > 100


def test_extras_are_those_of_the_project():
    told = set(PROJECT["optional-dependencies"]) - {"all", "dev", "docs"}
    assert told == set(EXTRAS)
    whole = PROJECT["optional-dependencies"]["all"][0]
    assert set(re.findall(r"\w+", whole)) - {"recsys"} == set(EXTRAS) - {"timm", *STORES}


def test_every_package_that_is_imported_is_declared():
    packages = {
        "faiss": "faiss-cpu", "yaml": "pyyaml", "pydantic_core": "pydantic", "PIL": "pillow",
        "fbgemm_gpu": "fbgemm-gpu", "huggingface_hub": "sentence-transformers",
        "mlflow": "mlflow-skinny", "transformers": "sentence-transformers",
    }  # fmt: skip
    given = set.union(*map(declared, PROJECT["optional-dependencies"].values()))
    given |= declared(PROJECT["dependencies"])
    files = [*(ROOT / "recsys").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]
    tops = {name.partition(".")[0] for file in files for name in imported(file)}
    foreign = tops - set(sys.stdlib_module_names) - {"recsys", "data_prep", "__future__"}
    assert {normal(packages.get(name, name)) for name in foreign} <= given
    assert "pandas" not in foreign


def test_a_missing_module_is_told_with_its_purpose_and_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    told = r"matplotlib is needed for report pages and plots and is not installed: pip install 'rec"
    with pytest.raises(InstallationError, match=told):
        require("report")
    with pytest.raises(InstallationError, match=r"jinja2 is needed for a page and is not ins"):
        require("report", "jinja2", purpose="a page")


def test_what_is_built_for_linux_alone_says_so():
    told = r"'recsys\[scann\]' \(built for Linux alone\)"
    with pytest.raises(InstallationError, match=told), extra("scann"):
        raise ModuleNotFoundError("No module named 'scann'", name="scann.scann_ops")


def test_a_module_that_is_there_and_broken_is_told_apart():
    told = r"cannot be loaded \(x.so: undefined symbol\)"
    with pytest.raises(InstallationError, match=told), extra("shard"):
        raise ImportError("x.so: undefined symbol")


def test_imports_of_other_modules_are_no_matter_of_extras():
    assert missing_import(ModuleNotFoundError("No module named 'x'", name="x")) is None
    assert "recsys[train]" in str(missing_import(ModuleNotFoundError("", name="torch.nn")))


@pytest.mark.parametrize(
    "command",
    [
        ["train", "configs/ml100k_sasrec.yaml"],
        ["report", "runs/no"],
        ["export", "runs/no", "out"],
    ],
)
def test_a_verb_says_first_which_extra_it_needs(command):
    done = python("from recsys.cli import app; app()", *command)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert "is not installed: pip install 'recsys[train]'" in done.stderr.replace("\n", " ")


def test_a_verb_called_from_python_says_it_too():
    code = """
import json, recsys
from recsys.errors import InstallationError
told = {}
for name in recsys.__all__:
    try:
        getattr(recsys, name)
    except InstallationError as error:
        told[name] = str(error)
print(json.dumps(told))
"""
    told = json.loads(python(code).stdout)
    without = {"Dataset", "Diversity", "load", "recommend", "diagnose", "verify", "push"}
    without |= {"IndexOptions", "RankConfig", "RoutedStages", "fit_clicks", "show"}
    assert set(recsys.__all__) - set(told) == without
    assert all("pip install 'recsys[train]'" in text for text in told.values())


def test_faiss_is_asked_for_by_codebooks_and_indexes_alone():
    code = """
import numpy as np
from recsys.errors import InstallationError
from recsys.retrieval.codecs.registry import find_codec
vectors = np.random.default_rng(0).random((300, 8), np.float32)
for name in ("fp16", "int8", "int4", "binary"):
    codec = find_codec(name)
    codec.encode(vectors, codec.fit(vectors))
try:
    find_codec("pq4").fit(vectors)
except InstallationError as error:
    print(error)
"""
    done = python(code)
    assert "faiss is needed for product codes" in done.stdout, done.stderr
    assert "pip install 'recsys[faiss]'" in done.stdout


def test_the_page_on_installing_lists_every_extra_with_its_purpose():
    page = (ROOT / "docs/install.md").read_text("utf-8")
    for name, known in EXTRAS.items():
        (line,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert known.purpose in line and ("(Linux alone)" in line) == known.linux
