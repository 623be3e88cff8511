"""Items and inventories: a part is read as if the whole had been read and cut."""

import numpy as np
import pandas as pd
import pytest

from vireo.errors import VireoError
from vireo.inference import cache_key
from vireo.tables import items as item_table

COUNT = 2 * item_table.PART + 5


def made(count: int = COUNT) -> pd.DataFrame:
    n = np.arange(count)
    return pd.DataFrame(
        {
            "id": [f"q{k}" for k in n],
            "split": np.array(["short", "long"])[n % 2],
            "video": [f"v{k // 3}" for k in n],
            "start": np.where(n % 5, np.nan, n / 4),
            "end": np.nan,
            "question": [f"what {k}?" for k in n],
            "options": [["A. é", "B. \n", f"C. {k}"][: k % 4] for k in n],
            "answer": "A",
            "group": [f"g{k // 3}" for k in n],
            "meta": "{}",
        }
    )


def test_a_part_is_what_a_cut_of_the_whole_would_be(tmp_path):
    items = made()
    item_table.write(items, path := tmp_path / "items.parquet")
    whole = item_table.read_items(path)
    assert [list(row) for row in whole["options"]] == list(items["options"])
    pd.testing.assert_frame_equal(
        whole.drop(columns="options"), items.drop(columns="options"), check_dtype=False
    )
    own = ["g1", "g7", f"g{COUNT // 3}", "unknown"]
    part = item_table.read_items(path, ["short"], own)
    cut = whole[(whole["split"] == "short") & whole["group"].isin(own)].reset_index(drop=True)
    pd.testing.assert_frame_equal(part, cut)
    narrow = item_table.read_items(path, ["long"], columns=("id", "video"))
    assert list(narrow.columns) == ["id", "video"] and len(narrow) == COUNT // 2
    assert item_table.groups(path, "long") == set(items.loc[items["split"] == "long", "group"])
    assert item_table.read_items(path, []).empty and item_table.groups(path, "none") == set()


def test_an_inventory_is_read_for_some_videos(tmp_path):
    videos = pd.DataFrame(
        {
            "video": ["a", "b", "c"],
            "path": ["/x/a.mp4", None, "/x/c"],
            "kind": ["file", "file", "jpegs"],
            "size": [2**40, 0, 1],
            "mtime_ns": [1_700_000_000_123_456_789, 0, 2],
            "status": ["found", "missing", "found"],
            "subtitles": [True, False, False],
        }
    )
    item_table.write(videos, path := tmp_path / "videos.parquet")
    pd.testing.assert_frame_equal(item_table.read_videos(path), videos, check_dtype=False)
    (row,) = item_table.rows(item_table.read_videos(path, {"a", "zz"}))
    assert (row.size, row.mtime_ns) == (2**40, 1_700_000_000_123_456_789) and row.subtitles
    assert item_table.missing_videos(path) == {"b"}


def test_the_hash_of_items_does_not_depend_on_order_or_layout(tmp_path):
    items = made(50)
    item_table.write(items, path := tmp_path / "a.parquet")
    items.iloc[::-1].to_parquet(other := tmp_path / "b.parquet", row_group_size=7)
    assert cache_key.items_hash(path) == cache_key.items_hash(other)
    items.at[9, "options"] = ["A. other"]
    item_table.write(items, other)
    assert cache_key.items_hash(path) != cache_key.items_hash(other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not found: .*prepare.py makes it"),
        (b"PAR1 no more", "no readable Parquet file"),
        (b"", "no readable Parquet file"),
    ],
)
def test_broken_files_are_named(tmp_path, content, message):
    path = tmp_path / "items.parquet"
    if content is not None:
        path.write_bytes(content)
    for read in (item_table.read_items, item_table.read_videos, item_table.missing_videos):
        with pytest.raises(VireoError, match=message):
            read(path)


def test_a_lacking_column_and_a_cut_file_are_named(tmp_path):
    path = tmp_path / "items.parquet"
    made(9).drop(columns=["meta", "group"]).to_parquet(path)
    with pytest.raises(VireoError, match="has no column group, meta"):
        item_table.read_items(path)
    item_table.write(made(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3] + bytes(300) + whole[len(whole) // 3 + 300 :])
    with pytest.raises(VireoError, match="damaged"):
        item_table.read_items(path)
