"""The shipped configuration, block by block, is what it was before it was typed and tabulated.

`resolved.json.xz`: the resolved configuration of commit fbfad5a. Who changes a block on purpose
writes the new one there: `python tests/config/test_snapshot.py BLOCK…` (`models.viclip`).
"""

import json
import lzma
import sys
from pathlib import Path

import pytest

from vireo import config as cfg

SNAPSHOT = Path(__file__).resolve().parents[1] / "golden/config/resolved.json.xz"
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
    changed = [name for name in before if json.dumps(before[name], sort_keys=True)
               != json.dumps(now[name], sort_keys=True)]  # fmt: skip
    assert not changed


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
