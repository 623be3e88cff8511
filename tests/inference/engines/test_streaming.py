"""A streaming model through inference and scoring: rows, a sweep read once, four benchmarks."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.models import duet
from vireo import benchmarks, toy
from vireo import config as cfg
from vireo.errors import VireoError
from vireo.inference import shard
from vireo.inference.engines import streaming
from vireo.metrics import coco
from vireo.tables import items as item_table
from vireo.tables import predictions
from vireo.toy import mmduet as world

ARCH = duet.tiny(image_size=48, patch_size=6)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three toy test videos with their annotations."""
    root = tmp_path_factory.mktemp("world")
    folder = root / "test"
    (folder / "videos").mkdir(parents=True)
    made = {}
    for number in range(3):
        name = f"test{number:03d}.mp4"
        rng = toy.rng(0, "watch", number)
        made[name] = world.write_video(folder / "videos" / name, rng, range(5, 8))
    world.write_annotations(folder, made, toy.rng(0, "watch", "texts"))
    return root


@pytest.mark.parametrize("name", ["youcook2", "magqa", "charades", "qvhighlights"])
def test_rows_and_scores(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(coco, "missing", lambda: "left out here")
    config = cfg.load()
    block: dict[str, Any] = config["benchmarks"][f"toy_{name}"]
    model = {**config["models"]["toy_mmduet"], "arch": ARCH, "weights": None}
    config["models"]["toy_mmduet"] = model
    module = benchmarks.module(name)
    items = module.items({"data": data}, block)
    videos = module.videos({"data": data}, items, block)
    item_table.check_items(items, name)
    item_table.write(items, "items.parquet")
    item_table.write(videos, "videos.parquet")
    out = tmp_path / "rows.parquet"
    job = shard.Job(
        config, "toy_mmduet", f"toy_{name}", "val", "1-of-1", Path("items.parquet"),
        Path("videos.parquet"), None, out, device="cpu", threads=1,
    )  # fmt: skip
    assert shard.run(job)["status"] == {"ok": 3}
    rows = predictions.read([out])
    value = json.loads(rows["prediction"].iloc[0])
    assert value["asked"][0]["time"] == 0
    assert len(rows["scores"].iloc[0]) == 2 * len(rows["frames"].iloc[0])
    scores = module.score(items, rows, {**block, "model": "toy"})
    assert scores.metrics[scores.primary].value is not None
    assert module.export(items, rows, tmp_path, {**block, "model": "toy"})[0].exists()
    assert shard.run(job)["from_journal"] == 3


def test_embeddings_are_shared_by_benchmarks(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second benchmark decodes nothing; its rows are those of a run that keeps nothing."""
    from vireo.media import pool

    monkeypatch.chdir(tmp_path)
    config = cfg.load()
    model = {**config["models"]["toy_mmduet"], "arch": ARCH, "weights": None}
    config["models"]["toy_mmduet"] = model

    def rows(name: str, folder: str, **changes: Any) -> pd.DataFrame:
        block = config["benchmarks"][f"toy_{name}"]
        items = benchmarks.module(name).items({"data": data}, block)
        videos = benchmarks.module(name).videos({"data": data}, items, block)
        item_table.write(items, "items.parquet")
        item_table.write(videos, "videos.parquet")
        job = shard.Job(
            {**config, **changes}, "toy_mmduet", f"toy_{name}", "val", "1-of-1",
            Path("items.parquet"), Path("videos.parquet"), None, Path(f"{name}.parquet"),
            device="cpu", threads=1, journals=Path(folder),
        )  # fmt: skip
        shard.run(job)
        table = predictions.read([job.out]).drop(columns="seconds")
        return table.map(lambda value: value.tolist() if hasattr(value, "tolist") else value)

    plain = rows("charades", "a", keep_embeddings=False)
    assert not Path("cache/embeddings").exists()
    rows("qvhighlights", "b")
    (kept,) = Path("cache/embeddings").iterdir()
    first = min(kept.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(pool, "decode", lambda *_: pytest.fail("decoded again"))
        again = rows("charades", "c")
    pd.testing.assert_frame_equal(again, plain)
    first.write_bytes(first.read_bytes()[:100])
    pd.testing.assert_frame_equal(rows("charades", "d"), plain)
    assert first.stat().st_size > 100


def test_settings_of_a_protocol() -> None:
    frames = {"rule": "accumulated", "target": 2.0}
    made = streaming.settings_of({"frames": frames, "prompt": {"watch": {"prob": [0.3, 0.5]}}})
    assert [one.prob for one in made.values()] == [0.3, 0.5]
    assert list(made) == ["0.3", "0.5"]
    with pytest.raises(VireoError, match="fps"):
        streaming.settings_of({"frames": frames, "prompt": {"watch": {"fps": 1}}})
    with pytest.raises(VireoError, match="heads"):
        streaming.settings_of({"frames": frames, "prompt": {"watch": {"head": 1}}})
