"""One table in many spellings: the same data set, or a refusal that names the cause."""

import pytest

from data_prep import PrepareOptions, prepare
from recsys.errors import ConfigError, DataError
from tests.data_prep.raw_tables.spellings import NAMES, seeded, table, write


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The content hash of the table, written plainly: with text ids, with numbers."""
    found = {}
    for numbers in (False, True):
        folder = tmp_path_factory.mktemp("plain")
        lines = ["\t".join(NAMES), *("\t".join(map(str, row)) for row in table(numbers))]
        (folder / "rows.tsv").write_text("\n".join(lines) + "\n")
        dataset = prepare("tsv", source=folder / "rows.tsv", out=folder / "out")
        found[numbers] = dataset.manifest.content_hash
    return found


@pytest.mark.parametrize("seed", range(40))
def test_a_table_is_the_same_data_set_however_it_is_written(tmp_path, expected, seed):
    spelling, numbers = write(seeded(seed), tmp_path)
    options = PrepareOptions(**spelling.options)
    dataset = prepare(spelling.kind, options, source=spelling.source, out=tmp_path / "out")
    assert dataset.manifest.content_hash == expected[numbers], spelling.told


@pytest.mark.parametrize("seed", range(40))
def test_no_spelling_is_read_wrong_in_silence_when_an_option_is_left_out(tmp_path, expected, seed):
    rng = seeded(seed)
    spelling, numbers = write(rng, tmp_path)
    # Times and ratings are read where a column is named for them; the rest must be found out.
    told = {"time_column", "weight_column"} & set(spelling.options)
    kept = {n: value for n, value in spelling.options.items() if n in told or rng.random() < 0.6}
    kind = spelling.kind if rng.random() < 0.7 else rng.choice(["csv", "tsv", "jsonl", "parquet"])
    try:
        dataset = prepare(
            kind, PrepareOptions(**kept), source=spelling.source, out=tmp_path / "out"
        )
    except (DataError, ConfigError) as error:
        assert len(str(error)) > 30
        return
    assert dataset.manifest.content_hash == expected[numbers], (
        f"{spelling.told}; told {kind} {kept}"
    )
