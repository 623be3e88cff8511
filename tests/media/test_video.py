"""Exact frame access on bar-coded clips: which frame came back, for every hazard of media.md 7."""

import io
from fractions import Fraction

import numpy as np
import pytest

from tests.media import clips
from vireo.media.video import Index, MissingVideo, UndecodableVideo, Video, read

OPEN_GOP = "keyint=20:min-keyint=20:scenecut=0:bframes=3:open-gop=1:b-adapt=0"
REFRESH = "keyint=20:intra-refresh=1:scenecut=0"
SMALL = {"width": 64, "height": 32}

SOUND = {
    "cfr.mp4": lambda p: clips.clip(p, 60),
    "long_gop.mp4": lambda p: clips.clip(p, 300, gop=250, bframes=3, **SMALL),
    "b_frames.mp4": lambda p: clips.clip(p, 60, bframes=3),
    "open_gop.mp4": lambda p: clips.clip(
        p, 90, bframes=3, gop=20, options={"x264-params": OPEN_GOP}
    ),
    "intra_refresh.mp4": lambda p: clips.clip(p, 90, gop=20, options={"x264-params": REFRESH}),
    "all_intra.mp4": lambda p: clips.clip(p, 40, gop=1),
    "vfr.mp4": lambda p: clips.vfr(p),
    "vfr.mkv": lambda p: clips.vfr(p),
    "ntsc.mp4": lambda p: clips.clip(p, 70, rate=Fraction(30000, 1001), bframes=2),
    "rotated.mp4": lambda p: clips.clip(p, 30, rotation=90, bframes=2),
    "upside_down.mp4": lambda p: clips.clip(p, 30, rotation=180),
    "one.mp4": lambda p: clips.clip(p, 1),
    "no_count.mkv": lambda p: clips.clip(p, 60, bframes=2, audio=True),
    "no_count.webm": lambda p: clips.clip(
        p, 60, codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}
    ),
    "vp8_hidden.webm": lambda p: clips.clip(
        p, 60, codec="libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16"}
    ),
    "odd.mp4": lambda p: clips.clip(p, 30, width=131, height=67, pix_fmt="yuv444p"),
    "ten_bit.mp4": lambda p: clips.clip(p, 30, pix_fmt="yuv420p10le"),
    "hevc.mp4": lambda p: clips.clip(
        p,
        60,
        codec="libx265",
        options={
            "preset": "ultrafast",
            "x265-params": "log-level=0:keyint=20:bframes=3:open-gop=1:pools=1:frame-threads=1",
        },
    ),
    "mpeg4.avi": lambda p: clips.clip(p, 60, codec="mpeg4"),
    "mpeg4_b.avi": lambda p: clips.clip(p, 60, codec="mpeg4", bframes=2),
    "h264_b.avi": lambda p: clips.clip(p, 60, bframes=2),
    "raw_stream.h264": lambda p: clips.clip(p, 60, bframes=2),
    "transport.ts": lambda p: clips.clip(p, 60, bframes=2),
    "with_sound.mp4": lambda p: clips.clip(p, 60, audio=True),
    "with_cover.mp4": lambda p: clips.with_cover(p),
    "avi_inside.mp4": lambda p: clips.clip(p, 30, codec="mpeg4", format="avi"),
    "mp4_inside.txt": lambda p: clips.clip(p, 30, format="mp4"),
    "häßlich 100% 'quoted' \"%03d\".mp4": lambda p: clips.clip(p, 30),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


def expect_exact(path, numbers=None):
    """Frames for N = 1, 8, 32, F, more than F, and singly, equal those of a sequential decode."""
    truth = clips.sequential(str(path))
    numbers = numbers or list(range(len(truth)))
    with Video(path) as video:
        index = video.index
        turns = index.rotation // 90
        truth = [np.rot90(t, turns) for t in truth]
        assert index.F == len(truth) == len(numbers)
        assert len(index.times) == index.F
        assert np.all(np.diff(index.times) > 0)
        for n in (1, 8, 32, index.F, index.F + 7):
            wanted = [int((i + 0.5) * index.F / n) for i in range(n)]
            got = video.read(wanted)
            assert got.flags == []
            assert got.used == wanted
            for i, picture in zip(wanted, got.frames, strict=True):
                assert clips.number(np.rot90(picture, -turns)) == numbers[i]
                assert np.array_equal(picture, truth[i])
        for i in list(range(0, index.F, 7))[::-1]:  # backwards, one at a time
            assert np.array_equal(video.read([i]).frames[0], truth[i])
    return index


