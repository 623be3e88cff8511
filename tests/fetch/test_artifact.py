"""One artifact from block to receipt: own copies, downloads, locks, archives, kills, full disks."""

import hashlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from vireo import config as configuration
from vireo.errors import VireoError
from vireo.fetch import download, http, receipt
from vireo.fetch.artifact import describe_missing, fetch, listing

BODY = random.Random(2).randbytes(200_000)
SHA = hashlib.sha256(BODY).hexdigest()
OTHER = random.Random(3).randbytes(200_000)
HOME = Path(__file__).resolve().parents[2]
SLOW_MB = random.Random(4).randbytes(1 << 20)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(http, "BACKOFF_S", 0.01)
    monkeypatch.setattr(http, "TIMEOUT_S", (2.0, 2.0))


def go(block, name="thing", **config):
    return fetch(name, block, {"paths": {}, **config}, f"data/receipts/{name}.json")


def one_file(url, **facts):
    return {"sources": [{"type": "http", "url": url}], "files": [{"name": "w.pth", **facts}]}


def zipped(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name, body in members.items():
            made.writestr(name.replace("__", "/").replace("_mp4", ".mp4"), body)
    return out.getvalue()


def leftovers(root="data/thing"):
    return sorted(str(p.relative_to(root)) for p in Path(root).rglob("*") if p.is_file())


class TestDownload:
    def test_receipt(self, server):
        made = go(one_file(server.put("/w.pth", BODY), size=len(BODY), sha256=SHA))
        assert made == json.loads(Path("data/receipts/thing.json").read_text())
        seen = os.stat("data/thing/w.pth")
        facts = {"size": len(BODY), "mtime_ns": seen.st_mtime_ns, "sha256": SHA}
        assert made["files"] == {"w.pth": facts}
        assert made["root"] == "data/thing"
        assert receipt.only_file("data/receipts/thing.json").read_bytes() == BODY
        assert leftovers() == ["w.pth"]

    def test_second_time_nothing_is_asked(self, server):
        block = one_file(server.put("/w.pth", BODY), sha256=SHA)
        go(block)
        server.requests.clear()
        go(block)
        assert server.requests == []

    def test_mirrors_in_order(self, server):
        server.put("/a/w.pth", BODY, statuses=[404])
        server.put("/b/w.pth", OTHER)
        server.put("/c/w.pth", BODY)
        block = one_file("", sha256=SHA)
        block["sources"] = [{"type": "http", "url": f"{server.url}/{m}/{{name}}"} for m in "abc"]
        assert go(block)["source"] == f"{server.url}/c/w.pth"

    def test_all_mirrors_dead_prints_the_manual_step(self, server):
        block = one_file(f"{server.url}/{{name}}", sha256=SHA)
        block["by_hand"] = "Ask the authors for w.pth."
        with pytest.raises(VireoError) as error:
            go(block)
        text = str(error.value)
        assert "HTTP 404" in text and "Ask the authors" in text and SHA in text
        assert "paths: {thing:" in text
        assert not Path("data/receipts/thing.json").exists()
        assert leftovers() == []

    def test_wrong_bytes_never_get_the_final_name(self, server):
        with pytest.raises(VireoError, match="sha256 is"):
            go(one_file(server.put("/w.pth", OTHER), sha256=SHA))
        assert leftovers() == []

    def test_alternative_from_another_source(self, server):
        server.put("/t.pth", OTHER)
        block = {
            "sources": [
                {"type": "http", "url": f"{server.url}/gone"},
                {"type": "http", "url": f"{server.url}/{{name}}", "files": {"twin.pth": "t.pth"}},
            ],
            "files": [{"name": "w.pth", "sha256": SHA, "accept": [{"name": "twin.pth"}]}],
        }
        assert list(go(block)["files"]) == ["twin.pth"]

    def test_zenodo(self, server, monkeypatch):
        monkeypatch.setattr(
            download, "ZENODO", server.url + "/records/{record}/files/{name}?download=1"
        )
        server.put("/records/77/files/w%20x.pth", BODY)
        block = {
            "sources": [{"type": "zenodo", "record": 77}],
            "files": [{"name": "w x.pth", "md5": hashlib.md5(BODY).hexdigest()}],
        }
        go(block)
        assert server.requests[0][1] == "/records/77/files/w%20x.pth?download=1"

    def test_file_name_cannot_leave(self, server):
        block = one_file(f"{server.url}/x")
        block["files"][0]["name"] = "../../evil"
        with pytest.raises(VireoError, match="leaves"):
            go(block)


class TestLockFile:
    def test_first_download_is_recorded_and_enforced(self, server):
        block = one_file(server.put("/w.pth", BODY))
        go(block)
        lock = json.loads(Path("data/lock.json").read_text())
        assert lock["thing"]["files"]["w.pth"]["sha256"] == SHA
        Path("data/thing/w.pth").unlink()
        server.put("/w.pth", OTHER)
        with pytest.raises(VireoError, match=r"(?s)sha256 is.*recorded.*--accept-change"):
            go(block)
        assert leftovers() == []
        fetch("thing", block, {"paths": {}}, "data/receipts/thing.json", accept_change=True)
        assert Path("data/thing/w.pth").read_bytes() == OTHER
        go(block)

    def test_changed_on_disk(self, server):
        block = one_file(server.put("/w.pth", BODY))
        go(block)
        Path("data/thing/w.pth").write_bytes(OTHER)
        with pytest.raises(VireoError, match="--accept-change"):
            go(block)

    def test_damaged_hash_cache_is_made_again(self, server):
        block = one_file(server.put("/w.pth", BODY), sha256=SHA)
        go(block)
        Path("cache/hashes.json").write_text("{")
        go(block)

    def test_many_writers(self):
        code = (
            "import sys; from vireo.fetch import receipt\n"
            "for i in range(20): receipt.enforce(sys.argv[1], f'f{i}', 1, 'x', 'u')"
        )
        jobs = [subprocess.Popen([sys.executable, "-c", code, n], env=env()) for n in "abc"]
        assert [job.wait() for job in jobs] == [0, 0, 0]
        lock = json.loads(Path("data/lock.json").read_text())
        assert {name: len(entry["files"]) for name, entry in lock.items()} == dict.fromkeys(
            "abc", 20
        )


class TestOwnCopy:
    block = {  # noqa: RUF012
        "files": [{"name": "w.pth", "sha256": SHA, "accept": [{"name": "model.safetensors"}]}]
    }

    def test_folder(self, tmp_path):
        own = tmp_path / "own dir"
        own.mkdir()
        (own / "w.pth").write_bytes(BODY)
        made = go(self.block, paths={"thing": str(own)})
        assert made["root"] == "own dir" and list(made["files"]) == ["w.pth"]
        assert not Path("data/thing").exists()

    def test_accepted_name(self, tmp_path):
        (tmp_path / "model.safetensors").write_bytes(OTHER)
        assert list(go(self.block, paths={"thing": "."})["files"]) == ["model.safetensors"]

    def test_file_under_any_name(self, tmp_path):
        (tmp_path / "mine.pth").write_bytes(OTHER)
        go(self.block, paths={"thing": "mine.pth"})
        assert receipt.only_file("data/receipts/thing.json") == Path("mine.pth")

    @pytest.mark.parametrize("where", [".", "w.pth"])
    def test_damaged(self, tmp_path, where):
        (tmp_path / "w.pth").write_bytes(BODY[:1000])
        with pytest.raises(VireoError, match=r"w.pth is damaged or another file.*paths"):
            go(self.block, paths={"thing": where})

    def test_truncated_file_of_known_size(self, tmp_path):
        (tmp_path / "w.pth").write_bytes(BODY[:1000])
        block = {"files": [{"name": "w.pth", "size": len(BODY)}]}
        with pytest.raises(VireoError, match=r"has 1000 bytes, w\.pth has 200000"):
            go(block, paths={"thing": "."})

    def test_typo_and_empty_folder(self, tmp_path):
        with pytest.raises(VireoError, match=r"paths.thing names nowhere.*config.yaml"):
            go(self.block, paths={"thing": "nowhere"})
        (tmp_path / "empty").mkdir()
        with pytest.raises(VireoError, match=r"does not have w.pth"):
            go(self.block, paths={"thing": "empty"})

    def test_hash_is_read_once(self, tmp_path, monkeypatch):
        (tmp_path / "w.pth").write_bytes(BODY)
        go(self.block, paths={"thing": "."})
        real = receipt.files.sha256

        def hashed(path):
            assert Path(path).name != "w.pth", "hashed again"
            return real(path)

        monkeypatch.setattr(receipt.files, "sha256", hashed)
        go(self.block, paths={"thing": "."})

    def test_receipt_of_a_folder_that_went(self, tmp_path):
        (tmp_path / "own").mkdir()
        (tmp_path / "own/w.pth").write_bytes(BODY)
        go(self.block, paths={"thing": "own"})
        (tmp_path / "own").rename(tmp_path / "away")
        with pytest.raises(VireoError, match="not there any more"):
            receipt.only_file("data/receipts/thing.json")


VIDEOS = {
    "files": [
        {"name": "test.parquet"},
        {"name": "videos_*.zip", "extract": {"to": "videos", "flatten": True}},
    ],
    "wants": [
        {"what": "annotations", "any": ["*.parquet"]},
        {"what": "videos", "count": 4, "any": ["videos/*.mp4", "output/*/frames", "**/*.mkv"]},
        {"what": "subtitles", "count": 4, "optional": True, "any": ["subtitle/*.srt"]},
    ],
    "by_hand": "Read the terms.",
}


class TestDataSet:
    def test_own_folder_in_either_layout(self, tmp_path, caplog):
        (tmp_path / "own/videos").mkdir(parents=True)
        (tmp_path / "own/test.parquet").write_bytes(b"p")
        with pytest.raises(
            VireoError, match=r"does not have videos: videos/\*.mp4 or output/\*/fr"
        ):
            go(VIDEOS, paths={"thing": "own"})
        (tmp_path / "own/videos/a.mp4").write_bytes(b"v")
        made = go(VIDEOS, paths={"thing": "own"})
        assert made["found"] == {"videos": 1, "subtitles": 0}
        assert list(made["files"]) == ["test.parquet"]
        assert "videos: 1 of 4" in caplog.text
        for name in ("b.1", "b.2"):
            (tmp_path / f"own/output/{name}/frames").mkdir(parents=True)
        (tmp_path / "own/videos/a.mkv").write_bytes(b"v")
        assert go(VIDEOS, paths={"thing": "own"})["found"]["videos"] == 3

    def test_own_folder_with_archives_still_packed(self, tmp_path):
        (tmp_path / "own").mkdir()
        (tmp_path / "own/test.parquet").write_bytes(b"p")
        (tmp_path / "own/videos_01.zip").write_bytes(zipped(a_mp4="1"))
        with pytest.raises(VireoError, match=r"holds archives \(videos_01.zip\): unpack"):
            go(VIDEOS, paths={"thing": "own"})

    def test_archives_dropped_into_data_are_unpacked_and_kept(self, caplog):
        root = Path("data/thing")
        root.mkdir(parents=True)
        (root / "test.parquet").write_bytes(b"p")
        (root / "videos_01.zip").write_bytes(zipped(data__a_mp4="1", data__b_mp4="2"))
        (root / "videos_02.zip").write_bytes(zipped(data__c_mp4="3", data__d_mp4="4"))
        made = go(VIDEOS, offline=True, keep_archives=False)
        assert made["found"]["videos"] == 4
        assert (root / "videos_01.zip").exists() and (root / "videos/c.mp4").exists()

    def test_by_hand_only(self):
        with pytest.raises(VireoError, match=r"(?s)annotations.*videos.*Read the terms"):
            go(VIDEOS)

    def test_describe_missing_names_exactly_what_lacks(self):
        root = Path("data/thing")
        (root / "videos").mkdir(parents=True)
        for name in "abc":
            (root / f"videos/{name}.mp4").write_bytes(b"v")
        text = describe_missing("thing", VIDEOS, {"paths": {}})
        assert "- annotations" in text and "videos: 3 of 4" in text and "subtitles" not in text
        (root / "videos/d.mp4").write_bytes(b"v")
        (root / "test.parquet").write_bytes(b"p")
        assert describe_missing("thing", VIDEOS, {"paths": {}}) == ""

    def test_listing(self):
        config = {"paths": {}, "artifacts": {"thing": {**VIDEOS, "title": "Things"}}}
        assert re.search(r"thing +unknown size +not in data/thing +Things", listing(config))

    @pytest.mark.parametrize("layout", ["released", "guide", "guide's output folder", "elsewhere"])
    def test_video_mme_in_every_layout(self, tmp_path, layout):
        block = configuration.load()["artifacts"]["videomme"]
        own = tmp_path / "own"
        (own / "videomme").mkdir(parents=True)
        (own / "videomme/test-00000-of-00001.parquet").write_bytes(b"p")
        for name in ("fFjv93ACGo8", "a-b.c_d"):
            place = {
                "released": own / "videos" / f"{name}.MP4",
                "guide": own / "output" / name / "frames" / f"{name}_mp4_frame_00:01.jpg",
                "guide's output folder": own / name / "frames" / "1.jpg",
                "elsewhere": own / "all/long" / f"{name}.mkv",
            }[layout]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"v")
        made = go(block, "videomme", paths={"videomme": str(own)})
        assert made["found"] == {"videos": 2, "subtitles": 0}
        assert list(made["files"]) == ["videomme/test-00000-of-00001.parquet"]


