"""The one word that says whether a published number was met, and the reasons in plain words."""

from dataclasses import dataclass, field

from vireo.results.published import Published

VERDICTS = (
    "reproduced",
    "consistent",
    "inconclusive",
    "not reproduced",
    "recipe ours",
    "no weights released",
    "no published value",
    "not run",
)
MIN_COVERAGE = 0.99


@dataclass(frozen=True)
class Verdict:
    """A word of `VERDICTS` with reasons; gap = ours minus published."""

    word: str
    reasons: list[str] = field(default_factory=list)
    gap: float | None = None
    tolerance: float | None = None
    tolerance_reason: str | None = None


def judge(
    published: Published | None,
    value: float | None,
    *,
    coverage: float = 1.0,
    same_set: bool | None = None,
    ci95: list[float] | None = None,
    bounds: list[float] | None = None,
    weights: str = "released",
    note: str = "",
) -> Verdict:
    """Compare a value with what was published.

    coverage: share of items with a prediction. same_set: whether the items are the ones that the
    published number was made from (None = not known). bounds: the value with worst and best
    answers on items without prediction. weights: where they come from: `released`, `ours` (trained
    here), `none` (random). note: said when nothing was published.

    `reproduced` needs the same items, coverage of 99 % and a gap within the tolerance. When the
    scored set differs, or is not known to be the same, a published value inside the 95 % interval
    is `consistent`. Inside the bounds only: `inconclusive`. Weights trained here never reproduce.
    """
    if published is None or published.value is None:
        reason = (published.note if published else "") or note
        return Verdict("no published value", [reason] if reason else [])
    if weights == "none":
        return Verdict("no weights released", ["the model has random weights"])
    if value is None:
        return Verdict("not run", ["nothing could be scored"])
    gap = value - published.value
    tolerance, why = published.tolerance_and_reason()
    facts = (gap, tolerance, why)
    what = {
        "published": f"{published.value:g} published",
        "target": f"a target of {published.value:g}",
    }
    reasons = [f"{value:.4g} against {what[published.kind]} (gap {gap:+.2f})"]
    if published.from_memory:
        reasons.append("the published value is recalled from memory, not checked")
    if weights == "ours":
        return Verdict("recipe ours", [*reasons, "trained here, with a recipe of ours"], *facts)
    differs = _set_reasons(coverage, same_set)
    # A hair for the binary form of the printed decimals.
    if abs(gap) <= tolerance + 1e-9 and coverage >= MIN_COVERAGE and same_set:
        word = f"within the tolerance of {tolerance:g} ({why})"
        return Verdict("reproduced", [*reasons, word], *facts)
    reasons += differs
    if differs and ci95 and ci95[0] <= published.value <= ci95[1]:
        word = f"inside the 95 % interval {ci95[0]:.2f} to {ci95[1]:.2f}"
        return Verdict("consistent", [*reasons, word], *facts)
    if coverage < 1 and bounds and bounds[0] <= published.value <= bounds[1]:
        word = f"only inside the bounds {bounds[0]:.2f} to {bounds[1]:.2f}"
        return Verdict("inconclusive", [*reasons, word], *facts)
    reasons.append(f"outside the tolerance of {tolerance:g} ({why})")
    if differs and ci95:
        reasons.append(f"outside the 95 % interval {ci95[0]:.2f} to {ci95[1]:.2f}")
    return Verdict("not reproduced", reasons, *facts)


def _set_reasons(coverage: float, same_set: bool | None) -> list[str]:
    """Why the scored items are not, or not known to be, those of the published number."""
    reasons = []
    if coverage < 1:
        reasons.append(f"{100 * coverage:.1f} % of the items have a prediction")
    if same_set is None:
        reasons.append("not known whether the items are the published ones")
    elif not same_set:
        reasons.append("the items are not the published ones")
    return reasons
