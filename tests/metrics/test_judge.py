"""Judges over HTTP, by a batch file and of transformers: marks are remembered, faults counted."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from vireo.errors import VireoError
from vireo.metrics import judge


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
