"""The live page: a video, what the model makes of each frame, and a conversation with it.

Gradio on 127.0.0.1, one reading per visitor, no request to any other machine: telemetry is off and
a content security policy keeps the browser at home. `serve` blocks until it is interrupted.
"""

import base64
import html
import io
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vireo.demo.csp import CSPMiddleware
from vireo.demo.live import Footage, Limits, Viewer, footage
from vireo.errors import VireoError
from vireo.models.mmduet.chat import Settings
from vireo.utils.cli import log

MODES = {"score of one frame": "prob", "sum of scores": "sum"}
SPEEDS = {"as the video plays": 1.0, "four times as fast": 0.25, "as fast as possible": 0.0}
WIDTH, HEIGHT, LEFT, FOOT = 640, 180, 34, 20  # of the plot
CSS = """
#screen img { width: 100%; max-width: 24rem; border-radius: .4rem; background: #000; }
#screen p, #plot p { margin: .3rem 0; font-variant-numeric: tabular-nums; }
#plot svg { width: 100%; height: auto; color: var(--body-text-color); }
footer { display: none !important; }
"""


@dataclass
class Visitor:
    """What the server knows of one open page."""

    viewer: Viewer | None = None
    early: list[str] = field(default_factory=list)  # questions asked before the start

    def stop(self) -> None:
        """End the reading, if there is one."""
        if self.viewer is not None:
            self.viewer.stop()


class Visitors:
    """Open pages by Gradio's session."""

    def __init__(self) -> None:
        self._lock, self._known = threading.Lock(), dict[str, Visitor]()

    def of(self, session: str | None) -> Visitor:
        """The visitor of a session, made when first seen."""
        with self._lock:
            return self._known.setdefault(session or "", Visitor())

    def gone(self, session: str | None) -> None:
        """Forget a visitor and end the reading."""
        with self._lock:
            visitor = self._known.pop(session or "", None)
        if visitor is not None:
            visitor.stop()

    def __len__(self) -> int:
        return len(self._known)


def picture(video: Footage, number: int) -> str:
    """A frame as an <img> that holds its own data."""
    from PIL import Image

    store = io.BytesIO()
    Image.fromarray(video.shown[number]).save(store, "JPEG", quality=80)
    data = base64.b64encode(store.getvalue()).decode()
    return f'<img alt="frame {number + 1}" src="data:image/jpeg;base64,{data}">'


def screen(viewer: Viewer) -> str:
    """The frame of now, its time and scores."""
    if not viewer.frames:
        return ""
    last = viewer.frames[-1]
    text = (
        f"{last['time']:.1f} s of {viewer.video.duration:.1f} s · informative "
        f"{last['informative_score']:.3f} · relevant {last['relevance_score']:.3f}"
    )
    if viewer.settings.sum is not None:
        text += f" · sum {viewer.sums[-1]:.2f}"
    return f"{picture(viewer.video, len(viewer.frames) - 1)}<p>{text}</p>"


def plot(viewer: Viewer) -> str:
    """Scores of all frames so far, the threshold, and where answers were given, as SVG."""
    settings, frames = viewer.settings, viewer.frames
    threshold = settings.prob if settings.prob is not None else settings.sum
    top = max(1.0, 1.05 * settings.prob) if settings.prob is not None else 1.0
    if settings.sum is not None:
        top = max(1.0, 1.05 * settings.sum, *viewer.sums)
    span = max(viewer.video.duration, 1e-9)

    def x(time: float) -> float:
        return LEFT + (WIDTH - LEFT - 8) * time / span

    def y(value: float) -> float:
        return 8 + (HEIGHT - FOOT - 8) * (1 - value / top)

    def line(values: Sequence[float], colour: str, name: str, more: str = "") -> str:
        pairs = zip((f["time"] for f in frames), values, strict=True)
        points = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in pairs)
        return (
            f'<polyline data-line="{name}" points="{points}" fill="none" stroke="{colour}" '
            f'stroke-width="2" {more}><title>{name}</title></polyline>'
        )

    base = y(0.0)
    parts = [
        f'<line x1="{LEFT}" y1="{base}" x2="{WIDTH - 8}" y2="{base}" stroke="currentColor"/>',
        f'<text x="{LEFT - 4}" y="{base}" text-anchor="end">0</text>',
        f'<text x="{LEFT - 4}" y="{y(top) + 8:.1f}" text-anchor="end">{top:.1f}</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 4}">0 s</text>',
        f'<text x="{WIDTH - 8}" y="{HEIGHT - 4}" text-anchor="end">{span:.1f} s</text>',
    ]
    if threshold is not None and threshold <= top:
        at = y(threshold)
        parts.append(
            f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - 8}" y2="{at:.1f}" stroke="currentColor" '
            f'stroke-dasharray="4 4" opacity=".7"><title>threshold {threshold:g}</title></line>'
        )
    if settings.sum is not None:
        parts.append(line(viewer.sums, "currentColor", "sum", 'opacity=".5"'))
    parts.append(line([f["relevance_score"] for f in frames], "#d9822b", "relevant"))
    parts.append(line([f["informative_score"] for f in frames], "#3d85c6", "informative"))
    for turn in viewer.session.outcome.answered:
        said = html.escape(turn["content"])
        parts.append(
            f'<path data-answer d="M{x(turn["time"]):.1f},{base} l-5,9 l10,0 z" '
            f'fill="currentColor"><title>{turn["time"]:.1f} s: {said}</title></path>'
        )
    legend = (
        '<p><span style="color:#3d85c6">■</span> informative '
        '<span style="color:#d9822b">■</span> relevant '
        + ("<span>■</span> running sum " if settings.sum is not None else "")
        + "┄ threshold ▲ answer</p>"
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-size="11" fill="currentColor" '
        f'aria-label="scores of {len(frames)} frames">{"".join(parts)}</svg>{legend}'
    )


