"""One line of the doctor."""

from dataclasses import dataclass


@dataclass
class Finding:
    """One line of the doctor; `more` is printed below it."""

    kind: str
    what: str
    more: str = ""
