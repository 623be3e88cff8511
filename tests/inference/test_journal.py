"""The journal: nothing flushed is lost, nothing truncated is believed, in any order of files."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vireo.errors import VireoError
from vireo.inference import journal as J

KEY = {"family": "fake", "benchmark": "toy", "dtype": "float32", "arch": {"width": 8}}
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def row(id: str, status: str = "ok", scores=(1.0,), view: int = 0, **more):
    values = np.asarray(scores, np.float32)
    return {"id": id, "view": view, "status": status, "scores": values, **more}


def write(folder, rows, key=KEY):
    with J.Journal(folder, key) as journal:
        journal.append(rows)
    return journal


def test_key_name_is_readable_and_follows_content_only():
    name = J.key_name(KEY)
    assert name.startswith("fake.toy.float32.")
    assert name == J.key_name(dict(reversed(KEY.items())))
    assert name != J.key_name({**KEY, "arch": {"width": 9}})
    assert "shuffled_videos" in J.key_name({**KEY, "control": "shuffled_videos"})


def test_header_describes_the_key(tmp_path):
    journal = write(tmp_path, [row("a")])
    head = J.header(journal.path)
    assert head["key"] == KEY and head["pid"] == os.getpid()
    assert J.header(__file__) is None


def test_nothing_is_written_for_nothing(tmp_path):
    write(tmp_path, [])
    assert list(tmp_path.rglob("*")) == []


@given(st.lists(floats32, max_size=20), st.text(), st.text())
def test_scores_and_text_return_exactly(tmp_path_factory, scores, id, error):
    folder = tmp_path_factory.mktemp("j")
    journal = write(folder, [row(id, scores=scores, error=error, flags=[], frames=[1, 2])])
    ((found,),) = journal.read().values()
    assert found["id"] == id and found["error"] == error
    assert found["scores"].tobytes() == np.asarray(scores, np.float32).tobytes()


ids = st.text() | st.sampled_from(['x"', '"id":"b"', "\\", '","id":"a', "a", "b", "é", "\n"])


@given(st.lists(ids, unique=True, max_size=8), st.data())
def test_asking_for_some_items_finds_all_of_these_and_no_others(tmp_path_factory, names, data):
    rows = [row(n, error=data.draw(ids), group=data.draw(ids), flags=[n]) for n in names]
    journal = write(tmp_path_factory.mktemp("j"), rows)
    asked = set(data.draw(st.lists(ids)))
    every, some = journal.read(), journal.read(asked.__contains__)
    assert sorted(some) == sorted(key for key in every if key[0] in asked)
    assert journal.statuses(asked) == {id: {"ok"} for id, _ in some}


@settings(max_examples=150)
@given(st.data())
def test_damage_costs_only_the_lines_it_touches(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("j")
    journal = write(folder, [row(f"i{k}", scores=[k, k / 3]) for k in range(6)])
    good = journal.path.read_bytes()
    kind = data.draw(st.sampled_from(["cut", "insert", "overwrite", "nul"]))
    at = data.draw(st.integers(0, len(good)))
    junk = data.draw(st.binary(min_size=1, max_size=60))
    n = min(len(junk), len(good) - at)
    bad = {
        "cut": good[:at],
        "insert": good[:at] + junk + good[at:],
        "overwrite": good[:at] + junk[:n] + good[at + n :],
        "nul": good[:at] + b"\0" * n + good[at + n :],
    }[kind]
    journal.path.write_bytes(bad)
    found = {key[0]: rows for key, rows in journal.read().items()}
    intact = {line for line in good.split(b"\n") if line in set(bad.split(b"\n"))}
    for k in range(6):
        line = next(x for x in good.split(b"\n") if b'"id":"i%d"' % k in x)
        assert (f"i{k}" in found) == (line in intact)
    for id, rows in found.items():
        k = int(id[1:])
        assert [r["scores"].tolist() for r in rows] == [np.float32([k, k / 3]).tolist()]


@given(st.binary(max_size=300))
def test_garbage_is_no_journal(tmp_path_factory, junk):
    path = tmp_path_factory.mktemp("j") / "x.jsonl"
    path.write_bytes(junk)
    assert list(J.rows_of(path)) == [] and J.header(path) is None


def test_valid_json_that_is_not_ours_is_passed_over(tmp_path):
    journal = write(tmp_path, [row("a")])
    with open(journal.path, "a") as handle:
        handle.write(json.dumps(row("b", scores=()) | {"scores": []}) + "\n")
        handle.write("[]\n" + "[" * 100_000 + "\n")
    assert set(journal.read()) == {("a", 0)}


@given(st.integers(0, 2**31))
def test_duplicates_resolve_alike_in_any_order_and_split(tmp_path_factory, seed):
    rng = random.Random(seed)
    source = (10, 5)
    rows = [
        row(
            f"v{rng.randrange(3)}",
            rng.choice(list(J.RANK)),
            [rng.random()],
            source=rng.choice([[10, 5], [10, 6], [11, 5], None]),
        )
        for _ in range(12)
    ]

    def text(row) -> str:
        return json.dumps(row, sort_keys=True, default=lambda array: array.tolist())

    answers = []
    for _ in range(2):
        rng.shuffle(rows)
        folder = tmp_path_factory.mktemp("j")
        cut = rng.randrange(13)
        write(folder, rows[:cut])
        journal = write(folder, rows[cut:])
        answers.append({k: text(J.resolve(r, source)) for k, r in journal.read().items()})
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "status,flags,then,now,final",
    [
        ("ok", [], (10, 5), (10, 5), True),
        ("ok", [], (10, 5), (10, 6), False),  # touched, copied or repaired: see may_hold
        ("ok", [], (10, 5), (11, 5), False),  # another file
        ("ok", [], (10, 5), None, True),  # gone since
        ("ok", ["damaged"], (10, 5), (10, 6), False),  # repaired in place
        ("ok", ["damaged"], (10, 5), (10, 5), True),
        ("undecodable", [], (10, 5), (10, 5), True),
        ("undecodable", [], (10, 5), (10, 6), False),
        ("undecodable", [], (10, 5), None, False),
        ("error", [], (10, 5), (10, 5), False),
        ("missing", [], None, None, False),
    ],
)
def test_what_is_final(status, flags, then, now, final):
    assert J.is_final(row("a", status, flags=flags, source=then and list(then)), now) is final


@pytest.mark.parametrize(
    "then,now,more,holds",
    [
        ((10, 5), (10, 6), {}, True),
        ((10, 5), (10, 5), {}, False),  # final
        ((10, 5), (11, 6), {}, False),
        ((10, 5), None, {}, False),
        (None, (10, 6), {}, False),
        ((10, 5), (10, 6), {"pixels": None}, False),  # of an earlier version
        ((10, 5), (10, 6), {"flags": ["damaged"]}, False),
        ((10, 5), (10, 6), {"status": "undecodable"}, False),
    ],
)
def test_what_may_hold_for_a_file_with_a_new_time(then, now, more, holds):
    values = {"source": then and list(then), "pixels": "abc", "status": "ok", **more}
    assert J.may_hold(row("a", **values), now) is holds


def test_of_several_copies_of_an_absent_video_the_newest_file_counts():
    rows = [
        row("a", scores=[1], source=[10, 5], path="old/a.mp4"),
        row("a", scores=[3], source=[10, 7], path="new/a.mp4"),
        row("a", scores=[2], source=[99, 6], path="mid/a.mp4"),
        row("a", scores=[0]),
    ]
    for _ in range(4):
        rows = rows[1:] + rows[:1]
        assert J.resolve(rows, None)["path"] == "new/a.mp4"
        assert J.resolve(rows, (10, 5))["path"] == "old/a.mp4"  # the present one
        assert J.resolve(rows, (10, 9)) is None


def test_ok_beats_others_and_the_present_file_beats_an_older_one():
    rows = [
        row("a", "undecodable", [], source=[10, 5]),
        row("a", "ok", [1], source=[10, 6]),
        row("a", "ok", [2], source=[10, 5]),
        row("a", "error", [], source=[10, 5]),
    ]
    assert J.resolve(rows, (10, 5))["scores"].tolist() == [2]
    assert J.resolve(rows[3:], (10, 5)) is None


def test_full_disk_is_a_clear_error(tmp_path, monkeypatch):
    journal = J.Journal(tmp_path, KEY)
    journal.append([row("a")])

    def full(fd, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(VireoError, match=r"jsonl: No space left.*stays valid"):
        journal.append([row("b")])


WRITER = """
import sys, itertools, numpy as np
from vireo.inference.journal import Journal
journal = Journal(sys.argv[1], {"family": "x"})
for k in itertools.count():
    journal.append([{"id": f"{k}.{i}", "view": 0, "status": "ok",
                     "scores": np.full(500, k, np.float32)} for i in range(3)])
    print(k, flush=True)
"""


def test_two_writers_killed_lose_nothing_they_flushed(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    time.sleep(0.3)
    last = []
    for writer in writers:
        for _ in range(20):
            line = writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        last.append(int(line))
        writer.stdout.close()
        writer.wait()
    found = J.Journal(tmp_path, {"family": "x"}).read()
    for k in range(max(last) + 1):
        for i in range(3):
            assert all(r["scores"].tolist() == [k] * 500 for r in found[f"{k}.{i}", 0])
