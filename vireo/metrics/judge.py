"""Judges that mark a predicted answer 1..5 against a gold one, and a memory of their marks.

Three kinds: an OpenAI-compatible HTTP endpoint (a local vLLM server or a hosted model), a local
`transformers` chat model, and a batch file that is filled elsewhere. The rubric is our own wording
of the five grades. A pair is judged once per judge; a reply without a mark counts as 1 and is
counted. The judge's name is part of a result's identity.
"""

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vireo.errors import VireoError, unknown
from vireo.metrics.magqa import WORST, Pair
from vireo.utils.files import digest

RUBRIC = """You compare a predicted answer to a question about a video with the reference answer.
Give one mark:
5 - says the same, nothing important missing or wrong
4 - mostly the same, a small detail missing or different
3 - partly the same
2 - little in common, or in conflict with the reference
1 - wrong, or about something else
Reply with the mark alone, a single digit from 1 to 5."""
KINDS = ("http", "plain_http", "transformers", "batch", "words")
FOLDER = Path("cache/judge")


def request_text(pair: Pair) -> str:
    """What the judge is shown beside the rubric."""
    question, gold, predicted = pair
    lines = (f"Question: {question}", f"Reference answer: {gold}", f"Predicted answer: {predicted}")
    return "\n".join(lines)


def parse(reply: str, last: bool = False) -> float | None:
    """The mark in a reply: its first (or last) character if that is a digit 1..5, else None."""
    text = reply.strip()
    character = text[-1:] if last else text[:1]
    return float(character) if character in "12345" and character else None


def word_overlap(pair: Pair) -> float:
    """1 + 4 x Jaccard of the words, rounded: no judge, but a number without any model."""
    gold, said = (set(re.findall(r"[a-z]+", text.lower())) for text in pair[1:])
    both = gold | said
    return float(1 + round(4 * len(gold & said) / len(both))) if both else WORST


@dataclass
class Judge:
    """How marks are got.

    kind: one of `KINDS`; url, model: of the endpoint or the local model; token_env: environment
    variable that holds the endpoint's key; path: the batch file.
    """

    kind: str
    url: str = ""
    model: str = ""
    token_env: str = "OPENAI_API_KEY"
    path: str = ""
    workers: int = 8
    timeout_s: float = 60.0
    failures: int = field(default=0, init=False)  # replies without a mark
    calls: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("judge", self.kind, KINDS)
        for key in {"http": ("url", "model"), "plain_http": ("url",), "batch": ("path",)}.get(
            self.kind, ("model",) if self.kind == "transformers" else ()
        ):
            if not getattr(self, key):
                raise VireoError(f"judge {self.kind}: `{key}` is missing")

    @property
    def name(self) -> str:
        """For results: which judge, with which rubric."""
        what = self.model or self.url or self.path
        rubric = digest([RUBRIC])[:6]
        return f"{self.kind}:{what}" if self.kind == "words" else f"{self.kind}:{what}:{rubric}"

    def marks(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        """Mark every pair; marks of earlier runs are taken from cache/judge."""
        if self.kind == "words":
            self.calls += len(pairs)
            return {pair: word_overlap(pair) for pair in pairs}
        known = self._read()
        due = [pair for pair in dict.fromkeys(pairs) if _id(pair) not in known]
        if due:
            with open(self._file(), "a", encoding="utf-8") as file:
                for pair, reply in self._ask(due):
                    line = {"id": _id(pair), "pair": list(pair), "reply": reply}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                    file.flush()
                    known[_id(pair)] = reply
        result = {}
        for pair in pairs:
            mark = parse(known[_id(pair)], last=self.kind == "plain_http")
            self.failures += mark is None
            result[pair] = WORST if mark is None else mark
        return result

    def _file(self) -> Path:
        FOLDER.mkdir(parents=True, exist_ok=True)
        return FOLDER / f"{digest([self.name])}.jsonl"

    def _read(self) -> dict[str, str]:
        known: dict[str, str] = {}
        path = self._file()
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                row = json.loads(line)
                known[row["id"]] = row["reply"]
            except (ValueError, KeyError, TypeError):
                continue  # truncated by a kill
        return known

    def _ask(self, pairs: list[Pair]) -> Iterable[tuple[Pair, str]]:
        self.calls += len(pairs)
        if self.kind == "batch":
            yield from zip(pairs, _from_batch(Path(self.path), pairs, self.model), strict=True)
            return
        one: Callable[[Pair], str]
        if self.kind == "transformers":
            one = local(self.model)
            for pair in pairs:
                yield pair, one(pair)
            return
        one = self._plain if self.kind == "plain_http" else self._chat
        with ThreadPoolExecutor(self.workers) as pool:
            yield from zip(pairs, pool.map(one, pairs), strict=True)

    def _chat(self, pair: Pair) -> str:
        body = {"model": self.model, "temperature": 0, "max_tokens": 8, "messages": messages(pair)}
        url = self.url.rstrip("/")
        url = url if url.endswith("/completions") else f"{url}/chat/completions"
        return str(self._post(url, body)["choices"][0]["message"]["content"])

    def _plain(self, pair: Pair) -> str:
        names = ("question", "gold_answer", "pred_answer")
        return str(self._post(self.url, dict(zip(names, pair, strict=True)))["text"])

    def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if token := os.environ.get(self.token_env):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:
                return json.loads(answer.read())
        except (urllib.error.URLError, TimeoutError, ValueError) as error:
            raise VireoError(
                f"judge at {url}: {error}; marks so far are kept, run the same command again"
            ) from error


def messages(pair: Pair) -> list[dict[str, str]]:
    """The rubric and the request as chat messages."""
    return [
        {"role": "system", "content": RUBRIC},
        {"role": "user", "content": request_text(pair)},
    ]


def local(model: str) -> Callable[[Pair], str]:
    """A chat model of `transformers` as a judge, greedy."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto", device_map="auto")

    def ask(pair: Pair) -> str:
        shown = messages(pair)
        ids = tokenizer.apply_chat_template(
            shown, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(network.device)
        out = network.generate(**ids, max_new_tokens=8, do_sample=False)
        return str(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))

    return ask


def _from_batch(path: Path, pairs: list[Pair], model: str) -> list[str]:
    """Replies of a filled batch file (`<path>` of requests, `<path>.out` of replies)."""
    answers = path.with_name(path.name + ".out")
    replies: dict[str, str] = {}
    for line in answers.read_text(encoding="utf-8").splitlines() if answers.exists() else ():
        row = json.loads(line)
        message = row["response"]["body"]["choices"][0]["message"]
        replies[row["custom_id"]] = str(message["content"])
    if any(_id(pair) not in replies for pair in pairs):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            for pair in pairs:
                body = {"model": model, "temperature": 0, "messages": messages(pair)}
                row = {"custom_id": _id(pair), "method": "POST", "url": "/v1/chat/completions"}
                file.write(json.dumps({**row, "body": body}, ensure_ascii=False) + "\n")
        raise VireoError(
            f"{len(pairs)} requests are in {path}: send it as a batch, put the replies into "
            f"{answers} and run again"
        )
    return [replies[_id(pair)] for pair in pairs]


def _id(pair: Pair) -> str:
    return digest(list(pair))
