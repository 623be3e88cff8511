"""Shot2Story-MAGQA: one question, answers all along the video, marked 1..5 by a judge.

Facts: docs/reference/mmduet.md section 3.2. A number belongs to its judge: the paper's are
Llama-3.1-70B and GPT-4o. Without a configured judge a word overlap stands in, which is comparable
with nothing.

One entry of the gold file (values invented; see `mmduet_items`):

    {"question_id": "q_0", "video": "a.mp4",
     "conversation": [{"role": "user", "content": "What does she do?", "time": 0.4}],
     "answer": [{"role": "assistant", "content": "She opens a box.", "time": [0.0, 4.2]}]}
"""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pandas as pd

from vireo.benchmarks.annotations import mmduet_items, user_files
from vireo.benchmarks.annotations.mmduet_items import PREDICTS, export, prompts, videos
from vireo.errors import VireoError
from vireo.metrics import judge as judges
from vireo.metrics import magqa
from vireo.metrics.scores import Metric, Scores
from vireo.utils.files import write_text

NEEDS = "StreamingModel"

__all__ = ["NEEDS", "PREDICTS", "export", "prompts", "videos"]


def items(sources: dict[str, Path], block: dict[str, Any]) -> pd.DataFrame:
    """One row per question, with its gold answers in `meta`."""
    path, entries = mmduet_items.annotations(sources, block)
    return mmduet_items.item_rows(entries, block["splits"][0], path, ["answer", "conversation"])


def score(items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any]) -> Scores:
    """In-span score 1..5, answers and distinct answers a question; without an answer it is 1."""
    options = block.get("options") or {}
    judge = judges.Judge(**(options.get("judge") or {"kind": "words"}))
    examples = []
    for id, one in mmduet_items.from_rows(items, predictions, block).items():
        meta = json.loads(items.loc[items["id"] == id, "meta"].iloc[0])
        examples.append(magqa.example({"question_id": id, **meta}, one.turns))
    marks = judge.marks([pair for one in examples for pair in one.pairs()])
    parts = {one.id: magqa.in_span_score(one, one.matrix(marks)) for one in examples}
    turns = {one.id: float(len(one.predicted)) for one in examples}
    distinct = {one.id: float(len({t for t, _ in one.predicted})) for one in examples}
    metrics = {
        "in_span": Metric.mean(pd.Series(parts, dtype=float), "", 1.0, 5.0, "in-span score"),
        "turns": Metric.mean(pd.Series(turns, dtype=float), "", title="answers a question"),
        "distinct": Metric.mean(pd.Series(distinct, dtype=float), "", title="distinct answers"),
    }
    notes = [f"judge: {judge.name}, {len(marks)} pairs, {judge.failures} replies without a mark"]
    if judge.kind == "words":
        notes.append("word overlap is no judge: the score compares with no published number")
    return Scores(
        metrics=metrics,
        primary=block.get("primary") or "in_span",
        printout=magqa.summarise(examples, marks).line() + "\n" if examples else "",
        chance=block.get("chance"),
        notes=notes,
    )


def add_arguments(parser: ArgumentParser) -> None:
    """Files, the judge, and how the original analysis pads."""
    parser.add_argument("--pred_file", required=True, help="lines of test/inference.py")
    parser.add_argument("--gold_file", required=True, help="magqa_test.json")
    parser.add_argument("--judge", choices=judges.KINDS, default="words", help="default: words")
    parser.add_argument("--url", default="", help="of an OpenAI-compatible or plain endpoint")
    parser.add_argument("--model", default="", help="name at the endpoint, or a local model")
    parser.add_argument("--batch_file", default="", help="requests out, <file>.out in")
    parser.add_argument("--num_examples", type=int, help="the first so many, padded with score 1")
    parser.add_argument("--output_file", help="write the judged lines here")
    user_files.add_unmatched(parser)


def evaluate(args: Namespace) -> str:
    """Judge and score a prediction file; the last line is JSON. Lines that hold `evaluator_output`
    (judged by the original code) are not judged again."""
    entries = mmduet_items.gold_entries(args.gold_file, ["answer", "conversation"])
    lines = user_files.objects(args.pred_file)
    ids = [mmduet_items.read_line(line, args.pred_file).id for line in lines]
    files = (args.gold_file, args.pred_file)
    both = user_files.matched(entries, ids, files, args.max_unmatched)
    # parity: every line counts, also when it repeats a question | files that repeat a question,
    # with a warning | none
    repeated = user_files.warn_repeated(
        ids, args.pred_file, "each line counts, as in the reference"
    )
    lines = [line for line in lines if str(line["question_id"]) in entries]
    examples: list[magqa.Example] = []
    given: dict[magqa.Pair, float] = {}
    for line in lines:
        id = str(line["question_id"])
        one = magqa.example(entries[id], line.get("model_response_list") or [])
        examples.append(one)
        given |= _judged_marks(line, one, f"{args.pred_file}: {id!r}", given)
    judge = judges.Judge(args.judge, url=args.url, model=args.model, path=args.batch_file)
    due = [pair for one in examples for pair in one.pairs() if pair not in given]
    marks = {**given, **judge.marks(due)}
    if args.output_file:
        write_text(args.output_file, judged(lines, examples, marks))
    summary = magqa.summarise(examples, marks, args.num_examples)
    result = {
        "in_span_score": summary.score,
        "turns": summary.turns,
        "distinct_turns": summary.distinct,
        "n": len(summary.each),
        "matched": both,
        "expected": len(entries),
        "repeated": repeated,
        "judge": judge.name,
        "judge_calls": len(set(due)),
        "parse_failures": judge.failures,
    }
    return summary.line() + "\n" + mmduet_items.last_line(result)


def _judged_marks(
    line: dict[str, Any], one: magqa.Example, where: str, known: dict[magqa.Pair, float]
) -> dict[magqa.Pair, float]:
    """Marks that a line of the original evaluator's output holds; the best of equal pairs."""
    marks: dict[magqa.Pair, float] = {}
    matrix = line.get("evaluator_output") or []
    if not matrix:
        return marks
    values = user_files.finite(matrix, f"{where}, evaluator_output")
    if values.shape != (len(one.gold), len(one.predicted)):
        raise VireoError(
            f"{where}: evaluator_output is {list(values.shape)}, not {len(one.gold)} gold by "
            f"{len(one.predicted)} predicted answers"
        )
    for (gold, _), row in zip(one.gold, values.tolist(), strict=True):
        for (said, _), mark in zip(one.predicted, row, strict=True):
            pair = (one.question, gold, said)
            marks[pair] = max(known.get(pair, 0.0), marks.get(pair, 0.0), mark)
    return marks


def judged(
    lines: list[dict[str, Any]], examples: list[magqa.Example], marks: dict[magqa.Pair, float]
) -> str:
    """The original evaluator's output lines; questions without an answer are left out."""
    rows = []
    for line, one in zip(lines, examples, strict=True):
        if not one.predicted:
            continue
        answers = [text for text, _ in one.gold]
        spans = [span for _, span in one.gold]
        extra = {"evaluator_output": one.matrix(marks), "answer": answers, "answer_time": spans}
        kept = {key: value for key, value in line.items() if key != "debug_data"}
        rows.append(json.dumps({**kept, **extra}, ensure_ascii=False) + "\n")
    return "".join(rows)
