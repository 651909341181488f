"""`recsys recommend`: files in, a file out, by parts that survive a kill."""

from dataclasses import dataclass, field

import polars as pl
import pytest
from typer.testing import CliRunner

import recsys
from recsys.cli import app
from recsys.errors import BusyError, ConfigError, DataError, RunError
from recsys.files.atomic import held
from recsys.library.batches import write_lists
from recsys.library.verb import recommend
from tests.library.conftest import SIZES, walks

RUNNER = CliRunner()


def call(*arguments, code=0):
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def run(fitted, tmp_path_factory):
    return fitted("sasrec").save(tmp_path_factory.mktemp("batches") / "run")


@pytest.fixture(scope="module")
def everybody(fitted):
    return fitted("sasrec").recommend(fitted("sasrec").users, k=5)


@dataclass(frozen=True)
class Killed:
    """A plan whose process is killed when some users are asked for."""

    plan: object
    after: int
    done: list = field(default_factory=list)

    def check(self, asked):
        self.plan.check(asked)

    def frame(self, asked):
        if len(asked):
            if len(self.done) == self.after:
                raise KeyboardInterrupt
            self.done.append(len(asked))
        return self.plan.frame(asked)


def test_a_killed_command_goes_on_and_no_user_is_lost_or_doubled(fitted, everybody, tmp_path):
    model = fitted("sasrec")
    asked, plan = model.asked(model.users, None), model.plan(k=5)
    out, request = tmp_path / "top.parquet", {"source": "a"}
    killed = Killed(plan, after=3)
    with pytest.raises(KeyboardInterrupt):
        write_lists(killed, asked, out, request, size=10)
    assert not out.exists() and len(list(tmp_path.glob("top.parquet.parts/*.parquet"))) == 3
    with pytest.raises(RunError, match=r"parts of another command \(source: a -> b\)"):
        write_lists(plan, asked, out, {"source": "b"}, size=10)
    rest = Killed(plan, after=99)
    write_lists(rest, asked, out, request, size=10)
    assert rest.done == [10] * 5
    assert pl.read_parquet(out).equals(everybody)
    assert [path.name for path in tmp_path.iterdir()] == ["top.parquet"]


def test_two_commands_do_not_write_one_file(fitted, tmp_path):
    model = fitted("sasrec")
    parts = tmp_path / "top.csv.parts"
    parts.mkdir()
    with held(parts / ".lock", ""), pytest.raises(BusyError, match="another process is writing"):
        write_lists(model.plan(), model.asked(["u1"], None), tmp_path / "top.csv", {})


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_all_users_into_a_file_of_every_form(form, run, everybody, tmp_path):
    out = tmp_path / f"top.{form}"
    assert "recommended:" in call("recommend", run, "--all", "-k", 5, "--out", out)
    read = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}[form]
    columns = ["user_id", "item_id", "rank"]
    found = read(out).with_columns(pl.col("rank").cast(pl.Int32))
    assert found.select(columns).equals(everybody.select(columns))


def test_users_histories_and_item_lists_come_from_files(run, fitted, tmp_path):
    model = fitted("sasrec")
    users, allow, block = (tmp_path / name for name in ("users.txt", "allow.csv", "block.txt"))
    users.write_text("u3\nu1\n\nnobody\n")
    allow.write_text("item_id\n" + "\n".join(model.items))
    block.write_text("i1\ni2\n")
    out = tmp_path / "some.parquet"
    call("recommend", run, "--users", users, "--out", out, "--granularity", 4,
         "--allow", allow, "--block", block)  # fmt: skip
    wanted = model.recommend(["u3", "u1"], granularity=4, block=["i1", "i2"])
    assert pl.read_parquet(out).equals(wanted)
    assert pl.read_csv(tmp_path / "some.parquet.unknown.csv").rows() == [("user", "nobody", 1)]
    histories = tmp_path / "histories.csv"
    histories.write_text("user_id,item_id,timestamp\nx,i4,20\nx,i3,10\ny,i9,5\n")
    call("recommend", run, "--histories", histories, "--out", out, "--stages", "4:20,8")
    asked = {"x": ["i3", "i4"], "y": ["i9"]}
    assert pl.read_parquet(out).equals(model.recommend(histories=asked, stages="4:20,8"))
    lines = tmp_path / "histories.jsonl"
    lines.write_text('{"user_id": "x", "item_id": ["i3", "i4"]}\n{"user_id": "z", "item_id": []}\n')
    call("recommend", run, "--histories", lines, "--out", out, "--fallback", "popularity")
    assert pl.read_parquet(out)["user_id"].unique(maintain_order=True).to_list() == ["x", "z"]


