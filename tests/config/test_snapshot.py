"""The shipped configuration, block by block, is what it was before it was typed and tabulated.

`resolved.json.xz`: the resolved configuration of commit fbfad5a. Who changes a block on purpose
writes the new one there: `python -m tests.config.test_snapshot BLOCK…` (`models.viclip`). Texts for
people may change freely, but for those of VideoMamba, which are made from a table.
"""

import json
import lzma
import sys
from pathlib import Path

import pytest

from vireo import config as cfg
from vireo.config import videomamba
from vireo.errors import VireoError

SNAPSHOT = Path(__file__).resolve().parents[1] / "golden/config/resolved.json.xz"
TEXTS = ("title", "note", "by_hand", "licence", "homepage")
SECTIONS = ("models", "benchmarks", "recipes", "artifacts")


def snapshot() -> dict:
    return json.loads(lzma.decompress(SNAPSHOT.read_bytes()))


def resolved() -> dict:
    return json.loads(cfg.write_resolved(cfg.load([], {}), "cache").read_text())


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[dict, dict]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("resolved"))
        patch.delenv("VIREO_CONFIG", raising=False)
        return snapshot(), resolved()


@pytest.mark.parametrize("section", SECTIONS)
def test_every_block_resolves_to_what_it_was(section, both) -> None:
    before, now = (each[section] for each in both)
    assert not before.keys() - now.keys()
    # As text: 1 and 1.0 are equal but hash differently.
    assert {name: text(name, block) for name, block in before.items()} == {
        name: text(name, now[name]) for name in before
    }


def text(name: str, block: dict) -> str:
    tabulated = name.startswith("videomamba_")
    kept = {key: value for key, value in block.items() if tabulated or key not in TEXTS}
    return json.dumps(kept, sort_keys=True)


def test_the_table_makes_every_videomamba_block(both) -> None:
    made = videomamba.read(cfg.HOME / "config/videomamba.tsv")
    for section, count in (("models", 76), ("recipes", 68), ("artifacts", 60)):
        named = {name for name in both[0][section] if name.startswith("videomamba_")}
        assert set(made[section]) == named and len(named) == count


@pytest.mark.parametrize(("old", "new"), [("\tk400\t", "\tk401\t"), ("\t28600000\t", "\t2x\t"),
                                          ("t\tin1k", "x\tin1k")])  # fmt: skip
def test_a_wrong_row_is_named(old, new, tmp_path) -> None:
    table = (cfg.HOME / "config/videomamba.tsv").read_text()
    file = tmp_path / "table.tsv"
    file.write_text(table.replace(old, new, 1))
    line = table[: table.index(old)].count("\n") + 1
    with pytest.raises(VireoError, match=rf"table.tsv, line {line}: "):
        videomamba.read(file)


def test_general_settings_keep_their_defaults(both) -> None:
    before, now = both
    for key, value in before.items():
        if key not in SECTIONS:
            assert json.dumps(now[key], sort_keys=True) == json.dumps(value, sort_keys=True), key


def update(blocks: list[str]) -> None:
    """Write the present form of `section.name` blocks into the snapshot."""
    kept, now = snapshot(), resolved()
    for block in blocks:
        section, _, name = block.partition(".")
        kept[section][name] = now[section][name]
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    SNAPSHOT.write_bytes(lzma.compress(text.encode(), preset=9))


if __name__ == "__main__":
    update(sys.argv[1:])
