"""Archives that try to leave their folder, fill the disk, or fool a file system."""

import io
import os
import random
import stat
import struct
import tarfile
import zipfile

import pytest

from vireo.errors import VireoError
from vireo.fetch import archive
from vireo.fetch.archive import extract

NOISE = random.Random(1).randbytes(20_000)


def make_zip(path, members, **how):
    with zipfile.ZipFile(path, "w", **how) as out:
        for name, body in members:
            out.writestr(name, body)
    return path


def make_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as out:
        for name, body in members:
            if isinstance(name, tarfile.TarInfo):
                out.addfile(name, io.BytesIO(body) if body else None)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(body)
            out.addfile(info, io.BytesIO(body))
    return path


MAKERS = [
    ("a.zip", make_zip),
    ("a.tar", make_tar),
    ("a.tar.gz", lambda p, m: make_tar(p, m, "w:gz")),
    ("a.tar.xz", lambda p, m: make_tar(p, m, "w:xz")),
]
each_format = pytest.mark.parametrize(("name", "make"), MAKERS, ids=[m[0] for m in MAKERS])


def everything(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@each_format
def test_good_archive(tmp_path, name, make):
    made = make(tmp_path / name, [("data/a.mp4", NOISE), ("data/sub dir/ü.mp4", b""), ("c", b"1")])
    out = tmp_path / "out"
    counted = []
    names = extract(made, out, report=counted.append)
    assert sorted(names) == everything(out) == ["c", "data/a.mp4", "data/sub dir/ü.mp4"]
    assert (out / "data/a.mp4").read_bytes() == NOISE
    assert sum(counted) == len(NOISE) + 1


@each_format
def test_flatten_and_litter(tmp_path, name, make):
    members = [("x/y/a.mp4", b"1"), ("__MACOSX/x/._a.mp4", b"2"), ("x/.DS_Store", b"3")]
    assert extract(make(tmp_path / name, members), tmp_path / "out", flatten=True) == ["a.mp4"]


@each_format
@pytest.mark.parametrize(
    "bad",
    [
        "/etc/evil",
        "../evil",
        "a/../../evil",
        "a/..",
        "C:evil",
        "a\\..\\evil",
        "x" * 300,
        "line\nbreak",
        "bell\x07",
    ],
)
def test_names_that_leave_the_folder(tmp_path, name, make, bad):
    made = make(tmp_path / name, [("good", b"1"), (bad, b"2")])
    with pytest.raises(VireoError, match="refused"):
        extract(made, tmp_path / "out")
    assert everything(tmp_path / "out") == []


@each_format
@pytest.mark.parametrize(
    ("first", "second"),
    [("a/x", "a/x"), ("a/x", "A/X"), ("a/x", "a/X"), ("é", "e\u0301"), ("a", "a/b"), ("a/b", "a")],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_collide(tmp_path, name, make, first, second):
    made = make(tmp_path / name, [(first, b"1"), (second, b"2")])
    with pytest.raises(VireoError, match="collides"):
        extract(made, tmp_path / "out")
    assert everything(tmp_path / "out") == []


def test_flattened_names_collide(tmp_path):
    made = make_zip(tmp_path / "a.zip", [("one/x", b"1"), ("two/x", b"2")])
    with pytest.raises(VireoError, match="collides"):
        extract(made, tmp_path / "out", flatten=True)


@pytest.mark.parametrize("case", ["absolute", "link inside", "control character"])
def test_refused_although_the_data_filter_of_tarfile_takes_it(tmp_path, case):
    info = tarfile.TarInfo({"absolute": "/x", "control character": "a\nb"}.get(case, "x"))
    if case == "link inside":
        info.type, info.linkname = tarfile.SYMTYPE, "other"
    made = make_tar(tmp_path / "a.tar", [(info, b"")])
    with tarfile.open(made) as opened:
        (member,) = opened
        assert tarfile.data_filter(member, str(tmp_path)) is not None
    with pytest.raises(VireoError, match="refused"):
        extract(made, tmp_path / "out")
    assert everything(tmp_path / "out") == []


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_tar_links_and_devices(tmp_path, kind):
    info = tarfile.TarInfo("a")
    info.type, info.linkname = kind, "/etc/passwd"
    made = make_tar(tmp_path / "a.tar", [(info, b""), ("a/b", b"x")])
    with pytest.raises(VireoError, match="link or device"):
        extract(made, tmp_path / "out")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_zip_links_and_devices(tmp_path, kind):
    info = zipfile.ZipInfo("a")
    info.external_attr = (kind | 0o777) << 16
    made = make_zip(tmp_path / "a.zip", [(info, b"/etc/passwd")])
    with pytest.raises(VireoError, match="link or device"):
        extract(made, tmp_path / "out")


def test_zip_name_with_nul(tmp_path):
    made = make_zip(tmp_path / "a.zip", [("evilXname", b"1")])
    made.write_bytes(made.read_bytes().replace(b"evilXname", b"evil\0name"))
    with pytest.raises(VireoError):
        extract(made, tmp_path / "out")


def test_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "ALWAYS_ALLOWED", 100_000)
    zeros = bytes(3_000_000)
    honest = make_zip(tmp_path / "a.zip", [("x", zeros)], compression=zipfile.ZIP_DEFLATED)
    gz = make_tar(tmp_path / "a.tar.gz", [("x", zeros)], "w:gz")
    for made in (honest, gz):
        with pytest.raises(VireoError, match="bomb"):
            extract(made, tmp_path / "out")
        assert everything(tmp_path / "out") == []
        assert extract(made, tmp_path / "out2", limit=4_000_000) == ["x"]


def test_zip_that_lies_about_its_size(tmp_path):
    made = make_zip(tmp_path / "a.zip", [("x", bytes(9000))], compression=zipfile.ZIP_DEFLATED)
    body = made.read_bytes()
    lie = body.replace(struct.pack("<I", 9000), struct.pack("<I", 10))
    assert lie != body
    made.write_bytes(lie)
    with pytest.raises(VireoError):
        extract(made, tmp_path / "out")
    assert everything(tmp_path / "out") == []


def test_sparse_tar_counts_its_holes(tmp_path):
    """GNU sparse members declare a huge file that takes no space in the archive."""
    made = tmp_path / "a.tar"
    hole = tmp_path / "hole"
    with open(hole, "wb") as handle:
        handle.truncate(1 << 34)
    if os.system(f"tar -S -C '{tmp_path}' -cf '{made}' hole 2>/dev/null"):
        pytest.skip("no GNU tar")
    assert made.stat().st_size < 1 << 20
    with pytest.raises(VireoError, match=r"bomb|damaged|free"):
        extract(made, tmp_path / "out")
    assert everything(tmp_path / "out") == []


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 5)
    made = make_zip(tmp_path / "a.zip", [(str(i), b"") for i in range(6)])
    with pytest.raises(VireoError, match="more than 5"):
        extract(made, tmp_path / "out")


