"""Results files, pages that are filled from them, and figures that come out of none."""

import json
import re
from pathlib import Path

import pytest

from recsys.errors import ConfigError, RunError
from recsys.reports.results.__main__ import check, fill, main
from recsys.reports.results.pages import filled
from recsys.reports.results.record import (
    DataName,
    Figure,
    Results,
    Step,
    read_results,
    write_results,
)
from recsys.reports.results.strays import strays
from recsys.reports.results.views import table
from tests.reports.tables import card

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "recsys evaluate runs/walks --results results/walks.json"
PAGE = """# Walks

<!-- results:walks -->
<!-- /results -->

A half keeps <!-- results:walks figure metric=keeps granularity=4 --><!-- /results --> of ndcg@10.
"""
CONFIG = """# Walks.
#
# results:walks coordinates
# /results
# results:other?
# /results
data: data/walks
"""


def results(**changes):
    rows = [
        Figure(name="walks", granularity=4, metric="ndcg@10", value=0.0412, low=0.04, high=0.043),
        Figure(name="walks", granularity=4, metric="keeps", unit="share", value=0.925),
        Figure(name="walks", granularity=8, metric="ndcg@10", value=0.0445),
        Figure(name="ease l2=50", metric="ndcg@10", value=0.0301),
    ]
    fields = {
        "steps": (Step(command=COMMAND, commit="1234abc"),),
        "data": DataName(name="walks", content_hash="5e2a"),
        "seeds": (0,),
        "protocol": card(),
        "rows": tuple(rows),
    }
    return Results(**(fields | changes))


@pytest.fixture
def project(tmp_path):
    """A README, a config and a results file."""
    write_results(tmp_path / "results" / "walks.json", results())
    (tmp_path / "README.md").write_text(PAGE)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "walks.yaml").write_text(CONFIG)
    return tmp_path


def test_a_results_file_is_read_as_it_was_written(project):
    assert read_results(project / "results" / "walks.json") == results()


def test_a_figure_that_was_typed_by_hand_is_refused_with_the_command_that_makes_it(project):
    path = project / "results" / "walks.json"
    path.write_text(path.read_text().replace("0.0412", "0.0512"))
    with pytest.raises(RunError, match=f"not as it was written.*{COMMAND}"):
        read_results(path)
    assert "not as it was written" in "".join(check(project))


def test_a_file_without_a_command_is_refused(project):
    path = project / "results" / "walks.json"
    tree = json.loads(path.read_text())
    path.write_text(json.dumps(tree | {"steps": []}))
    with pytest.raises(ConfigError, match="steps: Tuple should have at least 1 item"):
        read_results(path)
    path.write_text(json.dumps(tree | {"steps": [{"command": ""}]}))
    with pytest.raises(ConfigError, match=r"steps\.0\.command"):
        read_results(path)


@pytest.mark.parametrize("place", ["/data/beauty", "--out=/runs", "data='/data'", "~/beauty"])
def test_a_command_that_names_a_place_of_one_machine_is_refused(place):
    with pytest.raises(ValueError, match="place of this machine"):
        Step(command=f"recsys train {place}", commit=None)


def test_tables_figures_and_config_headers_are_filled(project):
    fill(project)
    page = (project / "README.md").read_text()
    assert "| run | vector | ndcg@10 | keeps |\n| --- | --- | ---: | ---: |" in page
    assert "| walks | d4 | 0.0412 ±0.0015 | 92.5 % |\n| walks | d8 full | 0.0445 | - |" in page
    assert "| ease l2=50 | - | 0.0301 | - |" in page
    assert "granularity=4 -->92.5 %<!-- /results --> of ndcg@10." in page
    header = (project / "configs" / "walks.yaml").read_text()
    assert re.search(r"^#   coordinates +4 +8\n#   ndcg@10 +\.0412 +\.0445$", header, re.M)
    assert "# results:other?\n#   not yet made again\n# /results" in header


