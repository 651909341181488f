"""Options of `recsys prepare` as they are typed: text is text, and none is passed over."""

import pytest
from typer.testing import CliRunner

from data_prep import PrepareOptions, options_from_text, prepare
from recsys.cli import app
from recsys.data.dataset import load_dataset
from recsys.errors import ConfigError, DataError
from tests.data_prep.raw_tables.test_files import ids


def run(tmp_path, text, *options, kind="csv"):
    (tmp_path / "r.dat").write_text(text)
    arguments = ["prepare", kind, *options, "--source", str(tmp_path / "r.dat")]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    return ids(load_dataset(tmp_path / "out"))


@pytest.mark.parametrize(
    ("typed", "delimiter"),
    [
        ("|", "|"),
        ('"|"', "|"),
        ("::", "::"),
        (r"\t", "\t"),
        ("\t", "\t"),
        (";", ";"),
        (":", ":"),
        ("~", "~"),
        ("#", "#"),
        ("*", "*"),
        ("&", "&"),
        ("!", "!"),
        ("%", "%"),
        ("@", "@"),
        ("-", "-"),
        (" ", " "),
        (r"\x01", "\x01"),
        ("\\", "\\"),
        ("'", "'"),
        ("||", "||"),
        ("·", "·"),
    ],
)
def test_a_delimiter_is_what_is_typed(tmp_path, typed, delimiter):
    text = "user_id,item_id\na,x\nb,y\n".replace(",", delimiter)
    assert run(tmp_path, text, f"delimiter={typed}") == {"a": ["x"], "b": ["y"]}


@pytest.mark.parametrize("name", ["no", "yes", "null", "~", "1e3", "007", "[a]", "{a: 1}", "a: b"])
def test_a_column_name_is_what_is_typed(tmp_path, name):
    text = f"{name},item_id\na,x\n"
    header = ["header=first"] if name in ("1e3", "007") else []
    assert run(tmp_path, text, f"user_column={name}", *header) == {"a": ["x"]}


def test_columns_are_numbers_where_there_is_no_header(tmp_path):
    options = ["header=none", "user_column=2", "item_column=1"]
    assert run(tmp_path, "x,a\ny,a\n", *options) == {"a": ["x", "y"]}


def test_other_options_keep_their_types():
    typed = ["min_user_count=5", "min_rating=3.5", "split.name=global-time", "dataset_name=007"]
    typed += ["split.test_quantile=0.95", "synthetic.num_users=700", "item_file=007"]
    options = options_from_text(typed)
    assert (options.min_user_count, options.min_rating, options.dataset_name) == (5, 3.5, "007")
    assert (options.split.name, options.split.test_quantile) == ("global-time", 0.95)
    assert options.synthetic.num_users == 700
    assert str(options.item_file) == "007"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("delimter=;", "unknown key; did you mean 'delimiter'"),
        ("delimiter=", "delimiter: "),
        ("min_user_count=many", "min_user_count"),
        ("encoding=cp1262", "no encoding is called 'cp1262'; did you mean 'cp1252'"),
        ("quote=ab", "one character, or none"),
        ("header=yes", "'first' or 'none'"),
        ("user_column", "not of the form key=value"),
    ],
)
def test_what_cannot_be_an_option_is_told(typed, message):
    with pytest.raises(ConfigError, match=message):
        options_from_text([typed])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ml-1m", {"item_file": "items.csv"}),
        ("ml-100k", {"user_column": "user"}),
        ("amazon-2018", {"delimiter": ";"}),
        ("s3rec", {"time_column": "when"}),
        ("csv", {"metadata_file": "meta.json"}),
        ("synthetic", {"encoding": "gbk"}),
    ],
)
def test_an_option_that_a_data_set_does_not_read_is_refused(tmp_path, name, options):
    with pytest.raises(ConfigError, match=f"{name} does not read {next(iter(options))}"):
        prepare(name, PrepareOptions(**options), source=tmp_path, out=tmp_path / "out")


def test_a_field_of_sequences_is_no_id(tmp_path):
    text = "user_id:token\titem_id_list:token_seq\n1\t7 8 9\n"
    (tmp_path / "a.inter").write_text(text)
    with pytest.raises(DataError, match="field 'item_id_list' holds sequences"):
        options = PrepareOptions(item_column="item_id_list")
        prepare("recbole", options, source=tmp_path, out=tmp_path / "out")
