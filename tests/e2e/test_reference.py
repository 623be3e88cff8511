"""The public target gives, question for question, what the seed guide's plain procedure gives.

The procedure (bench/reference/viclip.py, which imports nothing of vireo) reads every frame with
OpenCV, encodes the video again for every question and the option texts one at a time.
"""

import json

import numpy as np
import pandas as pd
from safetensors.torch import load_file

from bench.reference import viclip as reference
from tests.e2e.world import ARCH


def test_predictions_equal_the_seed_guides_procedure(finished, data) -> None:
    ours = finished.predictions()
    folder = finished.folder / "results/tiny/videomme_short"
    flat = {q["question_id"]: q for q in json.loads((folder / "tiny_predictions.json").read_text())}
    grouped = json.loads((folder / "tiny_output_test.json").read_text())
    written = {q["question_id"]: q["response"] for v in grouped for q in v["questions"]}
    model = reference.ViCLIP(ARCH, load_file(data / "tiny.safetensors"))
    table = pd.read_parquet(data / "Video-MME/videomme/test-00000-of-00001.parquet")
    table = table[table["duration"] == "short"]
    right = []
    for video, questions in table.groupby("videoID"):
        (path,) = (data / "Video-MME/videos").rglob(f"{video}.mp4")
        asked = [list(options) for options in questions["options"]]
        answers = reference.questions(model, path, asked)
        for (text, scores), row in zip(answers, questions.itertuples(), strict=True):
            id = row.question_id
            assert json.loads(ours.loc[id, "prediction"]) == text
            assert flat[id]["response"] == written[id] == text
            np.testing.assert_allclose(ours.loc[id, "scores"], scores.numpy(), rtol=0, atol=1e-5)
            right.append(text[0] == row.answer)
    assert len(right) == len(ours) == 24
    assert 0 < sum(right) < 24
    metric = finished.result()["metrics"]["accuracy"]
    np.testing.assert_allclose(metric["value"], 100 * np.mean(right))
