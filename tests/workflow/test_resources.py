"""What jobs ask a cluster for fits model and shard, and grows with every attempt."""

from types import SimpleNamespace

import pandas as pd
import pytest

from vireo.errors import VireoError
from vireo.workflow.plan import Plan
from vireo.workflow.resources import DEFAULT_SHARDS, UNKNOWN_MIN, Resources


@pytest.fixture
def config():
    hardware = {"gpu": 1, "mem_gb": 6, "minutes_per_1000": 12}
    direct, stored = ({"protocol": {"frames": {"store": store}}} for store in (False, True))
    return {
        "shards": None,
        "gpu_features": {},
        "decode": {"workers": None, "memory_mb": 4000},
        "models": {"m": {"family": "none", "hardware": hardware}, "bare": {"family": "none"}},
        "benchmarks": {
            "stored": {"rows": {"short": 900, "long": 20_000}, "controls": ["a", "b"], **stored},
            "direct": {**direct},
        },
        "recipes": {"r": {"hardware": {"gpu": 4, "mem_gb": 64}}},
    }


def wc(**names):
    return SimpleNamespace(**{"model": "m", "benchmark": "stored", "split": "short"} | names)


def test_memory_doubles_and_decoders_end_at_their_limit(config):
    ask = Resources(config)
    assert [ask.infer_memory(wc(), 8, n) for n in (1, 2, 3)] == [7000, 14000, 28000]
    direct = [ask.infer_memory(wc(benchmark="direct"), 8, n) for n in (1, 2, 3)]
    assert direct == [7000 + 8000, 14000 + 16000, 28000 + 32000]
    assert [ask.frames_memory(wc(), 8, n) for n in (1, 2, 3, 4)] == [9000, 17000, 33000, 33000]
    config["decode"] = {"workers": 2, "memory_mb": 1000}
    assert ask.frames_memory(wc(), 8, 3) == 1000 + 2 * 1000
    config["decode"]["workers"] = 0  # in the job's own process
    assert ask.frames_memory(wc(), 8, 3) == 1000 + 1000
    assert ask.train_memory(SimpleNamespace(recipe="r"), 2) == 2 * 65_000


def test_gpus_come_from_the_model_or_the_recipe(config):
    ask = Resources(config)
    assert ask.gpus(wc()) == 1 and ask.gpus(wc(model="bare")) == 0
    assert ask.gpus(SimpleNamespace(recipe="r")) == 4


def test_constraint_names_the_cards_that_are_large_enough(config):
    ask, recipe = Resources(config), SimpleNamespace(recipe="r")
    config["models"]["m"]["hardware"]["gpu_gb"] = 24
    assert ask.constraint(wc()) is None
    config["gpu_features"] = {"v100": 16, "a100": 40, "h100": 80}
    assert ask.constraint(wc()) == "a100|h100"
    assert ask.constraint(recipe) is None and ask.constraint(wc(model="bare")) is None
    config["recipes"]["r"]["hardware"]["gpu_gb"] = 96
    with pytest.raises(VireoError, match=r"recipe r wants 96 GB.*at most 80 GB"):
        ask.constraint(recipe)


def test_time_follows_the_videos_of_a_shard(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ask = Resources(config)
    one, four = (ask.infer_minutes(wc(shard=f"1-of-{n}"), 8, 1) for n in (1, 4))
    assert one == 15 + 33 + 37  # 900 x 12 / 1000 x 3, 900 x 20 s / 8; rounded up together
    assert 15 < four < one / 2
    assert ask.infer_minutes(wc(shard="1-of-1"), 8, 3) == 3 * one
    assert ask.infer_minutes(wc(benchmark="direct", shard="1-of-1"), 8, 1) == UNKNOWN_MIN
    controls = SimpleNamespace(model="m", benchmark="stored")
    assert ask.infer_minutes(controls, 8, 1) > 20 * one
    # Once the items are known, videos are counted, not questions.
    (tmp_path / "cache/items").mkdir(parents=True)
    items = pd.DataFrame({"split": ["short"] * 6 + ["long"] * 3, "group": [*"aabbcc", *"def"]})
    items.to_parquet("cache/items/stored.parquet")
    assert ask.videos(wc(shard="1-of-2")) == 2 and ask.videos(controls) == 6
    assert ask.frames_minutes(wc(shard="1-of-1"), 8, 2) == 2 * 16


def test_shards_on_a_cluster_are_the_same_for_launcher_and_jobs(config, tmp_path, monkeypatch):
    ask = Resources(config)
    assert ask.shards("m", "stored", "short") == 1
    assert ask.shards("m", "stored", "long") == 8
    assert ask.shards("m", "direct", "val") == DEFAULT_SHARDS
    cluster, here = Plan(config, tmp_path, cluster=True), Plan(config, tmp_path)
    for visible, count in (("0", 1), ("0,1,2", 3), ("", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert len(here.shards("m", "stored", "long")) == count
        assert len(cluster.shards("m", "stored", "long")) == 8
    config["shards"] = 5
    assert cluster.shards("m", "stored", "short")[-1] == "5-of-5"
