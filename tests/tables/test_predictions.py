"""Prediction files: exact scores, one row per (id, view), clear words for foreign files."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vireo.errors import VireoError
from vireo.tables import predictions as P


def row(id, status="ok", view=0, scores=(0.1, 0.2), **more):
    values = {"prediction": '"A. x"', "frames": [0, 4], "seconds": 0.5, "error": None, "flags": []}
    key = {"id": id, "view": view, "group": id[0], "status": status}
    return {**key, **values, "scores": np.float32(scores), **more}


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=5))
def test_scores_are_exact(tmp_path_factory, scores):
    path = tmp_path_factory.mktemp("p") / "x.parquet"
    P.write(path, [row("a", scores=scores, source=[1, 2])], {"device": "cpu"})
    frame = P.read(path)
    assert frame.columns.tolist() == P.SCHEMA.names
    assert frame["scores"][0].tobytes() == np.float32(scores).tobytes()
    assert P.info(path) == {"device": "cpu"}


def test_shards_join_in_order(tmp_path):
    P.write(tmp_path / "1", [row("b"), row("a", view=1)])
    P.write(tmp_path / "2", [])
    P.write(tmp_path / "3", [row("a", "error", error="broken", scores=())])
    frame = P.read([tmp_path / "1", tmp_path / "2", tmp_path / "3"])
    assert list(zip(frame["id"], frame["view"], strict=True)) == [("b", 0), ("a", 1), ("a", 0)]
    assert P.read([]).empty


def test_duplicates_and_unknown_statuses_are_refused(tmp_path):
    P.write(tmp_path / "1", [row("a"), row("b")])
    P.write(tmp_path / "2", [row("c"), row("b")])
    with pytest.raises(VireoError, match=r"'b' \(view 0\) stands in .*1 and again in .*2"):
        P.read([tmp_path / "1", tmp_path / "2"])
    with pytest.raises(VireoError, match="'fine'"):
        P.write(tmp_path / "4", [row("a", "fine")])
    assert not (tmp_path / "4").exists()


def test_files_that_are_no_predictions(tmp_path):
    with pytest.raises(VireoError, match="not found"):
        P.read(tmp_path / "absent")
    (tmp_path / "truncated").write_bytes(b"PAR1 and no more")
    with pytest.raises(VireoError, match="truncated"):
        P.read(tmp_path / "truncated")
    table = pa.Table.from_pylist([row("a")], schema=P.SCHEMA)
    other = table.append_column("colour", pa.array(["red"])).drop_columns(["frames"])
    pq.write_table(other, tmp_path / "other")
    with pytest.raises(VireoError, match="unknown columns: colour; missing columns: frames"):
        P.read(tmp_path / "other")