def talk(turns: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Turns as the chat shows them."""
    shown = []
    for turn in turns:
        when = "waits" if turn["time"] is None else f"{turn['time']:.1f} s"
        shown.append({"role": turn["role"], "content": f"[{when}] {turn['content'] or '(silent)'}"})
    return shown


def status(viewer: Viewer) -> str:
    """One line for people."""
    words = {"over": "The video is over.", "stopped": "Stopped.", "paused": "Paused."}
    text = words.get(viewer.state, "Watching.")
    if viewer.video.cut:
        text += f" Only the first {len(viewer.video.seen)} frames are read."
    return f"{text} {viewer.note}".strip()


@dataclass
class Page:
    """The model behind the page and what visitors may do with it."""

    model: Any
    size: int
    settings: Settings  # what the controls do not change, and their first values
    example: Path | None = None
    limits: Limits = field(default_factory=Limits)
    decode: dict[str, Any] = field(default_factory=dict)
    title: str = "MMDuet"

    def __post_init__(self) -> None:
        self.visitors, self.turn = Visitors(), threading.Lock()

    def wanted(
        self, mode: str, threshold: float, heads: list[str], removed: bool, interval: float
    ) -> Settings:
        """Settings of the controls; VireoError for a choice that makes no sense."""
        if not heads:
            raise VireoError("choose at least one score")
        kind, base = MODES[mode], self.settings
        return Settings(
            fps=1 / min(max(float(interval), 0.1), 10.0),
            prob=float(threshold) if kind == "prob" else None,
            sum=float(threshold) if kind == "sum" else None,
            heads=tuple(f"{head}_score" for head in heads),
            remove_assistant_turns=removed,
            max_new_tokens=base.max_new_tokens,
            query_order=base.query_order,
            system_prompt="always",
            system_text=base.system_text,
        )

    def start(self, session: str | None, path: str | None, settings: Settings) -> Viewer:
        """Begin a reading; questions asked before it come first."""
        visitor = self.visitors.of(session)
        visitor.stop()
        if not path:
            raise VireoError("choose a video first")
        video = footage(path, self.size, settings.fps, self.limits, self.decode)
        viewer = Viewer(self.model, settings, video, self.turn)
        while visitor.early:
            viewer.ask(visitor.early.pop(0))
        visitor.viewer = viewer
        return viewer

    def ask(self, session: str | None, text: str) -> list[dict[str, Any]]:
        """Take a question at any time; returns the conversation."""
        text = " ".join(text.split())[: self.limits.letters]
        visitor = self.visitors.of(session)
        running = visitor.viewer is not None and visitor.viewer.state in ("playing", "paused")
        if running and visitor.viewer is not None:
            if text:
                visitor.viewer.ask(text)
            return visitor.viewer.turns()
        if text:
            visitor.early.append(text)
        return [{"role": "user", "content": one, "time": None} for one in visitor.early]

    def blocks(self) -> Any:
        """The page, made with Gradio."""
        # Before the first import: it reads this once.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        import gradio as gr

        base = self.settings
        threshold = base.prob if base.prob is not None else base.sum

        def play(
            path: str | None,
            mode: str,
            threshold: float,
            heads: list[str],
            removed: bool,
            interval: float,
            speed: str,
            request: gr.Request,
        ) -> Iterator[tuple[str, str, list[dict[str, str]], str]]:
            try:
                settings = self.wanted(mode, threshold, heads, removed, interval)
                viewer = self.start(request.session_hash, path, settings)
            except VireoError as error:
                raise gr.Error(str(error), print_exception=False) from None

            def shown() -> tuple[str, str, list[dict[str, str]], str]:
                return screen(viewer), plot(viewer), talk(viewer.turns()), status(viewer)

            for _ in viewer.play(interval * SPEEDS[speed]):
                yield shown()
            yield shown()

        def asked(text: str, request: gr.Request) -> tuple[str, list[dict[str, str]]]:
            return "", talk(self.ask(request.session_hash, text))

        def paused(request: gr.Request) -> str:
            viewer = self.visitors.of(request.session_hash).viewer
            if viewer is None:
                return "Nothing plays."
            viewer.pause()
            return status(viewer)

        def stopped(request: gr.Request) -> str:
            visitor = self.visitors.of(request.session_hash)
            visitor.stop()
            return status(visitor.viewer) if visitor.viewer else "Nothing plays."

        def left(request: gr.Request) -> None:
            self.visitors.gone(request.session_hash)

        with gr.Blocks(title=self.title, analytics_enabled=False, delete_cache=(600, 3600)) as demo:
            gr.Markdown(f"# {self.title}\nIt watches a video as it plays and speaks up by itself.")
            with gr.Row():
                with gr.Column(scale=2):
                    video = gr.File(
                        label=f"Video, up to {self.limits.megabytes} MB and "
                        f"{self.limits.seconds / 60:.0f} minutes",
                        file_types=["video"],
                        elem_id="video",
                    )
                    if self.example is not None:
                        example = gr.Button("Take the example video", elem_id="example")
                        example.click(
                            lambda: str(self.example), None, video, show_progress="hidden"
                        )
                    seen = gr.HTML(elem_id="screen")
                    scores = gr.HTML(elem_id="plot")
                with gr.Column(scale=2):
                    state = gr.Markdown("Choose a video and press Start.", elem_id="status")
                    with gr.Row():
                        start = gr.Button("Start", variant="primary", elem_id="start")
                        pause = gr.Button("Pause / go on", elem_id="pause")
                        stop = gr.Button("Stop", variant="stop", elem_id="stop")
                    chat = gr.Chatbot(
                        label="Conversation",
                        render_markdown=False,
                        feedback_options=None,
                        buttons=[],
                        elem_id="chat",
                    )
                    question = gr.Textbox(
                        label="Ask at any time (Enter sends)",
                        max_length=self.limits.letters,
                        elem_id="question",
                    )
                    with gr.Accordion("Settings, from the next start on", open=False):
                        kinds = list(MODES)
                        mode = gr.Radio(
                            kinds,
                            value=kinds[base.sum is not None],
                            label="Answer above the threshold by",
                            elem_id="mode",
                        )
                        level = gr.Slider(
                            0, 3, value=threshold, step=0.05, label="Threshold", elem_id="threshold"
                        )
                        heads = gr.CheckboxGroup(
                            ["informative", "relevance"],
                            value=[head.removesuffix("_score") for head in base.heads],
                            label="Scores that are added up",
                        )
                        removed = gr.Checkbox(
                            base.remove_assistant_turns, label="Forget earlier answers"
                        )
                        interval = gr.Slider(
                            0.1,
                            10,
                            value=round(1 / base.fps, 1),
                            step=0.1,
                            label="Seconds between frames",
                        )
                        speeds = list(SPEEDS)
                        speed = gr.Radio(speeds, value=speeds[0], label="Speed", elem_id="speed")
            controls = [video, mode, level, heads, removed, interval, speed]
            start.click(
                play,
                controls,
                [seen, scores, chat, state],
                concurrency_limit=self.limits.visitors,
                show_progress="hidden",
            )
            quick: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
            question.submit(asked, question, [question, chat], **quick)
            pause.click(paused, None, state, **quick)
            stop.click(stopped, None, state, **quick)
            demo.unload(left)
        return demo.queue(max_size=4 * self.limits.visitors)

    def serve(self, port: int | None = None, block: bool = True) -> Any:
        """Serve on 127.0.0.1; without `block` returns (blocks, url) at once."""
        # What visitors upload goes with the server.
        self._uploads = tempfile.TemporaryDirectory(prefix="vireo-live-")
        os.environ["GRADIO_TEMP_DIR"] = self._uploads.name
        demo = self.blocks()
        import gradio as gr
        from starlette.middleware import Middleware

        plain = ["system-ui", "sans-serif"]
        _, url, _ = demo.launch(
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            mcp_server=False,
            footer_links=[],
            max_file_size=f"{self.limits.megabytes}mb",
            allowed_paths=[str(self.example)] if self.example else [],
            theme=gr.themes.Default(font=plain, font_mono=["ui-monospace", "monospace"]),
            css=CSS,
            app_kwargs={"middleware": [Middleware(CSPMiddleware)]},
        )
        log.info("%s: %s (Ctrl-C ends it)", self.title, url)
        if block:
            demo.block_thread()
        return demo, url
