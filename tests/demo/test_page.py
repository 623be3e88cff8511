"""The live page: what it draws, its limits, and the page itself in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import duet
from vireo.demo import page
from vireo.demo.live import Limits
from vireo.errors import VireoError
from vireo.models import mmduet
from vireo.models.mmduet.chat import ChatTokenizer, Settings
from vireo.toy import mmduet as world

TINY = duet.tiny(positions=1500)
# Below every score: an answer at each frame.
SETTINGS = Settings(fps=2.0, prob=0.0, system_text="Watch.", max_new_tokens=3)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "clip.mp4"
    world.example(path)
    return path


@pytest.fixture(scope="module")
def made(clip: Path) -> page.Page:
    module = mmduet.build(TINY, torch.Generator().manual_seed(0))
    model = mmduet.Model(module, ChatTokenizer.of_bytes())
    return page.Page(model, 32, SETTINGS, clip)


def test_a_reading_pauses_takes_questions_and_ends(made: page.Page, clip: Path) -> None:
    made.ask("a", "  before\n the start ")
    settings = made.wanted("sum of scores", 0.9, ["informative"], True, 2.0)
    viewer = made.start("a", str(clip), settings)
    assert made.visitors.of("b").viewer is None
    reading = viewer.play(0.0)
    next(reading)
    assert viewer.chat[0] == {"role": "user", "content": "before the start", "time": 0}
    next(reading)
    assert [t["role"] for t in viewer.chat] == ["user", "assistant"]  # 2 x 0.5 > 0.9
    viewer.pause()
    assert viewer.state == "paused" and page.status(viewer).startswith("Paused")
    viewer.pause()
    made.ask("a", "And now?")
    assert viewer.turns()[-1] == {"role": "user", "content": "And now?", "time": None}
    next(reading)
    assert {"role": "user", "content": "And now?", "time": 4.0} in viewer.turns()
    drawn = page.plot(viewer)
    assert drawn.count("data-answer") == 1 and drawn.count("data-line") == 3
    points = re.search(r'data-line="sum" points="([^"]*)"', drawn)
    assert points and len(points[1].split()) == 3
    assert "4.0 s of" in page.screen(viewer) and "data:image/jpeg" in page.screen(viewer)
    again = made.start("a", str(clip), settings)
    assert viewer.state == "stopped" and again.state == "playing"
    assert list(reading) == []
    made.visitors.gone("a")
    assert again.state == "stopped" and list(again.play(0.0)) == []


def test_texts_from_the_model_are_escaped(made: page.Page, clip: Path) -> None:
    viewer = made.start(
        "c", str(clip), made.wanted("score of one frame", 2, ["relevance"], True, 5)
    )
    next(viewer.play(0.0))
    turn = {"role": "assistant", "content": "<img src=x onerror=alert(1)>", "time": 0.0}
    viewer.session.outcome.answered.append(turn)
    assert "<img" not in page.plot(viewer)


def test_limits(made: page.Page, clip: Path, tmp_path: Path) -> None:
    one = made.wanted("score of one frame", 0.5, ["informative"], True, 1.0)
    short = page.Page(made.model, 32, SETTINGS, limits=Limits(seconds=2))
    with pytest.raises(VireoError, match="at most 2 s"):
        short.start("a", str(clip), one)
    few = page.Page(made.model, 32, SETTINGS, limits=Limits(frames=3))
    viewer = few.start("a", str(clip), one)
    assert len(list(viewer.play(0.0))) == 3 and "first 3 frames" in page.status(viewer)
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    with pytest.raises(VireoError):
        made.start("a", str(tmp_path / "no.mp4"), one)
    with pytest.raises(VireoError, match="choose a video"):
        made.start("a", None, one)
    with pytest.raises(VireoError, match="at least one score"):
        made.wanted("sum of scores", 1, [], True, 1.0)
    assert len(made.ask("d", "x" * 9999)[0]["content"]) == 500


def test_a_full_memory_ends_the_reading_and_says_so(made: page.Page, clip: Path) -> None:
    settings = Settings(fps=10.0, system_text="w" * 1400)
    viewer = made.start("e", str(clip), settings)
    assert 0 < len(list(viewer.play(0.0))) < len(viewer.video.seen)
    assert viewer.state == "over" and "1500 positions" in page.status(viewer)


@pytest.fixture
def served(made: page.Page) -> Iterator[str]:
    pytest.importorskip("gradio")
    demo, url = made.serve(block=False)
    yield url
    demo.close()


@pytest.mark.browser
def test_in_a_browser(browser: Any, made: page.Page, clip: Path, served: str) -> None:
    """Upload, start, see a reply, ask, see the answer, stop; nobody else is asked for anything."""
    requests: list[str] = []
    problems: list[str] = []
    view = browser.new_page()
    view.set_default_timeout(15_000)
    view.on("request", lambda request: requests.append(request.url))
    view.on("pageerror", lambda error: problems.append(str(error)))
    view.goto(served)
    view.locator("#video input[type=file]").set_input_files(str(clip))
    view.locator("#video").get_by_text("clip").first.wait_for()
    view.locator("#start").click()
    chat = view.locator("#chat")
    chat.get_by_text(re.compile(r"\[0\.\d s\]")).first.wait_for()
    view.locator("#screen img").wait_for()
    first = points(view)
    question = view.locator("#question textarea")
    question.fill("And now?")
    question.press("Enter")
    turn = chat.get_by_text(re.compile(r"\[\d+\.\d s\] And now\?"))
    turn.wait_for()
    asked = float(re.findall(r"\[([\d.]+) s\]", turn.inner_text())[0])
    chat.get_by_text(re.compile(rf"\[{asked + 0.5:.1f} s\]")).first.wait_for()
    assert points(view) > first
    view.locator("#stop").click()
    view.locator("#status").get_by_text("Stopped.").wait_for()
    view.close()
    away = [url for url in requests if not url.startswith((served, "data:", "blob:"))]
    assert not away and not problems


def points(view: Any) -> int:
    """Frames in the plot."""
    line = view.locator('#plot polyline[data-line="informative"]')
    return len(line.get_attribute("points").split())
