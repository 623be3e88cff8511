"""Whole videos at once, with the answers of the frame-by-frame engine (`plain.py`).

A frame's scores depend on what was read before it, and answers that are removed again are not read.
So a video and its questions are read in one chunked pass, the heads are looked at where frames end,
every threshold is applied to the same scores, and all answers are decoded together, each continuing
its own prefix of the one memory. Two things break the sharing, and are read again from where they
happen: a question right after an answer (its turn opens differently), and answers that stay in the
memory, which are handled by reading ahead to the next answer and rolling back to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vireo.models.mmduet import chat as talk
from vireo.models.mmduet.chat import Outcome, Settings, Trigger
from vireo.models.mmduet.core import Core
from vireo.models.mmduet.kv_cache import KVCache, SharedPrefixCache
from vireo.models.mmduet.streaming import decode

CHUNK = 8192  # tokens a forward pass; the first is causal by itself, which costs half
TOGETHER = 32  # answers decoded in one batch
AHEAD = (4, 64)  # frames read ahead of the next answer: at first and at most


@dataclass
class Script:
    """What is read before each frame of a video with its questions, under some settings."""

    model: Core
    settings: Settings
    questions: list[dict[str, Any]]
    times: list[float]

    def before(
        self, frame: int, question: int, role: str, last: int | None
    ) -> tuple[list[int], int]:
        """Ids before a frame, and the next question's number. `role`: of the last turn ("" when
        nothing was read); `last`: an answer's last token, where answers are kept."""
        settings, ids = self.settings, self.model.text.ids
        now, parts = self.times[frame], []
        while question < len(self.questions):
            turn = self.questions[question]
            early = settings.query_order == "before_frame"
            if turn["time"] > now or (turn["time"] == now and not early):
                break
            first = role == "" and settings.system_prompt == "always"
            text = talk.system(settings.system_text) if first else ""
            text += talk.user(turn["content"], close=role == "stream") + talk.STREAM
            parts += ids(text)
            question, role = question + 1, "user"
            if early:
                break
        if role == "":
            parts += ids(talk.system(settings.system_text))
        elif role == "assistant" and last is not None:
            parts += [last, *ids(talk.STREAM)]
        return parts, question


@dataclass
class State:
    """Where in a video the reading stands."""

    frame: int = 0
    question: int = 0
    role: str = ""
    last: int | None = None


