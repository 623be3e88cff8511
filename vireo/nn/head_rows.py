"""A classifier head's rows joined to class names, never by position when there are names."""

from difflib import get_close_matches

from vireo.errors import VireoError
from vireo.nn.text_clean import normalise_label
from vireo.utils.cli import log


def rows_of(names: list[str], labels: list[str] | None) -> list[int]:
    """Row of the head for every class name; VireoError lists names that the head does not have.

    A head without names has as many rows as there are classes, in their order.
    """
    if labels is None:
        log.warning("the head has no class names: its rows are taken in the order of the classes")
        return list(range(len(names)))
    row = {normalise_label(label): number for number, label in enumerate(labels)}
    if len(row) != len(labels):
        raise VireoError("two rows of the head have the same class name")
    lacking = [name for name in names if normalise_label(name) not in row]
    if lacking:
        near = get_close_matches(normalise_label(lacking[0]), row, n=3)
        hint = f"; near: {', '.join(labels[row[n]] for n in near)}" if near else ""
        raise VireoError(
            f"{len(lacking)} of {len(names)} classes are no row of the model's head, the first is "
            f"{lacking[0]!r}{hint}"
        )
    return [row[normalise_label(name)] for name in names]
