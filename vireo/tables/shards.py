"""How work is divided: by group (the video), so that questions on one video share its decode.

Shards are named as the rules name them: 1-of-4 … 4-of-4.
"""

import re
from collections.abc import Iterable

from vireo.errors import VireoError


def shard_of(groups: Iterable[str], i: int, n: int) -> list[str]:
    """Groups of shard `i` of `n`: of the sorted distinct groups, every n-th from the i-th on."""
    if not 1 <= i <= n:
        raise VireoError(f"shard {i}-of-{n} does not exist: numbers go from 1 to {n}")
    return sorted(set(groups))[i - 1 :: n]


def parse(text: str) -> tuple[int, int]:
    """ "2-of-8" -> (2, 8); shards are numbered from 1."""
    match = re.fullmatch(r"(\d+)-of-(\d+)", text)
    if not match:
        raise VireoError(f"shard {text!r}: write i-of-n, for example 1-of-4")
    i, n = int(match[1]), int(match[2])
    shard_of([], i, n)
    return i, n