def test_bundles_and_baselines_are_sources_as_well(bundle, data, everybody, fitted, tmp_path):
    out = tmp_path / "top.parquet"
    call("recommend", bundle.name, "--all", "-k", 5, "--out", out)
    assert pl.read_parquet(out)["item_id"].equals(everybody["item_id"])
    call("recommend", "ease", "--data", data.folder, "--all", "--out", out)
    assert pl.read_parquet(out)["item_id"].equals(
        fitted("ease").recommend(fitted("ease").users)["item_id"]
    )


def test_requests_that_cannot_be_are_refused_and_nothing_is_written(run, tmp_path):
    missing, table = tmp_path / "none.csv", tmp_path / "users.xls"
    table.touch()
    for options, kind, told in (
        ({"out": "top.xlsx", "everyone": True}, ConfigError, "named as none of .parquet, .csv"),
        ({"out": "top.csv"}, ConfigError, "say for whom: --users FILE"),
        ({"out": "top.csv", "users": missing}, DataError, "there is no file"),
        ({"out": "top.csv", "users": table}, DataError, "named as none of .parquet"),
    ):
        name = options.pop("out")
        with pytest.raises(kind, match=told):
            recommend(run, tmp_path / name, **options)
    empty = tmp_path / "h.jsonl"
    empty.write_text('{"user_id": "x", "item_id": ["bad"]}\n')
    with pytest.raises(DataError, match="hold no known item"):
        recommend(run, tmp_path / "top.csv", histories=empty)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h.jsonl", "users.xls"]


def test_refusals_on_the_command_line_name_its_options(run, data, tmp_path):
    rows, empty = tmp_path / "rows.csv", tmp_path / "empty.jsonl"
    rows.write_text("user_id,item_id\nx,i3\n")
    empty.write_text('{"user_id": "x", "item_id": []}\n')
    for options, told in (
        (("--histories", rows), "say --order given"),
        (("--histories", empty), "say --fallback popularity"),
        (("--histories", rows, "--users", rows, "--order", "given"), "--users FILE or --histories"),
        (("--all", "--ranker"), "leave out --ranker"),
        (("--all", "--fallback", "fame"), "leave it out for none"),
        (("--all", "--diverse-by", "kind", "--diversity", -1), "--diversity (strength) is -1"),
    ):
        text = call("recommend", run, *options, "--out", tmp_path / "top.csv", code=1)
        assert told in " ".join(text.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl", "rows.csv"]


def test_a_user_is_shown_with_titles(run, tmp_path, fitted):
    text = call("show", run, "--user", "u3", "--granularity", "4,8", "-k", 3)
    first = fitted("sasrec").recommend(["u3"], k=1, granularity=4)["item_id"][0]
    assert "u3" in text and "last of 9" in text and "4 coordinates" in text and first in text
    assert "knows no user 'nobody'" in call("show", run, "--user", "nobody", code=1)


def test_a_bundle_shows_the_titles_it_holds_without_its_data_set(tmp_path):
    films = pl.DataFrame({"item": [f"i{i}" for i in range(25)]})
    films = films.with_columns(title=pl.lit("film of ") + pl.col("item"))
    told = recsys.Dataset.from_frame(walks(), user="user", item="item", time="time", items=films)
    model = recsys.fit(told, "sasrec", [SIZES, "threads=1"], epochs=1)
    run = model.save(tmp_path / "run")
    recsys.export(run, tmp_path / "out", tiers="0:8:fp32:ram", columns=["title"], tower=False)
    shown = call("show", tmp_path / "out", "--user", "u3", "-k", 3)
    assert shown.count("film of i") == 5 + 3


def test_an_empty_table_is_told_and_an_empty_list_of_ids_blocks_nothing(run, tmp_path, capsys):
    for name in ("users.csv", "users.parquet", "users.jsonl", "none.txt"):
        (tmp_path / name).touch()
    for name in ("users.csv", "users.parquet", "users.jsonl"):
        with pytest.raises(DataError, match="is empty; give another file"):
            recommend(run, tmp_path / "top.csv", users=tmp_path / name)
    recommend(run, tmp_path / "top.csv", everyone=True, block=tmp_path / "none.txt", k=2)
    assert (tmp_path / "top.csv").is_file()
    assert "holds no ids: nothing is blocked" in capsys.readouterr().err
    (tmp_path / "head.csv").write_text("user_id,item_id,timestamp\n")
    for options in ({"users": "none.txt"}, {"users": "head.csv"}, {"histories": "head.csv"}):
        files = {option: tmp_path / name for option, name in options.items()}
        with pytest.raises(DataError, match=r"\(--(users|histories)\) holds no \1; "):
            recommend(run, tmp_path / "nobody.csv", **files)
    with pytest.raises(DataError, match="allow some, or block fewer"):
        recommend(run, tmp_path / "nobody.csv", everyone=True, allow=tmp_path / "none.txt")
    assert not list(tmp_path.glob("nobody*"))
    (tmp_path / "named.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="allowed items have no column item_id; found a, b"):
        recommend(run, tmp_path / "top2.csv", everyone=True, allow=tmp_path / "named.csv")
