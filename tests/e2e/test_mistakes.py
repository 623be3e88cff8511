"""Mistakes of a new user: each ends with one message that names the place and the fix."""

import copy as copies
import json
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from tests.e2e.world import SHORT, Done, Place, same, settings
from tests.fetch.conftest import Server

ITEMS = "cache/items/videomme.parquet"


def refused(done: Done, *words: str) -> None:
    """It failed, said all `words` in one message of ours, and showed no traceback."""
    assert done.code != 0
    assert "Traceback (most recent call last)" not in done.text, done.text
    message = done.text.partition("error: ")[2].partition("RuleException")[0]
    for word in words:
        assert word in message, (word, done.text)


def unfinished(place: Place, *files: str) -> None:
    """None of `files` is there, nor a temporary file beside them."""
    assert not [name for name in files if (place.folder / name).exists()]
    assert not place.leftovers()


@pytest.fixture
def place(data, tmp_path) -> Place:
    """An empty working directory, configured for the small world."""
    return Place(tmp_path / "work", settings(data / "Video-MME", data / "tiny.safetensors"))


def parquet(place: Place, data: Path, edit: Callable[[Path], None]) -> None:
    """Give a place a Video-MME of its own whose parquet is edited."""
    folder = place.folder / "own"
    file = folder / "videomme/test-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    (folder / "videos").symlink_to(data / "Video-MME/videos")
    shutil.copy(data / "Video-MME/videomme" / file.name, file)
    edit(file)
    place.config["paths"]["videomme"] = str(folder)


def test_a_folder_that_does_not_exist(place) -> None:
    place.config["paths"]["videomme"] = "/datasets/VideoMMM"
    done = place.run(ITEMS)
    refused(done, "paths.videomme", "/datasets/VideoMMM", "does not exist")
    unfinished(place, ITEMS, "data/receipts/videomme.json")


def test_an_empty_table(place, data) -> None:
    def nothing(file: Path) -> None:
        pd.read_parquet(file).iloc[:0].to_parquet(file)

    parquet(place, data, nothing)
    refused(place.run(ITEMS), "test-00000-of-00001.parquet", "no rows", "fetch it again")
    unfinished(place, ITEMS)


def test_a_part_of_the_benchmark_without_saying_so(place) -> None:
    del place.config["benchmarks"]["videomme"]
    done = place.run(ITEMS)
    refused(done, "30 rows", "short: 24 of 900", "partial: true")
    unfinished(place, ITEMS)


def test_offline_says_how_to_get_exactly_what_is_missing(place) -> None:
    place.config["offline"] = True
    del place.config["paths"]["videomme"]
    done = place.run("results/viclip/videomme.json", "data/receipts/tiny_weights.json")
    refused(done, "offline: true", "By hand:")  # of whichever of the two is looked at first
    for word in ("paths: {viclip_l14_internvid_10m_flt:", "videos_chunked_01.zip", "1.7 GB"):
        assert word in done.text
    # What is there is not asked for, and keep-going takes what can be had.
    assert "Made by the test." not in done.text
    assert (place.folder / "data/receipts/tiny_weights.json").exists()
    unfinished(place, "data/receipts/videomme.json", "results/viclip/videomme.json")


@pytest.mark.slow
def test_no_token_for_a_gated_repository(place) -> None:
    server = Server()
    threading.Thread(target=server.http.serve_forever, args=(0.02,), daemon=True).start()
    server.hub("some/gated", {"model.pt": b"weights"}, token="hf_secret")
    place.config["models"]["tiny"]["artifacts"]["tiny_weights"] = {
        "sources": [{"type": "hf", "repo": "some/gated"}],
        "files": [{"name": "model.pt"}],
        "by_hand": "Ask for access on the page of some/gated.",
    }
    del place.config["paths"]["tiny_weights"]
    receipt = "data/receipts/tiny_weights.json"
    done = place.run(receipt, HF_ENDPOINT=server.url, HF_HOME=str(place.folder / "hub"))
    refused(done, "some/gated", "HF_TOKEN", "Ask for access on the page of some/gated.")
    unfinished(place, receipt)
    token = {"HF_TOKEN": "hf_secret", "HF_ENDPOINT": server.url}
    done = place.make(receipt, HF_HOME=str(place.folder / "hub"), **token)
    assert (place.folder / "data/tiny_weights/model.pt").read_bytes() == b"weights"
    assert "hf_secret" not in done.text
    server.http.shutdown()
    server.http.server_close()