@pytest.mark.parametrize("name", SOUND)
def test_exact(folder, name):
    expect_exact(SOUND[name](folder / name))


def test_order_and_repeats_are_the_callers(folder):
    path = clips.clip(folder / "order.mp4", 40, bframes=2)
    got = read(path, [30, 2, 2, 17], then=lambda picture: picture[::2])
    assert [clips.number(p) for p in got.frames] == [30, 2, 2, 17]
    assert got.frames[0].shape == (32, 128, 3)
    with pytest.raises(IndexError):
        read(path, [40])


def test_edit_list_hides_frames(folder):
    source = clips.clip(folder / "whole.mp4", 60, bframes=3)
    path = clips.cut(folder / "edit_list.mp4", source, 17)
    index = expect_exact(path, list(range(17, 60)))
    assert index.times[0] == 0


def test_splice_by_packet_copy(folder):
    parts = [
        clips.clip(folder / "part1.mp4", 50, bframes=2),
        clips.clip(folder / "part2.mp4", 45, first=50, bframes=2),
    ]
    expect_exact(clips.splice(folder / "splice.mp4", [*parts, *parts]), [*range(95), *range(95)])


def test_joined_transport_streams_start_their_clock_again(folder):
    one = clips.clip(folder / "one.ts", 30)
    two = clips.clip(folder / "two.ts", 30, first=30)
    joined = folder / "joined.ts"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    truth = [clips.number(f) for f in clips.sequential(str(joined))]
    with Video(joined) as video:
        assert len(truth) == video.index.F
        got = video.read(range(len(truth)))
    assert [clips.number(f) for f in got.frames] == truth


def test_size_changes_inside_a_stream(folder):
    small = clips.clip(folder / "small.ts", 20)
    large = clips.clip(folder / "large.ts", 20, first=20, width=256, height=128)
    joined = folder / "sizes.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    got = read(joined, [0, 10, 30])
    assert [p.shape[:2] for p in got.frames] == [(64, 128), (64, 128), (128, 256)]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "avi"])
def test_seeks_instead_of_decoding_everything(folder, ending):
    path = folder / f"seek.{ending}"
    clips.clip(path, 600, gop=20, bframes=0 if ending == "avi" else 2, **SMALL)
    with Video(path) as video:
        assert video.index.F == 600
        video.decoded = 0
        got = video.read([10, 15, 300, 599])
        assert [clips.number(p) for p in got.frames] == [10, 15, 300, 599]
        assert video.decoded <= 16 + 1 + 20 + 3 * 3
        video.decoded = 0
        video.read([5])
        assert video.decoded <= 8


def test_index_facts(folder):
    with Video(clips.vfr(folder / "facts.mp4")) as video:
        index = video.index
    assert (index.F, index.width, index.height, index.codec) == (90, 128, 64, "h264")
    assert index.fps == pytest.approx(90 / 8.0, rel=0.02)
    assert index.rate == 30
    assert index.duration == pytest.approx(8.0, rel=0.02)
    assert index.times[30] == pytest.approx(30 * 0.033, abs=1e-3)
    assert index.times[60] == pytest.approx(30 * 0.033 + 30 * 0.167, abs=1e-3)


def test_span_of_seconds():
    index = Index(5, 1.0, 1.0, np.array([0.0, 1.0, 2.0, 3.0, 4.0]), 1, 1, 5.0, "", True)
    nan = float("nan")
    assert index.span(None, None) == index.span(nan, nan) == (0, 5)
    assert index.span(1.0, 3.0) == (1, 3)
    assert index.span(1.5, 3.5) == (1, 4)  # the frame on screen at 1.5 s is number 1
    assert index.span(2.0, 2.0) == (2, 3)
    assert index.span(9.0, 12.0) == (4, 5)
    assert index.span(-3.0, 0.5) == (0, 1)


def test_video_in_memory(folder):
    data = clips.clip(folder / "memory.mp4", 30).read_bytes()
    assert [clips.number(p) for p in read(io.BytesIO(data), [3, 29]).frames] == [3, 29]


