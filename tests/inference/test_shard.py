"""Inference: what is computed, what is not, and what becomes of everything that can go wrong.

Videos are small text files and the model is a toy, so that each case takes milliseconds; the real
ones run in test_infer_viclip.py.
"""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from vireo import benchmarks, models
from vireo.errors import VireoError
from vireo.inference import cache_key, decoding, journal, runner
from vireo.inference import shard as infer
from vireo.inference.controls import CONTROLS, partners
from vireo.inference.journal import Journal
from vireo.media.decode import DecodedClip
from vireo.tables import items as item_table
from vireo.tables import predictions
from vireo.utils.batching import AdaptiveBatcher

WIDTH = 6


def frames_of(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
    return np.random.default_rng(seed).integers(0, 256, (4, 2, 2, 3), np.uint8)


def unit(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


class Fake:
    """A DualEncoder that counts its calls and fails as told."""

    logit_scale = 100.0

    def __init__(self, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(4 * 2 * 2 * 3, WIDTH, generator=draw)
        self.tokenizer = SimpleNamespace(truncated=0)
        self.videos, self.texts, self.batches = 0, Counter(), []
        self.before = lambda clips: None

    def transform(self, frames, view):
        return torch.from_numpy(frames.astype(np.float32)).permute(0, 3, 1, 2) / 255 - 0.5

    def embed_video(self, clips):
        self.before(clips)
        self.videos += len(clips)
        self.batches.append(len(clips))
        return unit(clips.flatten(1) @ self.weight)

    def embed_text(self, texts):
        self.texts.update(texts)
        rows = [frames_of(text)[0, 0].ravel() for text in texts]  # WIDTH numbers each
        return unit(torch.from_numpy(np.stack(rows).astype(np.float32)) - 128)


class World:
    """Videos, items, inventory, configuration; `infer(...)` runs a job and returns its rows."""

    def __init__(self, folder, monkeypatch, videos=7, questions=3):
        self.folder, self.monkeypatch = folder, monkeypatch
        monkeypatch.chdir(folder)
        monkeypatch.setenv("VIREO_TRUST_DEVICES", "1")
        (folder / "videos/sub").mkdir(parents=True)
        self.names = [f"v{n}" for n in range(videos)]
        for name in self.names:
            self.path(name).write_text(f"film {name}")
        rows = [
            {
                "id": f"{name}-{q}",
                "split": "short",
                "video": name,
                "start": np.nan,
                "end": np.nan,
                "question": f"what {q}?",
                "options": [f"{x}. {name}{q if x != 'A' else ''}" for x in "ABCD"],
                "answer": "A",
                "group": name,
                "meta": "{}",
            }
            for name in self.names
            for q in range(questions)
        ]
        self.items = pd.DataFrame(rows)
        (folder / "weights.safetensors").write_bytes(b"weights")
        self.config = {
            "models": {"m": {"family": "fake", "arch": {"width": WIDTH}, "version": 1,
                             "weights": {"recipe": "r"}, "hardware": {"batch": 4}}},
            "benchmarks": {"b": {"module": "toy", "needs": "DualEncoder", "version": 1,
                                 "splits": ["short", "long"],
                                 "protocol": {"frames": {"rule": "every", "store": False}}}},
            "dtype": "float32", "tf32": False, "device": "cpu", "batch_size": None,
            "max_failed": 0.5, "decode": {"workers": 0},
        }  # fmt: skip
        self.module = SimpleNamespace(
            PREDICTS="choice",
            prompts=lambda items, protocol: dict(zip(items["id"], items["options"], strict=True)),
        )
        self.model, self.loads, self.setup = None, [], lambda model: None
        self.decoded: list[str] = []
        monkeypatch.setattr(models, "family", lambda name: SimpleNamespace(load=self.load))
        monkeypatch.setattr(benchmarks, "module", lambda name: self.module)
        monkeypatch.setattr(decoding.pool, "decode", self.decode)

    def path(self, name):
        return self.folder / "videos/sub" / f"{name}.mp4"

    def load(self, cfg, weights, device, dtype):
        self.loads.append(weights)
        self.model = Fake(0 if weights is None else 1)
        self.setup(self.model)
        return self.model

    def decode(self, requests, settings, store=None):
        for request in reversed(requests):  # order of completion is any order
            self.decoded.append(request.video)
            try:
                text = Path(request.path).read_text()
            except FileNotFoundError:
                yield DecodedClip(request.video, "missing", error="gone", request=request)
                continue
            if "broken" in text:
                yield DecodedClip(request.video, "undecodable", error="bad data", request=request)
            else:
                flags = ["damaged"] if "scratch" in text else []
                yield DecodedClip(request.video, "ok", frames_of(text), [0, 3, 6, 9], flags=flags,
                             seconds=0.5, request=request)  # fmt: skip

    def infer(self, shard="1-of-1", split="short", control=None, **more):
        self.decoded.clear()
        self.items.to_parquet("items.parquet")
        rows = []
        for name in self.names:
            path = self.path(name)
            facts = path.stat() if path.exists() else None
            rows.append(
                {
                    "video": name,
                    "path": str(path),
                    "kind": "file",
                    "size": facts.st_size if facts else -1,
                    "mtime_ns": facts.st_mtime_ns if facts else -1,
                    "status": "found" if facts else "missing",
                }
            )
        pd.DataFrame(rows).to_parquet("videos.parquet")
        out = self.folder / f"{split}.{shard}.{control}.parquet"
        job = infer.Job(self.config, "m", "b", split, shard, self.folder / "items.parquet",
                        self.folder / "videos.parquet", "weights.safetensors", out,
                        control=control, **more)  # fmt: skip
        self.info = infer.run(job)
        return predictions.read(out).set_index("id")

    def sharded(self, n):
        return pd.concat([self.infer(f"{i}-of-{n}") for i in range(1, n + 1)]).sort_index()


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def same(a, b):
    """Identical in the sense of the design: ids, statuses, answers, scores within 1e-5."""
    a, b = a.sort_index(), b.sort_index()
    assert a.index.tolist() == b.index.tolist()
    for column in ("view", "group", "status", "prediction", "error"):
        assert a[column].tolist() == b[column].tolist()
    for x, y in zip(a["scores"], b["scores"], strict=True):
        assert np.allclose(x, y, rtol=0, atol=1e-5)
    for column in ("frames", "flags"):
        assert [list(x) for x in a[column]] == [list(y) for y in b[column]]


def test_rows(world):
    rows = world.infer()
    assert rows.index.tolist() == world.items["id"].tolist()
    assert set(rows["status"]) == {"ok"} and world.info["status"] == {"ok": 21}
    fresh = Fake(1)
    for item in world.items.itertuples():
        row = rows.loc[item.id]
        video = fresh.embed_video(fresh.transform(frames_of(f"film {item.video}"), {})[None])[0]
        scores = 100 * fresh.embed_text(item.options) @ video
        assert np.allclose(row["scores"], scores, rtol=0, atol=1e-4)
        assert json.loads(row["prediction"]) == item.options[int(scores.argmax())]
        assert list(row["frames"]) == [0, 3, 6, 9] and list(row["flags"]) == []
        assert row["group"] == item.video and row["view"] == 0 and row["seconds"] >= 0.5 / 3


def test_each_video_and_each_text_is_encoded_once(world):
    world.infer()
    assert world.model.videos == 7 and sorted(world.decoded) == world.names
    # "A. v0" is an option of three questions
    assert set(world.model.texts.values()) == {1} and len(world.model.texts) == 7 * (1 + 3 * 3)


def test_shards_share_the_journal_and_agree(world):
    one = world.infer()
    world.setup = lambda model: pytest.fail("nothing was due")
    same(one, world.sharded(3))
    same(one, world.sharded(7))
    same(one, world.sharded(9))  # two shards are empty
    assert len(world.loads) == 1


def test_shards_computed_alone_agree(world, tmp_path_factory, monkeypatch):
    one = world.infer()
    for n in (3, 7):
        other = World(tmp_path_factory.mktemp("w"), monkeypatch)
        same(one, other.sharded(n))
        assert len(other.loads) == n
        other.monkeypatch.chdir(world.folder)


@pytest.mark.parametrize("batch", [1, 2, 7, 50])
def test_batch_size_changes_nothing(world, batch, tmp_path_factory, monkeypatch):
    one = world.infer()
    other = World(tmp_path_factory.mktemp("w"), monkeypatch)
    same(one, other.infer(batch_size=batch))
    assert max(other.model.batches) == min(batch, 7)


def test_a_killed_process_loses_the_batch_in_flight_only(world):
    def kill(clips):
        if world.model.videos == 4:
            raise KeyboardInterrupt

    world.setup = lambda model: setattr(model, "before", kill)
    with pytest.raises(KeyboardInterrupt):
        world.infer(batch_size=2)
    world.setup = lambda model: None
    rows = world.infer("1-of-3")
    rows = pd.concat([rows, world.infer("2-of-3"), world.infer("3-of-3")])
    assert set(rows["status"]) == {"ok"}
    written = Counter(
        (id, view) for f in world.folder.glob("cache/predictions/*/*.jsonl")
        for id, view in ((r["id"], r["view"]) for r in map(json.loads, lines(f)))
    )  # fmt: skip
    assert len(written) == 21 and set(written.values()) == {1}


def lines(path):
    return [
        json.dumps(json.loads(x)["row"])
        for x in path.read_text().splitlines()
        if '"journal"' not in x
    ]


def test_deleted_damaged_and_restored_videos(world):
    world.path("v1").unlink()
    world.path("v2").write_text("broken")
    world.path("v3").write_text("film with a scratch")
    rows = world.infer()
    assert rows["status"].value_counts().to_dict() == {"ok": 15, "missing": 3, "undecodable": 3}
    assert rows.loc["v2-0", "error"] == "bad data" and "v1" in rows.loc["v1-0", "error"]
    assert len(rows.loc["v2-0", "scores"]) == 0

    same(rows, world.infer())
    assert world.decoded == []  # nothing is new; `missing` costs no decoding
    os.utime(world.path("v4"), (1, 1))  # touched: same content
    world.setup = lambda model: pytest.fail("nothing is to be computed")
    same(rows, world.infer())
    assert world.decoded == ["v4"]  # once, to see that it shows the same frames
    world.infer()
    assert world.decoded == []
    world.setup = lambda model: None

    for name in ("v1", "v2", "v3"):
        world.path(name).write_text(f"film {name}")
    rows = world.infer()
    assert sorted(world.decoded) == ["v1", "v2", "v3"] and set(rows["status"]) == {"ok"}
    assert list(rows.loc["v3-0", "flags"]) == []
    world.path("v5").unlink()
    rows = world.infer()
    assert rows.loc["v5-0", "status"] == "ok"  # what was computed stays, and says so
    assert rows.loc["v5-0", "kept"] == str(world.path("v5")) and rows["kept"].count() == 3


def test_a_file_repaired_at_equal_size_is_computed_again(world):
    """A preallocated copy that was cut short has the size of the whole one, and no flag."""
    world.path("v2").write_text("film \0\0")
    damaged = world.infer()
    world.path("v2").write_text("film v2")
    os.utime(world.path("v2"), (2, 2))
    rows = world.infer()
    assert world.model.videos == 1 and set(rows["status"]) == {"ok"}
    assert damaged.loc["v2-0", "scores"].tolist() != rows.loc["v2-0", "scores"].tolist()
    os.utime(world.path("v2"), (3, 3))
    again = world.infer()
    assert world.model.videos == 1 and world.decoded == ["v2"]  # recognised by its frames
    same(rows, again)
    (world.folder / "fresh").mkdir()
    same(rows, World(world.folder / "fresh", world.monkeypatch).infer())


def test_rows_of_earlier_versions_hold_for_the_same_time_only(world):
    rows = world.infer()
    for path in world.folder.glob("cache/predictions/*/*.jsonl"):
        held = [{k: v for k, v in row.items() if k != "pixels"} for row in journal.rows_of(path)]
        key = journal.header(path)["key"]
        path.unlink()
        with Journal("cache/predictions", key) as other:
            other.append(held)
    same(rows, world.infer())
    assert world.decoded == []
    os.utime(world.path("v3"), (1, 1))
    world.infer()
    assert world.decoded == ["v3"] and world.info["computed_videos"] == 1


def test_predictions_of_absent_videos_can_be_left_out(world):
    world.infer()
    for name in world.names[:3]:
        world.path(name).unlink()
    rows = world.infer()
    assert set(rows["status"]) == {"ok"} and world.info["kept"] == 9
    world.config["keep_predictions_of_absent_videos"] = False
    rows = world.infer()
    assert rows["status"].value_counts().to_dict() == {"ok": 12, "missing": 9}
    assert world.info["kept"] == 0 and rows["kept"].count() == 0


def test_the_present_copy_answers_before_an_older_one(world):
    """Two copies of different content: each time what lies there now is scored."""
    first = world.infer()
    for name in world.names:
        world.path(name).write_text(f"another film {name}")
    second = world.infer()
    assert world.model.videos == 7
    for name in world.names:
        world.path(name).write_text(f"film {name}")
    again = world.infer()
    assert again["kept"].count() == 0
    same(first, again)
    assert first.loc["v0-0", "scores"].tolist() != second.loc["v0-0", "scores"].tolist()


def test_a_video_that_vanishes_before_it_is_read(world):
    vanished = lambda requests, *_: (  # noqa: E731
        DecodedClip(r.video, "missing", error="gone", request=r) for r in requests
    )
    world.monkeypatch.setattr(decoding.pool, "decode", vanished)
    world.config["max_failed"] = 1
    assert set(world.infer()["status"]) == {"missing"}
    assert not list(world.folder.glob("cache/predictions/*/*"))


def test_an_error_costs_one_video_and_is_tried_again(world):
    culprit = frames_of("film v3")

    def before(clips):
        if any(np.allclose(c, world.model.transform(culprit, {})) for c in clips):
            raise ValueError("cannot stand this video")

    world.setup = lambda model: setattr(model, "before", before)
    rows = world.infer()
    assert rows.index[rows["status"] == "error"].tolist() == ["v3-0", "v3-1", "v3-2"]
    assert rows.loc["v3-0", "error"] == "ValueError: cannot stand this video"
    listed = (world.folder / "short.1-of-1.None.failed.tsv").read_text().splitlines()
    assert listed[1] == "v3-0\tv3\terror\tValueError: cannot stand this video"

    world.setup = lambda model: None
    assert set(world.infer()["status"]) == {"ok"} and world.decoded == ["v3"]
    assert not (world.folder / "short.1-of-1.None.failed.tsv").exists()


def test_an_error_in_the_transform(world):
    def transform(frames, view):
        raise RuntimeError("odd size")

    world.config["max_failed"] = 1
    world.setup = lambda model: setattr(model, "transform", transform)
    world.names = world.names[:4]
    world.items = world.items[world.items["video"].isin(world.names)]
    assert set(world.infer()["error"]) == {"RuntimeError: odd size"}


@pytest.mark.parametrize("error", [VireoError("5 frames are not 4"), RuntimeError("odd size")])
def test_the_same_error_on_every_video_ends_the_run_after_a_handful(tmp_path, monkeypatch, error):
    """It took 900 videos with a traceback each until max_failed ended it."""
    world = World(tmp_path, monkeypatch, videos=40)
    seen = []

    def transform(frames, view):
        seen.append(1)
        raise error

    world.setup = lambda model: setattr(model, "transform", transform)
    world.config["max_failed"] = 1
    with pytest.raises(VireoError, match=f"first 5 videos all ended .*: .*{error}"):
        world.infer()
    assert len(seen) < 20
    # Where some videos succeed it is the others' own fault.
    world.setup = lambda model: setattr(model, "before", before)
    done = []

    def before(clips):
        if done:
            raise error
        done.append(1)

    rows = world.infer(batch_size=1)
    assert rows["status"].value_counts().to_dict() == {"error": 117, "ok": 3}


def test_nan_is_an_error(world):
    world.setup = lambda model: model.weight.fill_(float("nan"))
    with pytest.raises(VireoError, match="100% of the items") as error:
        world.infer()
    assert "short.1-of-1.None.failed.tsv" in str(error.value)
    rows = predictions.read(world.folder / "short.1-of-1.None.parquet")
    assert set(rows["status"]) == {"error"} and "NaN" in rows["error"][0]


def test_out_of_memory_halves_the_batch(world):
    def before(clips):
        if len(clips) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    world.setup = lambda model: setattr(model, "before", before)
    rows = world.infer(batch_size=7)
    assert set(rows["status"]) == {"ok"} and max(world.model.batches) <= 2
    assert world.info["batch_size"] <= 2


def test_out_of_memory_for_one_video_is_that_videos_error(world):
    def before(clips):
        raise MemoryError("no room")

    world.config["max_failed"] = 1
    world.setup = lambda model: setattr(model, "before", before)
    assert set(world.infer()["error"]) == {"MemoryError: no room"}


def test_a_gpu_fault_ends_the_run(world):
    def before(clips):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    world.setup = lambda model: setattr(model, "before", before)
    with pytest.raises(VireoError, match=r"illegal memory access.*run the same command again"):
        world.infer()


def test_broken_data_counts_against_the_split_not_the_shard(world):
    world.config["max_failed"] = 0.2
    world.path("v0").write_text("broken")
    rows = world.sharded(7)  # one shard has only this video
    assert rows["status"].value_counts().to_dict() == {"ok": 18, "undecodable": 3}


def test_missing_and_undecodable_videos_of_the_split_count_together(world):
    world.config["max_failed"] = 0.2
    world.path("v0").write_text("broken")
    world.path("v1").unlink()
    assert world.infer("4-of-7")["status"].tolist() == ["ok"] * 3
    with pytest.raises(VireoError, match=r"29% of the items of split short .*max_failed: 20%"):
        world.infer("1-of-7")
    assert (world.folder / "short.1-of-7.None.parquet").exists()


def test_the_journal_is_looked_at_again_once_the_device_is_ours(world, monkeypatch):
    world.infer("1-of-2")
    # Nothing was there when we came; a second copy of the job has finished since.
    monkeypatch.setattr(infer, "split_done", lambda journal, work, *_: ([], list(work)))
    world.setup = lambda model: pytest.fail("computed twice")
    assert set(world.infer("1-of-2")["status"]) == {"ok"}
    assert world.info["from_journal"] == 12 and world.info["computed_videos"] == 0


@pytest.mark.parametrize("control", CONTROLS)
def test_controls(world, control):
    plain = world.infer()
    perturbed = world.infer(control=control)
    assert len(list(world.folder.glob("cache/predictions/*"))) == 2
    assert (world.loads[1] is None) == (control == "untrained")
    fresh = Fake(0 if control == "untrained" else 1)
    other = partners(world.names)
    for item in world.items.itertuples():
        name = other[item.video] if control == "shuffled_videos" else item.video
        frames = frames_of(f"film {name}")
        if control == "reversed_time":
            frames = frames[::-1].copy()
        if control == "swapped_channels":
            frames = frames[..., ::-1].copy()
        video = fresh.embed_video(fresh.transform(frames, {})[None])[0]
        row = perturbed.loc[item.id]
        assert np.allclose(
            row["scores"], 100 * fresh.embed_text(item.options) @ video, rtol=0, atol=1e-4
        )
        assert list(row["frames"]) == ([9, 6, 3, 0] if control == "reversed_time" else [0, 3, 6, 9])
        assert row["group"] == item.group
    assert not np.allclose(np.stack(plain["scores"]), np.stack(perturbed["scores"]), atol=1)


def test_shuffled_videos_agree_between_shards(world):
    one = world.infer(control="shuffled_videos")
    parts = [world.infer(f"{i}-of-3", control="shuffled_videos") for i in (1, 2, 3)]
    assert world.decoded == []
    same(one, pd.concat(parts))


def test_partners_never_meet_themselves():
    names = [f"v{n}" for n in range(20)]
    other = partners(names)
    assert sorted(other.values()) == sorted(names) and all(k != v for k, v in other.items())
    assert other == partners(reversed(names))
    with pytest.raises(VireoError, match="two videos"):
        partners(["alone"])


def test_embeddings(world):
    world.module.PREDICTS = "embedding"
    rows = world.infer()
    assert {len(s) for s in rows["scores"]} == {WIDTH} and set(rows["prediction"]) == {"null"}
    assert not world.model.texts


def test_several_stretches_of_one_video(world):
    world.items.loc[1, ["start", "end"]] = [1.0, 2.0]
    world.infer()
    assert Counter(world.decoded)["v0"] == 2


def test_mistakes_are_told(world):
    with pytest.raises(VireoError, match="unknown split 'shirt'; did you mean 'short'"):
        world.infer(split="shirt")
    with pytest.raises(VireoError, match="did you mean 'reversed_time'"):
        world.infer(control="reverse_time")
    with pytest.raises(VireoError, match="does not exist"):
        world.infer(shard="4-of-3")
    world.config["benchmarks"]["b"]["needs"] = "Classifier"
    with pytest.raises(VireoError, match="is no Classifier"):
        world.infer()
    world.config["benchmarks"]["b"]["needs"] = "DualEncoder"
    world.load = lambda *a: object()
    with pytest.raises(VireoError, match="model 'm' is no DualEncoder"):
        world.infer()
    world.items.loc[0, "video"] = "v99"
    with pytest.raises(VireoError, match=r"'v99' .* not in the inventory"):
        world.infer()


def test_an_empty_split_is_an_empty_file(world):
    assert world.infer(split="long").empty


def key(world, weights=b"weights", control=None):
    path = world.folder / "w.safetensors"
    path.write_bytes(weights)
    item_table.write(world.items, items := world.folder / "key.parquet")
    described = cache_key.prediction_key(world.config, "m", "b", items, path, control)
    return json.loads(json.dumps(described))


def test_the_key_holds_what_changes_predictions_and_nothing_else(world):
    base = key(world)
    model, bench = world.config["models"]["m"], world.config["benchmarks"]["b"]
    silent = [
        lambda: model["hardware"].update(batch=64),
        lambda: world.config.update(batch_size=3, device="cuda", max_failed=0.9),
        lambda: bench["protocol"]["frames"].update(store=True),
        lambda: world.items.__setitem__("answer", "D"),
        lambda: setattr(world, "items", world.items.iloc[::-1]),
    ]
    for change in silent:
        change()
        assert key(world) == base
    changes = [
        lambda: model["arch"].update(width=7),
        lambda: model.update(version=2),
        lambda: model.update(dtype="bfloat16"),
        lambda: model.update(mean=[0, 0, 0]),
        lambda: world.config.update(tf32=True),
        lambda: bench.update(version=2),
        lambda: bench["protocol"]["frames"].update(rule="fps", target=8.0),
        lambda: world.items.__setitem__("question", "why?"),
    ]
    seen = [base, key(world, b"other weights"), key(world, control="reversed_time")]
    for change in changes:
        change()
        seen.append(key(world))
    texts = [json.dumps(k, sort_keys=True) for k in seen]
    assert len(set(texts)) == len(texts)
    assert Journal("x", seen[0]).folder.name.startswith("fake.toy.float32.")


def test_finding_weights(tmp_path):
    one = tmp_path / "a.pth"
    one.write_bytes(b"x")
    (tmp_path / "b.pth").write_bytes(b"y")
    files = {"a.pth": {"size": 1, "sha256": None}, "b.pth": {"size": 1, "sha256": None}}
    receipt = tmp_path / "receipt.json"
    receipt.write_text(json.dumps({"artifact": "art", "root": str(tmp_path), "files": files}))
    assert cache_key.find_weights("none", {}) is None
    assert cache_key.find_weights(one, {}) == one
    named = {"weights": {"artifact": "art", "file": "b.pth"}}
    assert cache_key.find_weights(receipt, named).name == "b.pth"
    with pytest.raises(VireoError, match="which file"):
        cache_key.find_weights(receipt, {"weights": {"artifact": "art"}})
    with pytest.raises(VireoError, match="no weights at"):
        cache_key.find_weights(tmp_path / "absent.pth", {})


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batches_hold_one_shape_and_are_never_empty(size) -> None:
    shapes = [2, 2, 3, None, 3, 2, None, 4]
    clips = [runner.Clip([], tensor=None if n is None else torch.zeros(n)) for n in shapes]
    groups = list(runner.batched(clips, AdaptiveBatcher(size)))
    assert [id(clip) for group in groups for clip in group] == [id(clip) for clip in clips]
    for group in groups:
        held = [clip.tensor.shape for clip in group if clip.tensor is not None]
        assert group and len(held) <= size and len(set(held)) <= 1