class TestOffline:
    def test_says_what_lacks_and_asks_nobody(self, server):
        block = one_file(server.put("/w.pth", BODY))
        with pytest.raises(VireoError, match=r"(?s)offline: true.*w\.pth"):
            go(block, offline=True)
        assert server.requests == []

    def test_uses_what_is_there(self, server):
        block = one_file(server.put("/w.pth", BODY))
        go(block)
        server.requests.clear()
        go(block, offline=True)
        assert server.requests == []


class TestArchives:
    def block(self, server):
        return {
            "sources": [{"type": "http", "url": server.url + "/{name}"}],
            "files": [
                {"name": f"v{i}.zip", "extract": {"to": "videos", "flatten": True}} for i in (1, 2)
            ],
            "wants": [{"what": "videos", "count": 4, "any": ["videos/*.mp4"]}],
        }

    def test_downloaded_unpacked_removed(self, server):
        server.put("/v1.zip", zipped(data__a_mp4="1", data__b_mp4="2"))
        server.put("/v2.zip", zipped(data__c_mp4="3"))
        made = go(self.block(server), keep_archives=False)
        assert made["found"] == {"videos": 3}
        assert not list(Path("data/thing").glob("*.zip"))
        server.requests.clear()
        go(self.block(server), keep_archives=False)
        assert describe_missing("thing", self.block(server), {"paths": {}}) == ""
        assert server.requests == []

    def test_kept_archive_heals_a_deleted_video(self, server):
        server.put("/v1.zip", zipped(data__a_mp4="1", data__b_mp4="2"))
        server.put("/v2.zip", zipped(data__c_mp4="3"))
        go(self.block(server))
        Path("data/thing/videos/a.mp4").unlink()
        server.requests.clear()
        go(self.block(server))
        assert Path("data/thing/videos/a.mp4").exists() and server.requests == []

    def test_only_the_missing_archive_is_fetched_after_a_failure(self, server):
        server.put("/v1.zip", zipped(data__a_mp4="1"))
        with pytest.raises(VireoError, match=r"v2\.zip"):
            go(self.block(server), keep_archives=False)
        server.put("/v2.zip", zipped(data__c_mp4="3"))
        server.requests.clear()
        go(self.block(server), keep_archives=False)
        assert [path for _, path, _ in server.requests] == ["/v2.zip"]

    def test_hostile_archive(self, server):
        server.put("/v1.zip", zipped(**{"..__evil": "1"}))
        with pytest.raises(VireoError, match="refused"):
            go(self.block(server))
        assert not list(Path().rglob("evil"))

    def test_no_room(self, server, monkeypatch):
        block = one_file(server.put("/w.pth", BODY), size=1 << 60)
        with pytest.raises(VireoError, match=r"needs 1152921.* TB in .* are free.*keep_archives"):
            go(block)
        assert server.requests == []