def test_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "RESERVE", 1 << 60)
    made = make_zip(tmp_path / "a.zip", [("x", NOISE)])
    with pytest.raises(VireoError, match="are free"):
        extract(made, tmp_path / "out")


@each_format
def test_truncated_and_garbage(tmp_path, name, make):
    made = make(tmp_path / name, [("x", NOISE), ("y", NOISE)])
    body = made.read_bytes()
    for broken in (body[: len(body) // 2], b"", b"<html>not an archive</html>" * 50):
        made.write_bytes(broken)
        with pytest.raises(VireoError, match=r"damaged|not an archive|declares"):
            extract(made, tmp_path / "out")
        assert everything(tmp_path / "out") == []


def test_encrypted_zip(tmp_path):
    made = make_zip(tmp_path / "a.zip", [("x", b"12345")])
    body = bytearray(made.read_bytes())
    body[6] |= 1
    body[body.index(b"PK\x01\x02") + 8] |= 1
    made.write_bytes(body)
    with pytest.raises(VireoError, match=r"(?i)encrypted"):
        extract(made, tmp_path / "out")


def test_killed_extraction_is_done_again(tmp_path):
    made = make_zip(tmp_path / "a.zip", [("x", NOISE)])
    out = tmp_path / "out"
    (out / ".unpacking-a.zip").mkdir(parents=True)
    (out / ".unpacking-a.zip" / "x").write_bytes(b"half")
    assert extract(made, out) == ["x"]
    assert everything(out) == ["x"]