BROKEN = {
    "missing.mp4": (lambda p: None, "no video at"),
    "empty.mp4": (lambda p: p.write_bytes(b""), "empty"),
    "folder.mp4": (lambda p: p.mkdir(), "not a file"),
    "page.mp4": (lambda p: p.write_text("<!doctype html><title>404</title>" * 99), "cannot open"),
    "random.mp4": (lambda p: p.write_bytes(np.random.default_rng(0).bytes(9999)), "cannot open"),
    "playlist.mp4": (
        lambda p: p.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"),
        "cannot open|no video stream",
    ),
    "concat.mp4": (lambda p: p.write_text("ffconcat version 1.0\nfile other.mp4\n"), "cannot open"),
    "moov_last_cut.mp4": (
        lambda p: clips.truncate(p, clips.clip(p.with_suffix(".whole.mp4"), 60)),
        "cannot open",
    ),
    "sound_only.mp4": (clips.sound_only, "no video stream"),
    "wav.mp4": (clips.wav, "no video stream"),
    "no_track.mp4": (clips.empty_mp4, "no video stream"),
    "unknown_codec.mp4": (
        lambda p: p.write_bytes(clips.clip(p, 3).read_bytes().replace(b"avc1", b"zzzz")),
        "no decoder|cannot open|no video",
    ),
    "huge.avi": (clips.huge_header, "claims 16000x16000 pixels"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(folder, name):
    make, reason = BROKEN[name]
    make(folder / name)
    with (
        pytest.raises((MissingVideo, UndecodableVideo), match=reason) as caught,
        Video(folder / name) as video,
    ):
        video.read([0, video.index.F - 1])
    assert name in str(caught.value)


def test_picture_limit_counts_before_decoding(folder):
    path = clips.clip(folder / "limit.mp4", 3)
    with pytest.raises(UndecodableVideo, match="128x64"):
        Video(path, max_pixels=128 * 64 - 1)
    Video(path, max_pixels=128 * 64).close()


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_truncated_with_the_index_first(folder, name):
    flags = {"movflags": "faststart"} if name.endswith("mp4") else {}
    whole = clips.clip(folder / f"whole_{name}", 200, container=flags, bframes=2)
    path = clips.truncate(folder / name, whole)
    truth = clips.sequential(str(path))
    with Video(path) as video:
        count = video.index.F
        assert 20 < len(truth) <= count < 180
        assert count - len(truth) <= 3  # packets that are cut or lack their references
        got = video.read(range(count))
    for i, (picture, used) in enumerate(zip(got.frames, got.used, strict=True)):
        assert used == min(i, len(truth) - 1)
        assert np.array_equal(picture, truth[used])


def test_damaged_packets_cost_frames_not_the_video(folder):
    whole = clips.clip(
        folder / "undamaged.mp4", 250, container={"movflags": "faststart"}, gop=25, bframes=2
    )
    path = clips.damage(folder / "damaged.mp4", whole, 400)
    before, after = (np.frombuffer(p.read_bytes(), np.uint8) for p in (whole, path))
    changed = before != after
    with Video(path) as video:
        assert video.index.F == 250
        got = video.read(range(250))
    with Video(whole) as video:
        spots = [(p.pos, p.pos + p.size) for p in video.packets() if p.size]
    assert "damaged" in got.flags
    assert all(u <= i for i, u in enumerate(got.used))
    hit = {i // 25 for i, (a, b) in enumerate(spots) if changed[a:b].any()}
    assert 2 <= len(hit) <= 8
    for i, picture in enumerate(got.frames):  # groups of 25 that no change touches are whole
        assert i // 25 in hit or clips.number(picture) == i


def test_a_lost_frame_is_replaced_by_the_one_before(folder):
    """Zeroed packets: every frame from the damage to the next keyframe shows an earlier one."""
    path = clips.clip(folder / "zeroed.mp4", 40, gop=10)
    with Video(path) as video:
        spots = [(p.pos, p.size) for p in video.packets() if p.size]
    data = bytearray(path.read_bytes())
    for at in range(10, 20):  # the whole second group, its keyframe included
        pos, size = spots[at]
        data[pos : pos + size] = bytes(size)
    path.write_bytes(data)
    got = read(path, range(40))
    assert got.used == [*range(10), *[9] * 10, *range(20, 40)]
    assert [clips.number(p) for p in got.frames] == got.used
    assert set(got.flags) == {"substituted", "damaged"}
    single = read(path, [15])
    assert (single.used, clips.number(single.frames[0])) == ([9], 9)
