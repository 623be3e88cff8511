"""VideoMamba by the workflow: full-size weights in each released wrapping; windows; numbers."""

import argparse
import json

import numpy as np
import pytest

from tests.e2e import world

pytestmark = pytest.mark.slow

NAMES = [f"doing thing {n:03d}" for n in range(400)]
FOUND = 2  # of the 400 clips; every class has to be in the annotations
FULL = {"width": 576, "depth": 32, "num_frames": 8, "num_classes": 400}
SMALL = {"width": 16, "depth": 2, "image_size": 32, "patch_size": 16, "num_frames": 4}


def block(**more) -> dict:
    """A model block without weights."""
    return {
        "family": "videomamba", "fulfils": ["Classifier"], "version": 1, "weights": None,
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        "hardware": {"gpu": 0, "mem_gb": 2, "batch": 2},
        **more,
    }  # fmt: skip


def clips(root) -> None:
    """Kinetics' list of 400 clips, of which two are there."""
    rows = ["label,youtube_id,time_start,time_end,split"]
    (root / "clips").mkdir(parents=True)
    for n, name in enumerate(NAMES):
        rows.append(f"{name},video{n:06d},1,11,val")
        if n < FOUND:
            world.film(root / f"clips/video{n:06d}_000001_000011.mp4", n, 6)
    (root / "val.csv").write_text("\n".join(rows) + "\n")


def test_full_size_weights_of_every_wrapping(tmp_path) -> None:
    import torch

    from vireo.media import views
    from vireo.media.decode import DecodeRequest, decode_one
    from vireo.models import videomamba

    clips(tmp_path / "k400")
    module = videomamba.build(FULL, torch.Generator().manual_seed(0))
    state = module.state_dict()
    wrapped = {
        "flat": state,
        "model": {"model": state, "epoch": 3, "args": argparse.Namespace(lr=1e-3)},
        "module": {"module": state},
    }
    paths = {"kinetics400_annotations": "k400/val.csv", "kinetics400_videos": "k400/clips"}
    models = {}
    for name, content in wrapped.items():
        torch.save(content, tmp_path / f"{name}.pth")
        paths[f"weights_{name}"] = f"{name}.pth"
        models[name] = block(
            arch=FULL,
            size=224,
            weights={"artifact": f"weights_{name}"},
            artifacts={f"weights_{name}": {"by_hand": "Made by the test."}},
            # the head's rows are in another order than the annotations
            options={"labels": NAMES[::-1]},
            protocols={"k400_ft": {"views": {"segments": 1, "crops": 1}}},
        )
    place = world.Place(
        tmp_path / "work",
        {
            "paths": {name: str(tmp_path / path) for name, path in paths.items()},
            "models": models,
            "max_failed": 1.0,
            "device": "cpu",
            "shards": 1,
        },
    )
    results = [f"results/{name}/k400_ft.json" for name in wrapped]
    try:
        place.make(*results)
    finally:
        for name in wrapped:
            (tmp_path / f"{name}.pth").unlink()

    first = place.predictions(results[0])
    assert first["status"].value_counts().to_dict() == {"missing": 398, "ok": FOUND}
    done = first[first["status"] == "ok"]
    for result in results:
        said = place.result(result)
        assert said["protocol"]["frames"] == {
            "rule": "sparse_views", "n": 8, "segments": 1, "store": False,
        }  # fmt: skip
        assert said["coverage"]["ok"] == FOUND and said["metrics"]["top1"]["n"] == FOUND
        found = place.predictions(result).loc[done.index, "scores"]
        np.testing.assert_array_equal(np.stack(found), np.stack(done["scores"]))
    path = tmp_path / "k400/clips/video000000_000001_000011.mp4"
    frames = decode_one(DecodeRequest("v", str(path))).frames
    small = views.short_side(frames[views.sparse(len(frames), 8)], 224)
    mean, std = models["flat"]["mean"], models["flat"]["std"]
    clip = views.normalise(views.long_side_crop(small, 224, 1, 0), mean, std)
    with torch.inference_mode():
        logits = module.eval()(torch.from_numpy(clip)[None])[0]
    np.testing.assert_allclose(done["scores"].iloc[0], logits.flip(0), atol=1e-4)


def test_windows_and_numbers_through_the_workflow(tmp_path) -> None:
    from vireo.toy.order import ORDERS

    place = world.Place(
        tmp_path,
        {
            "models": {
                "classes": block(
                    arch={**SMALL, "num_classes": 6},
                    size=32,
                    options={"labels": ["_".join(order) for order in ORDERS]},
                ),
                "number": block(arch={**SMALL, "num_classes": 1}, size=32),
            },
            "benchmarks": {
                "toy_order": {
                    "options": {"windows": {"length": 12, "stride": 6}},
                    "controls": ["reversed_time"],
                },
                "toy_regression": {"controls": ["shuffled_videos"]},
            },
            "device": "cpu",
            "shards": 1,
        },
    )
    place.make("results/classes/toy_order.json", "results/number/toy_regression.json")
    said = place.result("results/classes/toy_order.json")
    assert said["coverage"]["items"] > 2 * 72 and said["coverage"]["groups_ok"] == 72
    metrics = said["metrics"]
    assert metrics["top1"]["n"] == metrics["top1_all_windows"]["n"] == 72
    assert metrics["top1"]["bounds"] is None
    said = place.result("results/number/toy_regression.json")
    assert said["primary"] == "mse" and said["metrics"]["mse"]["lower_is_better"]
    assert said["chance"] == pytest.approx(1.33, abs=0.4) and said["metrics"]["mse"]["n"] == 64
    control = said["controls"]["shuffled_videos"]
    assert control["drop"] == pytest.approx(control["value"] - said["metrics"]["mse"]["value"])
    one = json.loads(place.predictions("results/number/toy_regression.json")["prediction"].iloc[0])
    assert isinstance(one, float)
