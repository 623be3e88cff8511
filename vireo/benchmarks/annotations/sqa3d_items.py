"""SQA3D's annotation files, or ClipBERT's jsonl made from them -> items; and the conversion.

Facts: docs/reference/clipbert.md sections 2.1 to 2.3. A folder is searched at any depth for
`v1_balanced_questions_<split>_scannetv2.json` (with its annotations and `answer_dict.json`), or for
`<split>.jsonl` (with `train_ans2label.json`).
"""

import json
import logging
import math
from pathlib import Path
from typing import Any

import pandas as pd

from vireo.errors import VireoError
from vireo.metrics.qa import TYPES, question_type
from vireo.nn import answers
from vireo.utils.files import atomic, read_json, write_text

log = logging.getLogger("vireo")

SPLITS = ("train", "val", "test")
UNKNOWN = "unknown"


def dictionary(folder: Path) -> list[str]:
    """Answers by class number, from `answer_dict.json` or `train_ans2label.json` below a folder.

    VireoError when there is none, or when the numbers are not 0 … n-1 once each.
    """
    path = _one(folder, ("answer_dict.json", "train_ans2label.json"))
    if path is None:
        raise VireoError(f"{folder} holds no answer_dict.json and no train_ans2label.json")
    return answers.read(path)


def lines(folder: Path, split: str) -> list[dict[str, Any]] | None:
    """One split in order, as ClipBERT's lines (None: it is not there).

    Keys: answer, question, video_id, answer_type. From the SQA3D files each line also has `id`,
    `asked` (the question alone) and `original` (the answer before it became `unknown`), and in the
    toy world `probe`.
    """
    questions = _one(folder, (f"v1_balanced_questions_{split}_scannetv2.json",))
    if questions is not None:
        return _joined(questions, set(dictionary(folder)))
    path = _one(folder, (f"{split}.jsonl",))
    return None if path is None else _read_jsonl(path)


def _joined(path: Path, known: set[str]) -> list[dict[str, Any]]:
    other = path.with_name(path.name.replace("_questions_", "_sqa_annotations_"))
    asked = _listed(path, "questions", ("question_id", "question", "situation", "scene_id"))
    annotations = _listed(other, "annotations", ("question_id", "answers"))
    given = {a["question_id"]: a["answers"] for a in annotations}
    result = []
    for question in asked:
        number = question["question_id"]
        if not given.get(number):
            raise VireoError(f"{other}: no answer to question {number} of {path.name}")
        answer = given[number][0]["answer"]
        result.append(
            {
                "answer": answer if answer in known else UNKNOWN,
                "question": f"{question['situation']} {question['question']}",
                "video_id": question["scene_id"],
                "answer_type": question_type(question["question"]),
                "id": str(number),
                "asked": question["question"],
                "original": answer,
                **({"probe": question["probe"]} if "probe" in question else {}),
            }
        )
    return result


def official_answers(questions: Path) -> dict[str, tuple[str, str]]:
    """Question id -> (right answer, type) of SQA3D's own files, `questions` and its annotations."""
    other = questions.with_name(questions.name.replace("_questions_", "_sqa_annotations_"))
    if other == questions:
        raise VireoError(
            f"{questions}: give v1_balanced_questions_<split>_scannetv2.json; its annotations are "
            "looked for next to it"
        )
    found = {}
    asked = _listed(questions, "questions", ("question_id", "question"))
    given = _listed(other, "annotations", ("question_id", "answers"))
    answer = {entry["question_id"]: entry["answers"] for entry in given}
    for question in asked:
        number = question["question_id"]
        try:
            right = str(answer[number][0]["answer"])
        except (KeyError, TypeError, IndexError) as error:
            raise VireoError(f"{other}: no answer to question {number}") from error
        found[str(number)] = (right, question_type(str(question["question"])))
    return found


def _listed(path: Path, name: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """The list `name` of one of SQA3D's files; VireoError when it is another file."""
    value = read_json(path, f"{name} file")
    entries = value.get(name) if isinstance(value, dict) else None
    if not isinstance(entries, list) or not entries:
        raise VireoError(f"{path}: no list `{name}`; is this SQA3D's file?")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or any(key not in entry for key in keys):
            raise VireoError(f"{path}: {name}, entry {number} has no {' or no '.join(keys)}")
    return entries


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    result = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines()):
        try:
            line = json.loads(text)
            missing = {"answer", "question", "video_id", "answer_type"} - line.keys()
        except (json.JSONDecodeError, AttributeError) as error:
            raise VireoError(f"{path}, line {number + 1}: not a JSON object") from error
        if missing or line["answer_type"] not in TYPES:
            what = (
                f"does not have {', '.join(sorted(missing))}" if missing else "unknown answer_type"
            )
            raise VireoError(f"{path}, line {number + 1}: {what}")
        result.append(line)
    return result


def _one(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The shallowest file of the first name that occurs below a folder.

    A file in place of the folder is that one; others are looked for below its folder.
    """
    if Path(folder).is_file():
        if Path(folder).name in names:
            return Path(folder)
        folder = Path(folder).parent
    for name in names:
        found = sorted(Path(folder).rglob(name), key=lambda p: (len(p.parts), str(p)))
        if found:
            return found[0]
    return None


def items(folder: Path, splits: list[str], rows: dict[str, int], partial: bool) -> pd.DataFrame:
    """Items of the splits that are there; ids are SQA3D's, or `<split>-<line>` from a jsonl file.

    VireoError when no split is there, or one has not the number of questions it must have.
    """
    result = []
    for split in splits:
        found = lines(folder, split)
        if found is None:
            log.warning("%s: no questions of split %s", folder, split)
            continue
        wanted = rows.get(split)
        if wanted and not partial and len(found) != wanted:
            raise VireoError(
                f"{folder}: split {split} has {len(found)} questions, SQA3D has {wanted}; fetch "
                "the balanced questions again, or set `partial: true` in the benchmark's block"
            )
        result += [_item(line, number, split) for number, line in enumerate(found)]
    if not result:
        raise VireoError(
            f"{folder}: neither v1_balanced_questions_<split>_scannetv2.json nor <split>.jsonl of "
            f"{', '.join(splits)}"
        )
    return pd.DataFrame(result)


def _item(line: dict[str, Any], number: int, split: str) -> dict[str, Any]:
    meta = {"line": number, "answer_type": line["answer_type"]}
    meta |= {key: line[key] for key in ("asked", "original", "probe") if key in line}
    return {
        "id": line.get("id", f"{split}-{number:06d}"),
        "split": split,
        "video": line["video_id"],
        "start": math.nan,
        "end": math.nan,
        "question": line["question"],
        "options": [],
        "answer": line["answer"],
        "group": line["video_id"],
        "meta": json.dumps(meta, ensure_ascii=False),
    }


def convert(folder: Path, out: Path) -> dict[str, int]:
    """Write ClipBERT's `<split>.jsonl` and `train_ans2label.json`; returns lines per split."""
    names = dictionary(folder)
    counts = {}
    for split in SPLITS:
        found = lines(folder, split)
        if found is None:
            continue
        keys = ("answer", "question", "video_id", "answer_type")
        with atomic(out / f"{split}.jsonl") as tmp, open(tmp, "w", encoding="utf-8") as handle:
            for line in found:
                handle.write(json.dumps({key: line[key] for key in keys}) + "\n")
        counts[split] = len(found)
    numbers = {answer: number for number, answer in enumerate(names)}
    write_text(out / "train_ans2label.json", json.dumps(numbers))
    return counts
