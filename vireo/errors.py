"""One family of errors that people are meant to read: what is wrong, where, and what fixes it."""

import difflib
from collections.abc import Iterable


class VireoError(Exception):
    """A problem the user can fix; scripts print its text without a traceback and exit with 1."""


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> VireoError:
    """Build "unknown model 'vicilp'; did you mean 'viclip'?" with the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    guess = f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    listing = f". Known: {', '.join(names)}." if names and not close else ""
    return VireoError(f"unknown {kind} {name!r}{guess}{listing}{' ' + hint if hint else ''}")