def test_a_column_says_its_unit_unless_its_name_does(project):
    units = {"p50": "ms", "one user, ms": "ms", "s/epoch": "seconds", "mapped": "bytes"}
    rows = [Figure(name="r", metric=name, unit=unit, value=1) for name, unit in units.items()]
    head = table({"serving": results(rows=tuple(rows))}, {}).splitlines()[0]
    assert head == "| run | p50, ms | one user, ms | s/epoch | mapped, bytes |"


def test_one_metric_of_several_names_stands_in_one_table(project):
    rows = [
        Figure(name=name, granularity=size, metric="gain", unit="share", value=value)
        for name, size, value in (("a on x", 8, 0.01), ("a on x", 4, 0.02), ("b on x", 8, -0.03))
    ]
    write_results(project / "results" / "gains.json", results(rows=tuple(rows)))
    (project / "README.md").write_text(
        "<!-- results:gains widths metric=gain head=lever -->\n<!-- /results -->\n"
    )
    fill(project)
    lines = (project / "README.md").read_text().splitlines()
    assert lines[1] == "| lever | 4 | 8 |"
    assert [line.count("|") for line in lines[3:5]] == [4, 4]
    assert lines[3].startswith("| a on x | ") and "2.0 %" in lines[3].split("|")[2]
    assert lines[4].split("|")[2].strip() == "-", "b was measured at 8 alone"
    (project / "README.md").write_text(
        "<!-- results:gains widths metric=gane -->\n<!-- /results -->"
    )
    _, wrong = fill(project)
    assert len(wrong) == 1 and "gane is not among gain" in wrong[0]


def test_one_metric_of_several_files_has_a_line_for_each(project):
    for file, value in (("one", 0.9), ("two", 1.1)):
        rows = (
            Figure(name="whole", metric="over it", unit="times", value=7.0),  # of no granularity
            Figure(name="nested", granularity=4, metric="over it", unit="times", value=value),
            Figure(name="other", granularity=4, metric="over it", unit="times", value=8.0),
        )
        write_results(project / "results" / f"{file}.json", results(rows=rows))
    page = project / "README.md"
    page.write_text('<!-- results:one,two widths metric="over it" -->\n<!-- /results -->\n')
    fill(project)
    shown = [line.split("|")[1:3] for line in page.read_text().splitlines()[3:5]]
    assert [line[0].strip() for line in shown] == ["one", "two"]
    page.write_text('<!-- results:one,two widths metric="over it -->\n<!-- /results -->\n')
    assert "No closing quotation" in "".join(fill(project)[1])
    assert "0.9" in shown[0][1] and "1.1" in shown[1][1] and "8" not in "".join(shown[0] + shown[1])


def test_filling_twice_changes_nothing_more(project):
    assert fill(project)[0] and fill(project) == ([], [])
    assert check(project) == []


def test_a_planted_wrong_figure_fails_the_check_which_names_its_line(project, capsys):
    fill(project)
    page = project / "README.md"
    page.write_text(page.read_text().replace("0.0445", "0.0545"))
    assert main([str(project), "--check"]) == 1
    told = capsys.readouterr().err
    assert f"{page}:7: differs" in told and "stands   | walks | d8 full | 0.0545" in told
    assert "expected | walks | d8 full | 0.0445" in told
    assert main([str(project)]) == 0 and main([str(project), "--check"]) == 0


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("nothing", "there is no .*nothing.json"),
        ("walks?", "has been made; take the . away"),
        ("walks pie", "pie is no view; one of table"),
        ("walks table metrics=mrr@10", "mrr@10 is not among ndcg@10, keeps"),
        ("walks figure metric=ndcg@10", "3 figures are"),
    ],
)
def test_a_marker_that_cannot_be_filled_is_refused(project, marker, message):
    page = project / "README.md"
    page.write_text(f"<!-- results:{marker} --><!-- /results -->")
    with pytest.raises(ConfigError, match=message):
        filled(page, project / "results")


