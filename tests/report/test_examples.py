"""Examples of every kind of prediction: class numbers, answers, rankings, numbers."""

import json
from pathlib import Path

import pandas as pd
import pytest

from vireo.report import examples, load


def shown(module: str, predictions: list, answers: list[str], scores: int = 3) -> load.RunView:
    ids = [f"q{n}" for n in range(len(answers))]
    items = pd.DataFrame(
        {
            "id": ids, "split": "val", "video": ids, "start": float("nan"), "end": float("nan"),
            "question": "", "options": [[]] * len(ids), "answer": answers, "group": ids,
            "meta": "{}",
        }
    )  # fmt: skip
    rows = pd.DataFrame(
        {
            "id": ids, "view": 0, "group": ids, "status": "ok",
            "prediction": [json.dumps(p) for p in predictions],
            "scores": [[0.1] * scores] * len(ids),
            "frames": [[0]] * len(ids), "flags": [[]] * len(ids),
        }
    )  # fmt: skip
    held = load.RunView(Path("x.json"), {"model": "m", "run": "r"}, items, rows)
    held.module = module
    return held


@pytest.mark.parametrize("module", ["kinetics", "actions"])
def test_class_numbers_become_names(module) -> None:
    held = shown(module, ["0", "2", 1], ["bowling", "archery", "bowling"])
    made = {e.id: e for e in examples.choose(held)}
    # Sorted, archery is class 0 and bowling class 1; there is no class 2.
    assert [made[f"q{n}"].prediction for n in range(3)] == ["archery", "2", "bowling"]
    assert [made[f"q{n}"].right for n in range(3)] == [False, False, True]


def test_answers_with_runners_up() -> None:
    top = [["left", 3], ["right", 1]]
    said = [{"label": 3, "answer": "left", "top": top}, {"label": 99, "answer": None, "top": top}]
    made = {e.id: e for e in examples.choose(shown("sqa3d", said, ["left", "left"]))}
    assert (made["q0"].prediction, made["q0"].right) == ("left", True)
    assert (made["q1"].prediction, made["q1"].right) == ("null", False)


def test_rankings_have_no_examples_and_numbers_no_verdict() -> None:
    held = shown("retrieval", [None, None], ["0", "1"])
    assert examples.choose(held) == [] and "ranked together" in held.why_no_examples
    made = examples.choose(shown("regression", [0.5, 1.5], ["0.4", "1.0"]))
    assert len(made) == 2 and all(e.right is None for e in made)


def test_what_a_watcher_said_is_told_with_its_seconds() -> None:
    turn = {"role": "assistant", "content": "a red ball", "time": 3.0}
    said = [{"fps": 2, "asked": [], "answers": {"0.5": turns}} for turns in ([turn, turn], [])]
    held = shown("magqa", said, ["", ""])
    gold = [{"role": "assistant", "content": "a red ball " * 90, "time": [1.0, 5.0]}]
    held.items["meta"] = [json.dumps({"answer": gold}), json.dumps({"timestamps": [[2, 4]]})]
    made = {e.id: e for e in examples.choose(held)}
    assert made["q0"].prediction == "[3.0 s] a red ball  [3.0 s] a red ball"
    assert made["q0"].right is None and len(made["q0"].answer) == 401
    assert made["q0"].answer.startswith("[1.0 to 5.0 s] a red ball")
    assert made["q1"].answer == "[2.0 to 4.0 s]"
    assert "nothing said" in made["q1"].prediction


def test_of_hundreds_of_options_the_best_and_the_right_one() -> None:
    options = [examples.Option(f"o{n}", float(n), 0.0, n == 99, n == 7) for n in range(100)]
    few = examples.some(options)
    assert [o.text for o in few] == ["o99", "o98", "o97", "o96", "o95", "o7"]
    assert examples.some(options[:8]) == options[:8]
