"""Watching frame by frame, one forward pass each: what the reference's loop does, step by step.

This is the oracle that the fast engine is tested against, and what the live page runs on. The order
of a step, and what it leaves out, decide the numbers; quirks are marked.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vireo.models.mmduet import chat as talk
from vireo.models.mmduet.chat import Outcome, Settings, Trigger
from vireo.models.mmduet.core import Core
from vireo.models.mmduet.kv_cache import KVCache, SharedPrefixCache


def penalise(logits: Tensor, used: Sequence[int], penalty: float | None) -> Tensor:
    """Logits [V] with those of used tokens pushed down (divided if positive, else multiplied)."""
    if not penalty or not used:
        return logits
    ids = torch.tensor(sorted(set(used)), device=logits.device)
    chosen = logits[ids]
    logits = logits.clone()
    logits[ids] = torch.where(chosen < 0, chosen * penalty, chosen / penalty)
    return logits


def decode(
    model: Core, memory: KVCache | SharedPrefixCache, settings: Settings, used: Sequence[int]
) -> list[int]:
    """Ids of one greedy answer after what is in memory, with the final <|im_end|> if it came.

    The last id is not in memory yet. `used`: ids of the video's earlier answers.
    """
    feed = model.text.ids(talk.REPLY)
    made: list[int] = []
    while len(made) < settings.max_new_tokens:
        embeds = model.embed_ids(feed)
        if isinstance(memory, KVCache):
            hidden = model.module.read(embeds, memory)
        else:
            hidden = model.module.read_branches(embeds[None], memory)[0]
        before = [token for token in (*used, *made) if token != model.text.end]
        logits = penalise(model.module.lm_head(hidden[-1]), before, settings.repetition_penalty)
        made.append(int(logits.argmax()))
        if made[-1] == model.text.end:
            break
        feed = made[-1:]
    return made


class Session:
    """One conversation with one video, fed as it happens."""

    def __init__(self, model: Core, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.memory = model.memory()
        self.trigger = Trigger(settings)
        self.outcome = Outcome()
        self.queue: list[dict[str, Any]] = []
        self.time: float = 0
        self.last_role = ""
        self.last_token: int | None = None
        self._log: list[dict[str, Any]] = []

    def ask(self, text: str, time: float | None = None) -> None:
        """Queue a question for `time` seconds (None: now)."""
        turn = {"time": self.time if time is None else time, "content": text, "role": "user"}
        self.queue.append(turn)
        self.queue.sort(key=lambda turn: turn["time"])

    @torch.inference_mode()
    def feed(self, frames: Tensor) -> list[dict[str, Any]]:
        """Frames uint8 [T,3,S,S] or embeddings [T,49,hidden], one step each -> new events."""
        embeds = self.model.embed_frames(frames) if frames.dtype == torch.uint8 else frames
        for frame in embeds:
            self._step(frame)
        return self.events()

    def events(self) -> list[dict[str, Any]]:
        """Turns since the last call, in the order they happened."""
        new, self._log = self._log, []
        return new

    def _step(self, frame: Tensor) -> None:
        settings = self.settings
        if settings.query_order == "before_frame":
            if self.queue and self.queue[0]["time"] <= self.time:
                # parity: one question a frame | of two questions at one time the second is asked a
                # frame later | `prompt.watch.query_order: after_frame`
                self._question(self.queue.pop(0))
        else:
            while self.queue and self.queue[0]["time"] < self.time:
                self._question(self.queue.pop(0))
        informative, relevance = self._look(frame)
        scores = {"informative_score": informative, "relevance_score": relevance}
        self.outcome.frames.append({"time": self.time, **scores})
        if self.trigger.fires(informative, relevance):
            self._answer()
        self.time += 1 / settings.fps
        self.outcome.length = self.memory.length

    def _question(self, turn: dict[str, Any]) -> None:
        """Feed a user turn and open a stream turn."""
        parts = ""
        if self.memory.length == 0 and self.settings.system_prompt == "always":
            # parity: the reference drops the system prompt when a question comes first | scores of
            # videos whose question comes first | `prompt.watch.system_prompt: always`
            parts = talk.system(self.settings.system_text)
        # parity: after an answer the turn before is not closed | scores after a reply that stays in
        # the context | none
        parts += talk.user(turn["content"], close=self.last_role == "stream") + talk.STREAM
        self.model.module.read(self.model.embed_text(parts), self.memory)
        self.last_role = "user"
        self.outcome.asked.append(turn)
        self._log.append(turn)

    def _look(self, frame: Tensor) -> tuple[float, float]:
        """Feed one frame with what must come before it; its two scores."""
        before: list[int] = []
        if self.memory.length == 0:
            # parity: the first frame follows the system prompt without opening a stream turn |
            # scores of the first frames | none
            before = self.model.text.ids(talk.system(self.settings.system_text))
        elif self.last_role == "assistant" and not self.settings.remove_assistant_turns:
            assert self.last_token is not None
            before = [self.last_token, *self.model.text.ids(talk.STREAM)]
        if before:
            frame = torch.cat([self.model.embed_ids(before), frame])
        hidden = self.model.module.read(frame, self.memory)
        self.last_role = "stream"
        informative, relevance = self.model.scores(hidden[-1:])[0].tolist()
        return informative, relevance

    def _answer(self) -> None:
        """Greedy decoding; in the removing mode the memory is cut back afterwards."""
        before = self.memory.length
        model, settings = self.model, self.settings
        used = [token for ids in self.outcome.generated for token in ids]
        made = decode(model, self.memory, settings, used)
        self.last_token = made[-1]
        if settings.remove_assistant_turns:
            self.memory.crop(before)
        self.last_role = "assistant"
        self.outcome.generated.append(made)
        turn = {"time": self.time, "content": model.text.words(made), "role": "assistant"}
        self.outcome.answered.append(turn)
        self._log.append(turn)


def watch(
    model: Core, embeds: Tensor, questions: Sequence[dict[str, Any]], settings: Settings
) -> Outcome:
    """A whole video (embeddings [T,49,hidden]) frame by frame."""
    session = Session(model, settings)
    for turn in questions:
        session.ask(turn["content"], turn["time"])
    session.feed(embeds)
    return session.outcome