def env(**more):
    plain = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return {
        **plain,
        "PYTHONPATH": str(HOME),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": os.path.abspath("hf_home"),
        **more,
    }


RUN = """
import json, sys
from vireo.errors import VireoError
from vireo.fetch import http
from vireo.utils import cli
from vireo.fetch.artifact import fetch
http.BACKOFF_S = 0.01
cli.setup()
block = json.load(open("block.json"))
try:
    fetch("thing", block, {"paths": {}}, "data/receipts/thing.json")
except VireoError as error:
    sys.exit(f"VireoError: {error}")
"""


def start(block, **more):
    Path("block.json").write_text(json.dumps(block))
    return subprocess.Popen(
        [sys.executable, "-c", RUN], env=env(**more), stderr=subprocess.PIPE, text=True
    )


def finish(job):
    _, err = job.communicate(timeout=60)
    return job.returncode, err


class TestHub:
    """`huggingface_hub` reads HF_ENDPOINT when imported, so these run in a process of their own."""

    block = {  # noqa: RUF012
        "sources": [{"type": "hf", "repo": "some/model"}],
        "files": [{"name": "sub/w.pth"}, {"name": "v_*.zip", "extract": {"to": "videos"}}],
    }

    def test_files_patterns_and_pinned_commit(self, server):
        files = {"sub/w.pth": BODY, "v_1.zip": zipped(a_mp4="1"), "v_2.zip": zipped(b_mp4="1")}
        server.hub("some/model", files)
        server.pages[f"/some/model/resolve/{'c' * 40}/sub/w.pth"].cut_after = [90_000]
        code, err = finish(start(self.block, HF_ENDPOINT=server.url))
        assert code == 0, err
        gets = [path for method, path, _ in server.requests if method == "GET"]
        assert sum("sub/w.pth" in path for path in gets) == 2
        made = json.loads(Path("data/receipts/thing.json").read_text())
        assert made["files"]["sub/w.pth"]["sha256"] == SHA
        assert {"sub/w.pth", "videos/a.mp4", "videos/b.mp4"} <= set(leftovers())
        lock = json.loads(Path("data/lock.json").read_text())["thing"]
        assert lock["commits"] == {"some/model@main": "c" * 40}
        # The branch moves on: the recorded commit is still what is fetched.
        server.hub("some/model", {"sub/w.pth": OTHER}, commit="d" * 40)
        server.hub("some/model", files, revisions=())
        Path("data/thing/sub/w.pth").unlink()
        code, err = finish(start(self.block, HF_ENDPOINT=server.url))
        assert code == 0, err
        assert Path("data/thing/sub/w.pth").read_bytes() == BODY

    def test_token_comes_from_the_environment_and_is_not_written(self, server):
        server.hub("some/model", {"sub/w.pth": BODY}, token="hf_plantedplanted")
        block = {**self.block, "files": self.block["files"][:1], "by_hand": "Accept the terms."}
        code, err = finish(start(block, HF_ENDPOINT=server.url))
        assert code == 1 and "HF_TOKEN" in err and "Accept the terms." in err
        assert "Traceback" not in err
        code, err = finish(start(block, HF_ENDPOINT=server.url, HF_TOKEN="hf_plantedplanted"))
        assert code == 0, err
        written = [p for p in Path().rglob("*") if p.is_file()]
        assert not [p for p in written if b"hf_planted" in p.read_bytes()]
        assert "hf_planted" not in err

    def test_gated_and_absent(self, server):
        gate = {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"}
        server.put("/api/models/some/model/revision/main", b"{}", statuses=[403] * 9, headers=gate)
        code, err = finish(start(self.block, HF_ENDPOINT=server.url))
        assert code == 1 and "some/model is gated: accept its terms" in err, err
        code, err = finish(start(self.block, HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1"))
        assert code == 1 and "HF_HUB_OFFLINE is set" in err

    def test_unreachable(self):
        code, err = finish(start(self.block, HF_ENDPOINT="http://127.0.0.1:9"))
        assert code == 1 and "VireoError: " in err and "Traceback" not in err, err


class TestProcesses:
    def test_two_at_once_download_once(self, server):
        block = one_file(server.put("/w.pth", BODY, delay=0.02), sha256=SHA)
        jobs = [start(block), start(block)]
        assert [finish(job)[0] for job in jobs] == [0, 0]
        assert len(server.requests) == 1

    def test_kill_dash_nine_resumes(self, server):
        block = one_file(server.put("/w.pth", SLOW_MB, delay=0.05))
        job = start(block)
        part = Path("data/thing/.vireo/part/w.pth")
        deadline = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size > 200_000):
            assert time.monotonic() < deadline and job.poll() is None
            time.sleep(0.02)
        os.kill(job.pid, signal.SIGKILL)
        finish(job)
        have = part.stat().st_size
        assert not Path("data/thing/w.pth").exists()
        server.pages["/w.pth"].delay = 0.0
        go(block)
        assert Path("data/thing/w.pth").read_bytes() == SLOW_MB
        assert server.ranges() == [None, f"bytes={have}-"]

    @pytest.mark.parametrize("what", ["file", "archive"])
    def test_full_disk(self, server, tmp_path, what, monkeypatch):
        if os.geteuid() != 0:
            pytest.skip("mounting a small file system needs root")
        disk = tmp_path / "data"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True
        )
        if mounted.returncode:
            pytest.skip(f"mount refused: {mounted.stderr.decode().strip()}")
        try:
            monkeypatch.setattr(download, "RESERVE", -(1 << 40))  # the check beforehand is blind
            if what == "file":
                block = one_file(server.put("/w.pth", SLOW_MB))
            else:
                server.put("/v.zip", zipped(a=SLOW_MB[:350_000]))
                block = one_file(server.url + "/{name}")
                block["files"] = [{"name": "v.zip", "extract": {}}]
            with pytest.raises(VireoError, match=r"No space left|are free") as error:
                go(block)
            assert str(disk) in str(error.value) or "data/thing" in str(error.value)
            assert not [p for p in leftovers() if not p.startswith(".vireo/")]
        finally:
            subprocess.run(["umount", str(disk)], check=True)


def test_command_line(server, tmp_path):
    mine = tmp_path / "mine.yaml"
    url = server.put("/w.pth", BODY)
    mine.write_text(json.dumps({"artifacts": {"thing": one_file(url, sha256=SHA)}}))
    script = [sys.executable, str(HOME / "scripts/fetch.py"), "--config", str(mine)]
    done = subprocess.run(
        [*script, "thing", "--log", "x/fetch.log"], env=env(), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(Path("data/receipts/thing.json").read_text())["files"]["w.pth"]
    assert "ready in data/thing" in Path("x/fetch.log").read_text()
    done = subprocess.run([*script, "--list"], env=env(), capture_output=True, text=True)
    assert "viclip_l14_internvid_10m_flt" in done.stdout
    done = subprocess.run([*script, "thnig"], env=env(), capture_output=True, text=True)
    assert done.returncode == 1 and "did you mean 'thing'" in done.stderr
