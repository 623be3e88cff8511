"""Per-rank files of VideoMamba's evaluation: the authors' numbers, and files that are broken."""

import json
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vireo.benchmarks import views
from vireo.errors import VireoError
from vireo.metrics import views as merging

GOLDEN = Path(__file__).parents[1] / "golden/videomamba_eval"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


def arguments(folder, ranks, regression=False, all_windows=False) -> Namespace:
    parser = ArgumentParser()
    views.add_arguments(parser)
    flags = {"--regression": regression, "--all_windows": all_windows}
    more = [flag for flag, given in flags.items() if given]
    return parser.parse_args(["--dir", str(folder), "--ranks", str(ranks), *more])


def numbers(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(\S+): (\S+)", text)}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_references_numbers(name) -> None:
    told = EXPECTED[name]
    text = views.evaluate(arguments(GOLDEN / name, told["num_ranks"], "mse" in told))
    found = numbers(text)
    assert found["videos"] == told["num_videos"]
    assert found["views"] == told["num_videos"] * told["segments"] * told["crops"]
    if "mse" in told:
        assert found["mse"] == pytest.approx(told["mse"], abs=1e-6)
    else:
        assert (found["top-1"], found["top-5"]) == (
            pytest.approx(told["top1"], abs=1e-4),
            pytest.approx(told["top5"], abs=1e-4),
        )


@pytest.mark.parametrize("name", [n for n in EXPECTED if "sliding" in n])
def test_all_windows(name) -> None:
    told = EXPECTED[name]
    found = numbers(views.evaluate(arguments(GOLDEN / name, told["num_ranks"], all_windows=True)))
    assert found["views"] == told["num_videos"] * 5 * told["segments"] * told["crops"]


def written(folder: Path, lines: list[str], ranks: int) -> Path:
    """The lines dealt out over ranks, filled up with the first ones, as the sampler does."""
    folder.mkdir(exist_ok=True)
    whole = lines + lines[: -len(lines) % ranks]
    for rank in range(ranks):
        (folder / f"{rank}.txt").write_text("\n".join(["head", *whole[rank::ranks], ""]))
    return folder


def made(count: int, windows: int, classes: int = 6) -> list[str]:
    """Lines of `count` videos with `windows` windows and 2 x 3 views each."""
    rng = np.random.default_rng(0)
    label = rng.integers(classes, size=count)
    return [
        f"v {v}.x {rng.normal(size=classes).tolist()} {label[v]} {chunk} {crop}"
        for chunk in range(2)
        for crop in range(3)
        for v in range(count)
        for _ in range(windows)
    ]


def test_all_windows_do_not_depend_on_the_number_of_ranks(tmp_path) -> None:
    lines = made(7, 4)
    found = {
        ranks: views.evaluate(
            arguments(written(tmp_path / str(ranks), lines, ranks), ranks, all_windows=True)
        )
        for ranks in (1, 2, 3, 5, 8)
    }
    assert len(set(found.values())) == 1 and "videos: 7\nviews: 168\n" in found[1]
    one = views.evaluate(arguments(tmp_path / "1", 1))
    five = views.evaluate(arguments(tmp_path / "5", 5))
    assert "views: 42" in one and one != five  # the first window met is another


def test_ids_with_blanks_dots_and_brackets(tmp_path) -> None:
    lines = ["a b.c [1.0, 2.0] 1 0 0", "a [x] b [2.0, 1.0] 1 0 0", "a [2.0, 1.0] 0 0 0"]
    found = views.merged(written(tmp_path, lines, 1), 1, False, False)
    assert list(found) == ["a b.c", "a [x] b", "a"]
    lines = ["a b 1.5 2.0 0 0", "a  b 1.5 2.0 0 0", "c 2 -1.0 0 0"]
    found = views.merged(written(tmp_path, lines, 1), 1, True, False)
    assert list(found) == ["a b", "a  b", "c"]


def test_videos_of_one_name(tmp_path, caplog) -> None:
    lines = ["a [1.0, 0.0] 0 0 0", "a [0.0, 3.0] 1 0 1"]
    text = views.evaluate(arguments(written(tmp_path, lines, 1), 1))
    assert "top-1: 100.0" in text and "'a'" in caplog.text
    with pytest.raises(VireoError, match="1 ids have several labels"):
        views.evaluate(arguments(tmp_path, 1, all_windows=True))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a [1.0, 2.0] 1 0", r"0.txt, line 3: not `id \[logits\] label"),
        ("a [1.0, 2.0", "not `id"),
        ("a [1.0, x] 1 0 0", "could not convert"),
        ("a [1.0, nan] 1 0 0", "not finite"),
        ("a [1.0, 2.0, 3.0] 1 0 0", "3 logits, 2 in the lines before"),
        ("a [1.0, 2.0] 2 0 0", "label '2' is none of 2 classes"),
        ("a 1.0 2.0 0 0", "--regression for numbers"),
        ("[1.0, 2.0] 1 0 0", "not `id"),
    ],
)
def test_broken_lines_are_named(tmp_path, line, message) -> None:
    with pytest.raises(VireoError, match=message):
        views.evaluate(arguments(written(tmp_path, ["b [1.0, 2.0] 1 0 0", line], 1), 1))


