"""In-span scores of MAGQA against the authors' evaluator."""

from tests.metrics.mmduet_golden import read
from vireo.metrics import judge, magqa


def words_as_in_the_vectors(one: magqa.Example) -> dict[magqa.Pair, float]:
    return {pair: judge.word_overlap(pair) for pair in one.pairs()}


def test_in_span_scores() -> None:
    turns = {row["question_id"]: row["model_response_list"] for row in read("magqa_pred.jsonl")}
    examples = [
        magqa.example(e, turns[e["question_id"]])
        for e in read("magqa_gold.json")
        if e["question_id"] in turns
    ]
    marks = {k: v for one in examples for k, v in words_as_in_the_vectors(one).items()}
    expected = read("expected.json")["magqa"]
    assert len(marks) == expected["judge_calls"]
    by_id = {one.id: one for one in examples}
    for row in read("magqa_judged_expected.jsonl"):
        assert by_id[row["question_id"]].matrix(marks) == row["evaluator_output"]
    for number, key in ((10, "n10_pad"), (None, "n10_nopad"), (5, "n5")):
        assert magqa.summarise(examples, marks, number).line() == expected[key]