def started(finished: Place, folder: Path, *keep: str) -> Place:
    """A copy of the finished place with only what `keep` and the early stages made."""
    shutil.copytree(finished.folder, folder)
    for name in ("results", "cache/shards", "cache/frames", "cache/predictions"):
        if name not in keep:
            shutil.rmtree(folder / name)
    return Place(folder, copies.deepcopy(finished.config))


@pytest.mark.slow
def test_a_truncated_checkpoint(finished, data, tmp_path) -> None:
    place = started(finished, tmp_path / "work")
    whole = (data / "tiny.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    place.config["paths"]["tiny_weights"] = str(tmp_path / "half.safetensors")
    refused(place.run(SHORT), "half.safetensors", "only part of one", "fetch it again")
    unfinished(place, SHORT, "cache/shards/tiny/videomme/short/1-of-1.parquet")


@pytest.mark.slow
def test_a_checkpoint_of_the_wrong_size(finished, tmp_path) -> None:
    """B/16 where L/14 is asked for; the tensors are a hole in a file."""
    import torch

    from vireo.models import viclip

    with torch.device("meta"):
        state = viclip.build(viclip.SIZES["B/16"]).state_dict()
    head, end = {}, 0
    for name, value in state.items():
        start, end = end, end + 4 * value.numel()
        shape = list(value.shape)
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(head).encode()
    with open(tmp_path / "ViClip-InternVid-10M-FLT.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    place = started(finished, tmp_path / "work")
    place.config["paths"]["viclip_l14_internvid_10m_flt"] = file.name
    done = place.run("results/viclip/videomme_short.json")
    refused(done, file.name, "looks like the B/16 size, the model block asks for L/14")
    unfinished(place, "results/viclip/videomme_short.json")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[], None]]:
    """Mount a tmpfs of `size` at `folder`; yields what makes room on it."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")

    def make_room() -> None:
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)

    try:
        yield make_room
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("folder", "size", "keep", "stage"),
    [
        ("cache/frames", "64k", (), "frames"),
        ("cache/predictions", "4k", ("cache/frames",), "infer"),
        ("cache/shards", "8k", ("cache/frames",), "infer"),
        ("results", "16k", ("cache/frames", "cache/predictions", "cache/shards"), "score"),
    ],
)
def test_a_full_disk(finished, tmp_path, folder, size, keep, stage) -> None:
    place = started(finished, tmp_path / "work", *keep)
    with small_disk(place.folder / folder, size) as make_room:
        done = place.run(SHORT)
        print(done.text)
        refused(done, folder, "No space left on device", "make room")
        assert f"Error in rule {stage}" in done.text
        unfinished(place, SHORT)
        assert not list(place.folder.glob("results/*/*/predictions.parquet"))
        for file in (place.folder / folder).rglob("*.parquet"):
            pd.read_parquet(file)
        make_room()
        place.make(SHORT)
        same(place.predictions(), finished.predictions())


@pytest.mark.faults
def test_a_disk_that_is_full_from_the_start(finished, tmp_path) -> None:
    """Snakemake itself cannot write then; still nothing half-made remains."""
    with small_disk(tmp_path / "work", "48k") as make_room:
        place = Place(tmp_path / "work", copies.deepcopy(finished.config))
        place.command(SHORT)
        done = place.run(SHORT)
        print(done.text)
        assert done.code != 0 and "No space left on device" in done.text
        unfinished(place, SHORT)
        make_room()
        if "--unlock" in (again := place.run(SHORT)).text:
            place.make("--unlock", SHORT)
            again = place.run(SHORT)
        assert again.code == 0, again.text
        same(place.predictions(), finished.predictions())
