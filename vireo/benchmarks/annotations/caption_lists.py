"""Lists of captions as they are published -> (place, video, captions), for retrieval.

Recognised by content, not by name: ViCLIP's JSON (`video`, `caption`), MSR-VTT's CSV (`video_id`,
`sentence`), JSON or JSON lines (`clip_name`, `caption` or `sentence`) and `MSRVTT_data.json`,
DiDeMo's `test_data.json` (`video`, `description`), ActivityNet Captions' `val_1.json` and
`val_2.json` (video -> `timestamps`, `sentences`), LSMDC's lines (name, four times, sentence, with
tabs) and MSVD's `AllVideoDescriptions.txt` with `test_list.txt`. CSV may have commas, semicolons or
tabs.

One row of each form (values invented):

    {"video": "video7010.mp4", "caption": ["a man cooks", "someone fries an egg"]}
    video7010,a man cooks
    {"clip_name": "video7010", "caption": "a man cooks", "sen_id": 7, "retrieval_key": "ret0"}
    {"video": "98@N00_31.avi", "description": "a dog runs", "times": [[0, 0]], "num_segments": 6}
    {"v_a1": {"duration": 9.5, "timestamps": [[0, 4.5]], "sentences": ["A man cooks."]}}
    0001_Film_00.00.01.000-00.00.03.500<TAB>00.00.01.000<TAB>…<TAB>SOMEONE cooks.
    mv89psg6zh4_33_46 a bird is bathing
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vireo.benchmarks.annotations import lists, user_files
from vireo.errors import VireoError

Entry = tuple[str, str, list[str]]  # place for messages, video, captions
VIDEO_KEYS = ("video", "clip_name", "video_id", "clip_id")
TEXT_KEYS = ("caption", "sentence", "description", "captions")
MSVD_LINE = re.compile(r"(\S+_\d+_\d+)\s+(\S.*)")
TEST_LISTS = ("test_list.txt", "*test*list*.txt", "*test*.txt")


def entries(path: Path) -> list[Entry]:
    """Every entry of a list in its order; VireoError names what is wrong with which entry."""
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise VireoError(
            f"{path} is a pickle, which may run code when it is read; take "
            "AllVideoDescriptions.txt and test_list.txt of MSVD, or a JSON list"
        )
    content = user_files.text(path)
    start = content.lstrip()[:1]
    if start in ("[", "{"):
        return _json(path)
    lines = [line for line in content.splitlines() if line.strip() and line[0] != "#"]
    if not lines:
        raise VireoError(f"{path}: no entries")
    cells = lines[0].split("\t")
    if len(cells) >= 6 and re.fullmatch(r"[\d.:]+", cells[1].strip()):
        return _lsmdc(path)
    if MSVD_LINE.fullmatch(lines[0].strip()) and not {",", ";"} & set(lines[0].split()[0]):
        return _msvd(path)
    head = {name.strip() for name in re.split("[,;\t]", lines[0])}
    for video in VIDEO_KEYS[::-1]:
        for text in TEXT_KEYS[:3]:
            if {video, text} <= head:
                rows = user_files.csv_rows(path, (video, text))
                return [(where, row[video], [row[text]]) for where, row in rows]
    raise VireoError(
        f"{path}: needs the columns video_id and sentence, or one of the lists that docs/data.md "
        "names for this benchmark"
    )


def _json(path: Path) -> list[Entry]:
    value = user_files.json_or_lines(path)
    if isinstance(value, dict) and {"videos", "sentences"} <= value.keys():
        return _msrvtt(value, path)
    if isinstance(value, dict) and value.keys() & set(VIDEO_KEYS):
        value = [value]  # one object a line, and only one line
    if isinstance(value, dict):
        return [_by_video(video, entry, path) for video, entry in value.items()]
    if not isinstance(value, list):
        raise VireoError(f'{path} is not a list of {{"video": ..., "caption": ...}}')
    return [_entry(entry, f"{path}, entry {number}") for number, entry in enumerate(value)]


def _entry(entry: Any, where: str) -> Entry:
    found = entry if isinstance(entry, dict) else {}
    video = next((found[key] for key in VIDEO_KEYS if key in found), None)
    given = next((found[key] for key in TEXT_KEYS if key in found), None)
    if not isinstance(video, str):
        raise VireoError(f"{where}: `video` must be a file name")
    return where, video, _texts(given, where)


def _texts(given: Any, where: str) -> list[str]:
    captions = [given] if isinstance(given, str) else given
    good = isinstance(captions, list) and captions
    if not good or not all(isinstance(text, str) for text in captions):
        raise VireoError(f"{where}: `caption` must be a text or a list of texts")
    return [str(text) for text in captions]


def _by_video(video: str, entry: Any, path: Path) -> Entry:
    """ActivityNet Captions: sentences of one video; also plain `video: captions`."""
    where = f"{path}, video {video!r}"
    sentences = entry.get("sentences") if isinstance(entry, dict) else entry
    return where, video, [text.strip() for text in _texts(sentences, where)]


def _msrvtt(value: dict[str, Any], path: Path) -> list[Entry]:
    """The test split of MSRVTT_data.json: 2,990 videos with 20 captions, not the 1k-A list."""
    try:
        test = [v["video_id"] for v in value["videos"] if v["split"] == "test"]
        texts: dict[str, list[str]] = {video: [] for video in test}
        for one in value["sentences"]:
            if one["video_id"] in texts:
                texts[one["video_id"]].append(one["caption"])
    except (KeyError, TypeError) as error:
        raise VireoError(f"{path}: needs videos and sentences of MSR-VTT ({error!r})") from error
    return [(f"{path}, video {video!r}", video, _texts(t, f"{path}, video {video!r}"))
            for video, t in texts.items()]  # fmt: skip


def _lsmdc(path: Path) -> list[Entry]:
    found = []
    for number, line in enumerate(user_files.text(path).splitlines(), 1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) < 6 or not cells[0] or not cells[-1]:
            raise VireoError(f"{path}, line {number}: not name, four times and sentence with tabs")
        found.append((f"{path}, line {number}", cells[0], [cells[-1]]))
    return found


def _msvd(path: Path) -> list[Entry]:
    """Captions of the clips of the test list, in its order."""
    texts: dict[str, list[str]] = {}
    for number, line in enumerate(user_files.text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = MSVD_LINE.fullmatch(line.strip())
        if match is None:
            raise VireoError(f"{path}, line {number}: not `clip sentence`")
        texts.setdefault(match[1], []).append(match[2])
    listed = lists.companion(path, TEST_LISTS)
    if listed is None:
        raise VireoError(
            f"{path}: no test_list.txt next to it (the names of the test clips, one a line); it "
            "holds the captions of all splits"
        )
    names = [line.strip() for line in user_files.text(listed).splitlines() if line.strip()]
    return [_of_list(name, texts, path, listed) for name in _stems(names)]


def _stems(names: Iterable[str]) -> list[str]:
    return [re.sub(r"\.(avi|mp4)$", "", name, flags=re.I) for name in names]


def _of_list(name: str, texts: dict[str, list[str]], path: Path, listed: Path) -> Entry:
    if name not in texts:
        raise VireoError(f"{listed}: clip {name!r} has no caption in {path}")
    return f"{listed}, clip {name!r}", name, texts[name]
