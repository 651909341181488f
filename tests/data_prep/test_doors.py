"""What the generic readers refuse, or sort out, where columns are ambiguous."""

import pytest

from data_prep import PrepareOptions, prepare
from recsys.errors import DataError


def write(path, text):
    path.write_text(text)
    return path


def test_one_column_cannot_be_user_and_item(tmp_path):
    source = write(tmp_path / "a.csv", "item_id,x\n1,2\n")
    with pytest.raises(DataError, match="named for two options"):
        prepare("csv", PrepareOptions(user_column="item_id"), source=source, out=tmp_path / "out")


def test_a_header_with_one_name_twice_is_refused(tmp_path):
    source = write(tmp_path / "a.csv", "user_id,item_id,user_id\n1,2,3\n")
    with pytest.raises(DataError, match="has the column 'user_id' twice"):
        prepare("csv", source=source, out=tmp_path / "out")


def test_an_item_file_may_have_columns_that_bear_our_names(tmp_path):
    source = write(tmp_path / "a.csv", "user_id,item_id\n1,7\n1,8\n")
    items = write(tmp_path / "items.csv", "item_id,asin,title,name\n90,7,wrong,right\n91,8,w,r\n")
    options = PrepareOptions(
        item_file=items, item_file_id_column="asin", title_column="name", dataset_name="x"
    )
    dataset = prepare("csv", options, source=source, out=tmp_path / "out")
    assert dataset.item_frame()["title"].to_list() == ["right", "r"]
