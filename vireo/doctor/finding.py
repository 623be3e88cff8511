"""One line of the doctor, and how lines are printed."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass
class Finding:
    """One line of the doctor; `more` is printed below it."""

    kind: str
    what: str
    more: str = ""


def lines(findings: Iterable[Finding]) -> list[str]:
    """Lines for a terminal, each finding once; what is to be done by hand comes last."""
    out: list[str] = []
    seen: set[tuple[str, str]] = set()
    for kind in ("here", "comes", "note", "problem", "by hand"):
        for finding in findings:
            if finding.kind == kind and (kind, finding.what) not in seen:
                seen.add((kind, finding.what))
                out.append(f"  {kind:<8} {finding.what}")
                out += [f"             {line}" for line in finding.more.splitlines()]
    return out
