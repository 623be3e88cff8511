"""Finding videos by id in whatever tree people keep them in."""

import os

import pytest

from vireo.errors import VireoError
from vireo.media.inventory import COLUMNS, find, fingerprint


def touch(path, size=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def test_both_layouts_any_depth_any_case(tmp_path):
    touch(tmp_path / "videos/AbC.mp4")
    touch(tmp_path / "videos/part 2/dEf.MP4", 7)
    touch(tmp_path / "ghi.mkv")
    touch(tmp_path / "videos/x.y.WebM")
    touch(tmp_path / "output/jkl/frames/jkl_mp4_frame_00:01.jpg", 5)
    touch(tmp_path / "output/jkl/frames/jkl_mp4_frame_00:02.JPG", 5)
    touch(tmp_path / "output/jkl/subtitles.txt")
    touch(tmp_path / "subtitle/AbC.srt")
    touch(tmp_path / "abc.txt")
    ids = ["AbC", "dEf", "ghi", "x.y", "jkl", "abc", "AbC"]
    table = find(ids, tmp_path)
    assert list(table.columns) == COLUMNS
    assert list(table["video"]) == ids[:-1]
    rows = table.set_index("video")
    assert list(rows["status"]) == ["found"] * 5 + ["missing"]  # case of an id matters
    assert rows.loc["dEf", "path"] == str(tmp_path / "videos/part 2/dEf.MP4")
    assert rows.loc["dEf", "size"] == 7
    assert rows.loc["dEf", "mtime_ns"] == os.stat(tmp_path / "videos/part 2/dEf.MP4").st_mtime_ns
    assert rows.loc["jkl", "kind"] == "jpegs"
    assert rows.loc["jkl", "path"] == str(tmp_path / "output/jkl/frames")
    assert rows.loc["jkl", "size"] == 10
    assert rows["path"].isna().tolist() == [False] * 5 + [True]


def test_preference(tmp_path):
    touch(tmp_path / "a/b/v.mp4")
    touch(tmp_path / "a/v.avi")
    touch(tmp_path / "v.mp4", 0)
    touch(tmp_path / "v/frames/1.jpg")
    one = lambda *patterns: find(["v"], tmp_path, *patterns).loc[0, "path"]  # noqa: E731
    assert one() == str(tmp_path / "a/v.avi")  # not empty, then least deep
    assert one(["{id}/frames/*.jpg", "{id}.*"]) == str(tmp_path / "v/frames")
    assert one(["{id}.mp4"]) == str(tmp_path / "a/b/v.mp4")
    assert one(["b/{id}.*"]) == str(tmp_path / "a/b/v.mp4")
    assert one(["nowhere/{id}.*", "{id}/frames/*.jpg"]) == str(tmp_path / "v/frames")
    for pattern in ("*.mp4", "x{id}.mp4", "{id}"):
        with pytest.raises(VireoError, match="pattern"):
            one([pattern])


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b"])
def test_ids_that_are_paths_are_refused(tmp_path, name):
    with pytest.raises(VireoError, match="refused"):
        find(["fine", name], tmp_path)


def test_ids_with_odd_characters(tmp_path):
    ids = ["-dash", "häßlich", "a b", "100%", "it's", "[x]", "*", "x" * 300]
    for name in ids[:-1]:
        touch(tmp_path / f"{name}.mp4")
    assert list(find(ids, tmp_path)["status"]) == ["found"] * 7 + ["missing"]


def test_nothing_there(tmp_path):
    assert list(find(["a"], tmp_path / "no")["status"]) == ["missing"]
    assert find([], tmp_path).empty


def test_links_in_a_circle(tmp_path):
    touch(tmp_path / "real/v.mp4")
    (tmp_path / "real/loop").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "data").symlink_to(tmp_path / "real", target_is_directory=True)
    assert find(["v"], tmp_path / "data").loc[0, "status"] == "found"
    assert fingerprint(tmp_path / "data")


def test_fingerprint_sees_every_change_at_any_depth(tmp_path):
    deep = touch(tmp_path / "a/b/c/v.mp4")
    touch(tmp_path / "w.mp4")
    seen = [fingerprint(tmp_path)]
    assert fingerprint(tmp_path) == seen[0]

    def changed():
        now = fingerprint(tmp_path)
        assert now not in seen
        seen.append(now)

    os.utime(deep, ns=(5, 5))
    changed()
    deep.write_bytes(b"longer than before")
    changed()
    deep.rename(deep.with_name("u.mp4"))
    changed()
    touch(tmp_path / "a/new.mp4")
    changed()
    os.remove(tmp_path / "w.mp4")
    changed()
    assert fingerprint(tmp_path / "no") == fingerprint(tmp_path / "neither")
