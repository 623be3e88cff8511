"""How the videos of a split are dealt out to jobs. Questions on one video stay together."""

import re
from collections.abc import Iterable

from vireo.errors import VireoError


def parse(shard: str) -> tuple[int, int]:
    """ "2-of-8" -> (2, 8); VireoError unless 1 <= 2 <= 8."""
    match = re.fullmatch(r"(\d+)-of-(\d+)", shard)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise VireoError(f"shard {shard!r}: write i-of-n with 1 <= i <= n, for example 1-of-4")
    return int(match[1]), int(match[2])


def shard_of(groups: Iterable[str], shard: str) -> set[str]:
    """The groups of one shard: all different ones sorted, every n-th from the i-th on."""
    index, count = parse(shard)
    return set(sorted(set(groups))[index - 1 :: count])