def test_figures_of_two_states_of_a_data_set_do_not_stand_in_one_table(project):
    marker = "<!-- results:walks,later widths metric=ndcg@10 -->"
    (project / "README.md").write_text(f"{marker}\n<!-- /results -->\n")
    later = project / "results" / "later.json"
    for data in (DataName(name="walks", content_hash="5e2a"), DataName(name="b", content_hash="7")):
        write_results(later, results(data=data))
        assert "0.0412" in filled(project / "README.md", project / "results")
    write_results(later, results(data=DataName(name="walks", content_hash="77f0")))
    with pytest.raises(ConfigError, match="walks and later are of walks with different content"):
        filled(project / "README.md", project / "results")


def test_a_marker_without_an_end_is_refused(project):
    page = project / "README.md"
    page.write_text("<!-- results:walks -->\n")
    with pytest.raises(ConfigError, match="has no end"):
        filled(page, project / "results")


def found(tmp_path, text, name="page.md"):
    page = tmp_path / name
    page.write_text(text)
    return [(stray.line, stray.figures) for stray in strays(page)]


def test_figures_outside_marked_places_are_found(tmp_path):
    assert found(tmp_path, "It\nreaches .0931 at once.") == [(2, ".0931")]
    assert found(tmp_path, "| nested | 0.1845 ±0.0244 |") == [(1, "0.1845, 0.0244")]
    assert found(tmp_path, "It keeps 98.3 % of\nndcg@10.") == [(1, "98.3 %")]
    header = "#   ndcg@10  .0341\nlearning_rate: 0.001\n"
    assert found(tmp_path, header, "run.yaml") == [(1, ".0341")]


@pytest.mark.parametrize(
    "text",
    [
        "recsys train CONFIG optimizer.learning_rate=0.001",
        "torch 2.13.0 and arXiv 2205.13147, version 1.26.1234.5",
        "A 95 % interval of ndcg@10; an encoder has 7 % of the multiplications.",
        "Takes 12.5 % more memory. The recall is not changed.",
        "<!-- results:walks -->\n| 0.1845 |\n<!-- /results -->",
        "<!-- published: eSASRec, table 3 -->.0931<!-- /published -->",
        "keeps <!-- not-measured -->99 %<!-- /not-measured --> of ndcg@10",
    ],
)
def test_settings_versions_and_quoted_figures_are_no_strays(tmp_path, text):
    assert found(tmp_path, text) == []


def test_published_figures_need_a_source(tmp_path):
    text = "<!-- published: -->.0931<!-- /published -->"
    ((line, told),) = found(tmp_path, text)
    assert line == 1 and "without a source" in told


def test_the_pages_of_this_project_are_what_its_results_files_say():
    assert check(ROOT) == []


def test_the_results_files_of_this_project_are_small_and_name_no_place_of_one_machine():
    files = sorted((ROOT / "results").glob("*.json"))
    assert files and all(path.stat().st_size < 20_000 for path in files)
    assert not [path for path in files if re.search(r'[" =]/\w', path.read_text())]


def test_a_summary_has_a_line_for_what_is_made_and_one_for_what_waits(project):
    page = project / "README.md"
    page.write_text("<!-- results:walks,other? summary prefix=4 -->\n<!-- /results -->")
    text = filled(page, project / "results")
    assert "| walks | - | `s3rec`, fitted on train | - | 0.0445 | 92.5 % |" in text
    assert "| other | `configs/other.yaml` | *not yet made again* | - | - | - |" in text


def test_commands_and_the_machine_are_shown(project):
    page = project / "README.md"
    page.write_text("<!-- results:timed commands -->\n<!-- /results -->\n"
                    "On <!-- results:timed machine --><!-- /results -->.")  # fmt: skip
    timed = results(machine={"cpu": "made up", "faiss-cpu": "1.15"})
    write_results(project / "results" / "timed.json", timed)
    text = filled(page, project / "results")
    assert f"```\n{COMMAND}\n```" in text and "machine -->cpu: made up; faiss-cpu: 1.15<!--" in text
