"""Made-up runs through the real benchmark and result code, with frames as pictures on disk."""

import json
import os
import random
import time
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vireo import config as cfg
from vireo.benchmarks import videomme
from vireo.results import assemble, provenance, published
from vireo.tables import items as item_table
from vireo.tables import predictions
from vireo.utils.files import write_json

VOID = {"meta", "link", "img", "br", "input", "hr", "path", "use"}
HOSTILE = "<script>alert('no')</script> & what $x_1$ does the dog do?"


class Outline(HTMLParser):
    """Counts tags, collects ids and links, and checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.count, self.ids, self.links, self.open, self.bad = {}, [], [], [], []
        self.tables = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        self.count[tag] = self.count.get(tag, 0) + 1
        self.ids += [facts["id"]] if "id" in facts else []
        self.links += [facts[k] for k in ("href", "src", "xlink:href") if k in facts]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append({"caption": 0, "scopes": 0, "th": 0})
        if self.tables and tag == "caption":
            self.tables[-1]["caption"] += 1
        if self.tables and tag == "th":
            self.tables[-1]["th"] += 1
            self.tables[-1]["scopes"] += "scope" in facts

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.bad.append(tag)


def _items(videos: int) -> pd.DataFrame:
    rng = random.Random(0)
    domains, subs, tasks = (videomme.LABELS[k] for k in ("domain", "sub_category", "task_type"))
    rows = []
    for v in range(videos):
        duration = videomme.DURATIONS[v % 3]
        for q in range(3):
            meta = {
                "video_id": f"{v:03d}",
                "duration": duration,
                "domain": domains[v % len(domains)],
                "sub_category": subs[v % len(subs)],
                "task_type": rng.choice(tasks),
            }
            rows.append(
                {
                    "id": f"{v:03d}-{q + 1}",
                    "split": duration,
                    "video": f"clip{v:03d}",
                    "start": float("nan"),
                    "end": float("nan"),
                    "question": HOSTILE if v % 5 == 0 else f"What happens in part {q} of clip {v}?",
                    "options": [
                        "A. A dog jumps over a fence.",
                        "B. A red ball rolls to the left until it meets the blue square.",
                        "C. <b>Nothing</b> & no one.",
                        "D. All of the above.",
                    ],
                    "answer": rng.choice("ABCD"),
                    "group": f"clip{v:03d}",
                    "meta": json.dumps(meta),
                }
            )
    return pd.DataFrame(rows)


def _rows(items: pd.DataFrame, skill: float, seed: int) -> list[dict]:
    rng = random.Random(seed)
    rows = []
    for n, item in enumerate(items.itertuples()):
        broken = item.group in ("clip004", "clip007", "clip011")
        right = rng.random() < skill
        pick = "ABCD".index(item.answer) if right else rng.randrange(4)
        scores = [rng.uniform(18, 22) for _ in range(4)]
        scores[pick] = 22.5
        status, error = "ok", None
        if broken:
            status = {"clip004": "missing"}.get(item.group, "undecodable")
            error = f"cannot decode /data/{item.group}.mp4: moov atom not found"
        rows.append(
            {
                "id": item.id,
                "view": 0,
                "group": item.group,
                "status": status,
                "prediction": None if broken else json.dumps(item.options[pick]),
                "scores": None if broken else scores,
                "frames": None if broken else list(range(8)),
                "seconds": 0.1,
                "error": error,
                "flags": ["padded"] if n % 40 == 0 and not broken else [],
            }
        )
    return rows


def _pictures(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    base = rng.integers(60, 200, 3)
    for second in range(10):
        picture = np.zeros((72, 128, 3), np.uint8) + base.astype(np.uint8)
        picture[20:50, 8 * second : 8 * second + 30] = 255 - base
        name = f"c_mp4_frame_00:{second:02d}.jpg"
        Image.fromarray(picture).save(folder / name, quality=90)


def make_run(model: str, run: str, items: pd.DataFrame, config: dict, skill: float = 0.75) -> Path:
    name, splits = cfg.resolve_run(config, run)
    mine = items[items["split"].isin(splits)].reset_index(drop=True)
    block = {**cfg.benchmark(config, name), "model": model}
    out = Path("results") / model / f"{run}.json"

    def scored(strength: float, seed: int, file: Path) -> assemble.Run:
        predictions.write(file, _rows(mine, strength, seed))
        rows = assemble.complete(mine, predictions.read(file))
        return assemble.Run(config, model, run, mine, rows, videomme.score(mine, rows, block))

    main = scored(skill, 1, out.with_suffix("") / "predictions.parquet")
    controls = {
        c: scored(
            0.0 if c in ("shuffled_videos", "untrained") else skill / 2, 5 + i, Path(f"{c}.pq")
        )
        for i, c in enumerate(cfg.benchmark(config, name).get("controls", []))
    }
    facts = provenance.collect(
        config,
        weights=None,
        items=mine,
        videos=item_table.read_videos(f"cache/items/{name}.videos.parquet"),
        shards=[{"device": "cpu", "dtype": "float32", "seconds": 12.5}],
        started=time.time(),
    )
    numbers = published.read(cfg.HOME / "config/published.tsv") + published.inline(config)
    chosen = published.find(numbers, model, name, splits, headline=run == name)
    write_json(out, assemble.assemble(main, chosen, facts, controls, ["predictions.parquet"]))
    return out


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A working directory with two runs: (config, paths). The module's tests run in it."""
    folder, before = tmp_path_factory.mktemp("world"), os.getcwd()
    os.chdir(folder)
    config = cfg.load()
    items = _items(60)
    videos = []
    for v in range(60):
        frames = folder / f"data/clip{v:03d}/frames"
        _pictures(frames, v)
        videos.append((f"clip{v:03d}", str(frames), "jpegs", 1, 1, "found"))
    for name in ("videomme", "toy_videomme"):
        item_table.write(items, f"cache/items/{name}.parquet")
        inventory = pd.DataFrame(videos, columns=list(item_table.VIDEO_COLUMNS))
        item_table.write(inventory, f"cache/items/{name}.videos.parquet")
    recipe = config["models"]["toy_viclip"]["weights"]["recipe"]
    training = Path("results/training") / recipe
    training.mkdir(parents=True)
    steps = np.arange(300)
    loss = 4 * np.exp(-steps / 90) + 0.2 + 0.1 * np.random.default_rng(0).standard_normal(300)
    table = {"step": steps, "epoch": steps // 50, "lr": 1e-3 * (1 - steps / 300), "loss": loss}
    pd.DataFrame(table).to_csv(training / "metrics.csv", index=False)
    paths = [
        make_run("toy_viclip", "toy_videomme", items, config),
        make_run("viclip", "videomme", items, config, 0.1),
        make_run("viclip", "videomme_short", items, config, 0.1),
    ]
    yield config, paths
    os.chdir(before)


@contextmanager
def opened(browser, path: Path, width: int, scheme: str):
    """A page in a window: it fits, has the scheme's colour, needs nothing, and complains of nothing
    until the block ends."""
    view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    problems, requests = [], []
    view.on("console", lambda message: problems.append(message.text))
    view.on("pageerror", lambda error: problems.append(str(error)))
    view.on("request", lambda request: requests.append(request.url))
    view.goto(path.as_uri())
    assert not problems
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    colours = view.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colours == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]
    yield view
    assert not problems
    view.close()


def printed(browser, path: Path, width: int, height: int) -> int:
    """How wide a page becomes on paper, where all of it is open and nothing is there to fill in."""
    view = browser.new_page(viewport={"width": width, "height": height})
    view.goto(path.as_uri())
    view.emulate_media(media="print")
    view.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert view.evaluate("[...document.querySelectorAll('details')].every(d => d.open)")
    assert not view.locator("input[data-filter]").first.is_visible()
    found = view.evaluate("document.documentElement.scrollWidth")
    view.close()
    return found
