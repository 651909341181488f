from typing import Literal

import pytest
from pydantic import model_validator

from recsys.config import StrictModel, apply_overrides, load_yaml, parse
from recsys.errors import ConfigError


class Inner(StrictModel):
    learning_rate: float = 0.1
    layers: int = 1


class Tagged(StrictModel):
    name: Literal["tagged"] = "tagged"
    inner: Inner = Inner()


class Outer(StrictModel):
    optimizer: Inner = Inner()
    model: Tagged = Tagged()


def test_an_unknown_key_names_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rat: unknown key; did you mean"):
        parse(Outer, {"optimizer": {"learning_rat": 1}}, "a.yaml")


def test_an_unknown_key_deep_inside_is_found_too():
    with pytest.raises(
        ConfigError, match=r"model\.inner\.layer: unknown key; did you mean 'layers"
    ):
        parse(Outer, {"model": {"inner": {"layer": 1}}}, "a.yaml")


@pytest.mark.parametrize(
    ("tree", "meant"),
    [
        ({"optimiser": {}}, "'optimizer'"),
        ({"layers": 2}, "'optimizer.layers' or 'model.inner.layers'"),
        (
            {"model": {"learning_rat": 2}},
            "'optimizer.learning_rate' or 'model.inner.learning_rate'",
        ),
        ({"optimizer": {"layer": 2}}, "'layers'"),
        ({"nothing_like_it": 2}, "'optimizer'"),
    ],
)
def test_the_key_of_a_section_is_meant_where_it_is_more_alike(tree, meant):
    with pytest.raises(ConfigError, match=rf"did you mean {meant}\?"):
        parse(Outer, tree, "a.yaml")


def test_every_wrong_value_is_listed_with_what_was_found():
    with pytest.raises(ConfigError) as error:
        parse(Outer, {"optimizer": {"layers": "two", "learning_rate": "fast"}}, "a.yaml")
    text = str(error.value)
    assert "a.yaml cannot be used" in text
    assert "optimizer.layers" in text and "'two'" in text
    assert "optimizer.learning_rate" in text and "'fast'" in text


class Checked(StrictModel):
    left: int = 1
    right: int = 1

    @model_validator(mode="after")
    def _equal(self) -> "Checked":
        if self.left != self.right:
            raise ValueError("left and right differ; make them equal")
        return self


def test_a_check_of_a_whole_section_says_what_is_wrong_without_printing_the_section():
    with pytest.raises(ConfigError) as error:
        parse(Checked, {"left": 2}, "a.yaml")
    assert str(error.value).splitlines()[1:] == ["  (top): left and right differ; make them equal"]
    with pytest.raises(ConfigError, match=r"found \[2\]"):
        parse(Checked, {"left": [2]}, "a.yaml")


def test_overrides_change_values_and_make_sections():
    tree = {"optimizer": {"layers": 1}}
    changed = apply_overrides(tree, ["optimizer.layers=3", "model.inner.learning_rate=1e-1"])
    assert changed["optimizer"]["layers"] == 3
    assert parse(Outer, changed, "x").model.inner.learning_rate == 0.1
    assert tree == {"optimizer": {"layers": 1}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("layers", "not of the form key=value"),
        ("optimizer.layers.deep=1", "optimizer.layers is a value"),
        ("a=[1", "not YAML"),
    ],
)
def test_a_malformed_override_is_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        apply_overrides({"optimizer": {"layers": 1}}, [override])


def test_files_that_are_no_mapping_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no config file"):
        load_yaml(tmp_path / "absent.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds a list"):
        load_yaml(tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_yaml(tmp_path / "bad.yaml")