@dataclass
class Reading:
    """Per frame: its scores, the memory's length after it, questions asked up to it."""

    scores: list[tuple[float, float]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    def upto(self, frame: int) -> "Reading":
        """The first `frame` frames."""
        return Reading(self.scores[:frame], self.ends[:frame], self.asked[:frame])


@torch.inference_mode()
def watch(
    model: Core,
    embeds: Tensor,
    questions: Sequence[dict[str, Any]],
    settings: Sequence[Settings],
) -> list[Outcome]:
    """Embeddings [T,49,hidden] and user turns -> an outcome per settings, in their order.

    Settings that differ only in what they do with scores share one reading.
    """
    queue = [
        {"time": turn["time"], "content": turn["content"], "role": "user"}
        for turn in sorted(questions, key=lambda turn: turn["time"])
    ]
    groups: dict[Any, list[int]] = {}
    for number, one in enumerate(settings):
        key = (one.fps, one.query_order, one.system_prompt, one.system_text)
        groups.setdefault(key, []).append(number)
    found: dict[int, Outcome] = {}
    for numbers in groups.values():
        times: list[float] = [0]
        for _ in range(len(embeds) - 1):
            times.append(times[-1] + 1 / settings[numbers[0]].fps)
        script = Script(model, settings[numbers[0]], queue, times)
        wanted = {number: settings[number] for number in numbers}
        found |= _group(script, embeds, wanted)
    return [found[number] for number in range(len(settings))]


def _group(script: Script, embeds: Tensor, wanted: dict[int, Settings]) -> dict[int, Outcome]:
    """Settings that share a reading until their answers tell them apart."""
    found: dict[int, Outcome] = {}
    if len(wanted) == 1 and not _free(next(iter(wanted.values()))):
        ((number, one),) = wanted.items()
        return {number: _kept(script, embeds, one, script.model.memory(), Reading())}
    memory = script.model.memory()
    base = Reading()
    _read(script, embeds, memory, State(), len(embeds), base)
    told = _told(script, memory, base, wanted)
    # Those that leave the shared reading latest come first: each finds its own prefix intact.
    order = {number: _leaves(base, one) for number, one in wanted.items()}
    for number in sorted(wanted, key=lambda number: -order[number]):
        one = wanted[number]
        if _free(one):
            found[number] = _removed(script, embeds, one, memory, base, told)
        else:
            found[number] = _kept(script, embeds, one, memory, base.upto(order[number]))
    return found


def _told(
    script: Script, memory: KVCache, base: Reading, wanted: dict[int, Settings]
) -> dict[tuple[int, int], list[int]]:
    """(entries read, most tokens) -> answer, for every frame of the shared reading at which some
    setting answers: greedy decoding gives the same words under every threshold."""
    starts: dict[int, set[int]] = {}
    for one in wanted.values():
        if not _free(one) or one.repetition_penalty:
            continue
        trigger = Trigger(one)
        due = starts.setdefault(one.max_new_tokens, set())
        for frame in range(_leaves(base, one)):
            if trigger.fires(*base.scores[frame]):
                due.add(base.ends[frame])
    found: dict[tuple[int, int], list[int]] = {}
    for most, ends in starts.items():
        order = sorted(ends)
        made = _answers(script.model, memory, order, Settings(max_new_tokens=most))
        found |= {(end, most): ids for end, ids in zip(order, made, strict=True)}
    return found


def _free(one: Settings) -> bool:
    """Whether no answer can change a later score (but for a question right behind it)."""
    never = one.sum is None and (one.prob is None or one.prob >= len(one.heads))
    return one.remove_assistant_turns or never


def _leaves(base: Reading, one: Settings) -> int:
    """The first frame that the shared reading has wrong for these settings (T: none)."""
    trigger, asked = Trigger(one), 0
    for frame, scores in enumerate(base.scores):
        fired = trigger.fires(*scores)
        asked = base.asked[frame]
        after = base.asked[frame + 1] if frame + 1 < len(base.asked) else asked
        if fired and (not _free(one) or after > asked):
            return frame + 1
    return len(base.scores)


def _read(
    script: Script, embeds: Tensor, memory: KVCache, state: State, stop: int, into: Reading
) -> None:
    """Read frames `state.frame` .. `stop` without an answer among them; adds to `into`."""
    model = script.model
    pieces: list[Tensor] = []
    ends, total = [], memory.length
    question, role, last = state.question, state.role, state.last
    for frame in range(state.frame, stop):
        ids, question = script.before(frame, question, role, last)
        if ids:
            pieces.append(model.embed_ids(ids))
        pieces.append(embeds[frame])
        total += len(ids) + len(embeds[frame])
        ends.append(total)
        into.asked.append(question)
        role, last = "stream", None
    wanted = iter(ends)
    due = next(wanted, None)
    states = []
    for chunk in torch.cat(pieces).split(CHUNK) if pieces else ():
        start = memory.length
        hidden = model.module.read(chunk, memory)
        while due is not None and due <= memory.length:
            states.append(hidden[due - start - 1])
            due = next(wanted, None)
    into.ends += ends
    if states:
        into.scores += [(a, b) for a, b in model.scores(torch.stack(states)).tolist()]
    state.frame, state.question, state.role, state.last = stop, question, role, last


def _removed(
    script: Script,
    embeds: Tensor,
    one: Settings,
    memory: KVCache,
    base: Reading,
    told: dict[tuple[int, int], list[int]],
) -> Outcome:
    """Answers do not stay: scores first, then all answers that are not `told` together."""
    reading, trigger = base, Trigger(one)
    shared = len(embeds)  # frames of the shared reading
    fired: list[int] = []
    frame = 0
    while frame < len(embeds):
        answered = bool(fired) and fired[-1] == frame - 1
        before = reading.asked[frame - 1] if frame else 0
        if answered and reading.asked[frame] > before:
            # parity: the question's turn opens without closing the one before the answer | as the
            # frame-by-frame loop | none
            reading, shared = reading.upto(frame), min(shared, frame)
            memory.crop(reading.ends[-1])
            state = State(frame, before, "assistant")
            _read(script, embeds, memory, state, len(embeds), reading)
        if trigger.fires(*reading.scores[frame]):
            fired.append(frame)
        frame += 1
    known = {k: told.get((reading.ends[k], one.max_new_tokens)) for k in fired if k < shared}
    if one.repetition_penalty:  # each answer depends on those before it
        known = {}
    due = [k for k in fired if known.get(k) is None]
    made = _answers(script.model, memory, [reading.ends[k] for k in due], one)
    answers = {**known, **dict(zip(due, made, strict=True))}
    generated = [answers[k] or [] for k in fired]
    return _outcome(script, reading, fired, generated, reading.ends[-1] if reading.ends else 0)


def _kept(
    script: Script, embeds: Tensor, one: Settings, memory: KVCache, known: Reading
) -> Outcome:
    """Answers stay: read ahead, find the next answer, roll back to it, decode it, go on.

    `known`: frames that are in `memory` already; an answer may follow the last of them only.
    """
    model, trigger, reading = script.model, Trigger(one), Reading()
    fired: list[int] = []
    generated: list[list[int]] = []
    state, ahead = State(), AHEAD[0]
    if known.ends:
        memory.crop(known.ends[-1])  # other settings may have answered behind it
    while state.frame < len(embeds):
        start = state.frame
        if known.scores and not start:
            fresh = known
            state = State(len(known.scores), known.asked[-1], "stream")
        else:
            fresh = Reading()
            _read(script, embeds, memory, state, min(start + ahead, len(embeds)), fresh)
        for k, scores in enumerate(fresh.scores):
            if not trigger.fires(*scores):
                continue
            memory.crop(fresh.ends[k])
            fresh = fresh.upto(k + 1)
            used = [token for ids in generated for token in ids]
            generated.append(decode(model, memory, one, used))
            fired.append(start + k)
            # A removed answer leaves its role behind, but not its tokens.
            state = State(start + k + 1, fresh.asked[k], "assistant", generated[-1][-1])
            ahead = max(k + 1, AHEAD[0])
            break
        else:
            ahead = min(2 * ahead, AHEAD[1])
        reading.scores += fresh.scores
        reading.ends += fresh.ends
        reading.asked += fresh.asked
    return _outcome(script, reading, fired, generated, memory.length)


def _answers(model: Core, memory: KVCache, starts: list[int], one: Settings) -> list[list[int]]:
    """Greedy answers after prefixes of one memory; one by one under a repetition penalty."""
    if one.repetition_penalty:
        made: list[list[int]] = []
        for start in starts:
            branches = SharedPrefixCache(memory, model.module.arch["layers"], [start])
            made.append(decode(model, branches, one, [t for ids in made for t in ids]))
        return made
    result = []
    for k in range(0, len(starts), TOGETHER):
        result += _together(model, memory, starts[k : k + TOGETHER], one.max_new_tokens)
    return result


def _together(model: Core, memory: KVCache, starts: list[int], most: int) -> list[list[int]]:
    branches = SharedPrefixCache(memory, model.module.arch["layers"], starts)
    made: list[list[int]] = [[] for _ in starts]
    alive = list(range(len(starts)))
    prompt = model.embed_ids(model.text.ids(talk.REPLY))
    embeds = prompt.expand(len(starts), *prompt.shape)
    for _ in range(most):
        hidden = model.module.read_branches(embeds, branches)
        tokens = model.module.lm_head(hidden[:, -1]).argmax(-1).tolist()
        for row, token in zip(alive, tokens, strict=True):
            made[row].append(token)
        going = [k for k, token in enumerate(tokens) if token != model.text.end]
        if not going:
            break
        if len(going) < len(alive):
            branches.select(torch.tensor(going))
            alive = [alive[k] for k in going]
        embeds = model.embed_ids([tokens[k] for k in going])[:, None]
    return made


def _outcome(
    script: Script, reading: Reading, fired: list[int], generated: list[list[int]], length: int
) -> Outcome:
    names = talk.HEADS
    frames = [
        {"time": time, **dict(zip(names, scores, strict=True))}
        for time, scores in zip(script.times, reading.scores, strict=True)
    ]
    asked = script.questions[: reading.asked[-1] if reading.asked else 0]
    words = script.model.text.words
    answered = [
        {"time": script.times[k], "content": words(ids), "role": "assistant"}
        for k, ids in zip(fired, generated, strict=True)
    ]
    return Outcome(frames, list(asked), answered, generated, length)