def test_broken_regression(tmp_path) -> None:
    for line, message in (
        ("a [1.0, 2.0] 1 0 0", "not `id prediction"),
        ("a 1.0 x 0 0", "could not convert"),
        ("a inf 1 0 0", "not finite"),
    ):
        with pytest.raises(VireoError, match=message):
            views.evaluate(arguments(written(tmp_path, [line], 1), 1, True))


def test_broken_folders(tmp_path) -> None:
    with pytest.raises(VireoError, match="is no folder"):
        views.evaluate(arguments(tmp_path / "none", 1))
    with pytest.raises(VireoError, match=r"0.txt is not there \(0 text files are\)"):
        views.evaluate(arguments(tmp_path, 1))
    with pytest.raises(VireoError, match="at least 1"):
        views.evaluate(arguments(tmp_path, 0))
    (tmp_path / "0.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(VireoError, match="no text file"):
        views.evaluate(arguments(tmp_path, 1))
    (tmp_path / "0.txt").write_text("head only\n")
    with pytest.raises(VireoError, match="no view in 1 files"):
        views.evaluate(arguments(tmp_path, 1))


@given(st.binary(max_size=200) | st.text("a [].,-0123456789e\n", max_size=120), st.booleans())
def test_any_file_gives_numbers_or_a_clear_error(tmp_path_factory, data, regression) -> None:
    folder = tmp_path_factory.mktemp("ranks")
    content = data if isinstance(data, bytes) else data.encode()
    (folder / "0.txt").write_bytes(b"head\n" + content)
    try:
        text = views.evaluate(arguments(folder, 1, regression))
    except VireoError as error:
        assert str(folder) in str(error)
    else:
        assert ("mse" if regression else "top-1") in numbers(text)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 8))
def test_padding_of_the_sampler_changes_nothing(tmp_path_factory, count, windows, ranks) -> None:
    lines = made(count, windows)
    one = written(tmp_path_factory.mktemp("one"), lines, 1)
    many = written(tmp_path_factory.mktemp("many"), lines, ranks)
    every = [
        merging.gather(views.read(folder, n), all_windows=True)
        for folder, n in ((one, 1), (many, ranks))
    ]
    assert {id: len(v.views) for id, v in every[0].items()} == dict.fromkeys(every[0], 6 * windows)
    for id, video in every[0].items():
        np.testing.assert_allclose(
            merging.merge(video.views), merging.merge(every[1][id].views), rtol=1e-5
        )


def test_command_line(vireo) -> None:
    done = vireo(
        "evaluate", "views", "--dir", GOLDEN / "reg_4x3_2ranks", "--ranks", 2, "--regression"
    )
    assert done.returncode == 0 and done.stdout.endswith("mse: 0.039924\n"), done.stderr
