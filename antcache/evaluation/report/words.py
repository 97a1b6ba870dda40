"""A comparison in words: the report's summary, and how it calls metrics and numbers.

Promise: every sentence follows from the comparison's figures by a fixed rule, so that the page says
`clear` where the interval excludes zero and nowhere else.
"""

from __future__ import annotations

from antcache.evaluation.bootstrap import Difference
from antcache.evaluation.comparing.buckets import CHANGES
from antcache.evaluation.comparing.compare import Comparison
from antcache.evaluation.comparing.draws import MetricChange

MINUS = "\N{MINUS SIGN}"
AT_MOST = "\N{LESS-THAN OR EQUAL TO}"
HEADLINES = (
    "action/many_shot_recall@5",
    "action/recall@5",
    "action/top1",
    "action/top5",
    "action/class_mean_top1",
)
PARTS = {
    "top1": "top-1",
    "top5": "top-5",
    "recall@5": "class-mean recall@5",
    "many_shot_recall@5": "many-shot class-mean recall@5",
    "any_shot_recall@5": "any-shot class-mean recall@5",
    "tail_recall@5": "tail class-mean recall@5",
    "class_mean_top1": "class-mean top-1",
    "class_mean_top1_all_classes": "class-mean top-1 over all classes",
    "top1_by_action": "top-1 by the best action",
    "top5_by_action": "top-5 by the best actions",
}
CHANGE_NAMES = dict(zip(CHANGES, ("fixed", "broken", "both right", "both wrong"), strict=True))
TEACHER_NAMES = {
    "right": "teacher right",
    "wrong": "teacher wrong",
    "absent": "no guess of the teacher",
}


def metric_label(name: str) -> str:
    """How the page calls a metric, e.g. `action top-1` for `action/top1`."""
    kind, _, rest = name.partition("/")
    return f"{kind} {PARTS.get(rest, rest.replace('_', ' '))}"


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, none for zero."""
    rounded = round(value, digits) + 0.0  # no minus zero
    return f"{rounded:+.{digits}f}".replace("-", MINUS) if rounded else f"{rounded:.{digits}f}"


def amount(value: float) -> str:
    """A count, which is a mean over seeds: with one decimal unless it is whole."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def percent(share: float) -> str:
    """A share as a percentage, e.g. 95 %."""
    return f"{100 * share:g} %"


def clock(seconds: float) -> str:
    """Minutes and seconds, e.g. 2:05.5."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def verdict(change: MetricChange) -> str:
    """`higher`, `lower`, or `not clear`: whether the interval excludes zero."""
    if change.difference.low > 0:
        return "higher"
    return "lower" if change.difference.high < 0 else "not clear"


def p_value(found: Difference) -> str:
    """A p-value in print; see `Difference.p_text`."""
    return found.p_text.replace("<=", AT_MOST)


def summary(found: Comparison) -> list[str]:
    """The comparison in a few sentences."""
    said = [*found.notes]
    own = {name: change for name, change in found.metrics.items() if name not in found.same}
    said += [_headline(found, name) for name in HEADLINES if name in own]
    verdicts = [verdict(change) for change in own.values()]
    higher, lower = verdicts.count("higher"), verdicts.count("lower")
    said.append(
        f"Of {len(verdicts)} metrics, {found.names[1]} is clearly higher in {higher} and clearly "
        f"lower in {lower}; in {len(verdicts) - higher - lower} the interval holds zero. Intervals "
        "and p-values are those of one metric each and are not corrected for their number."
    )
    actions = sum(change.kind == "action" for change in found.classes)
    gained, lost = len(found.gained()), len(found.lost())
    said.append(
        f"Of {actions} action classes, {gained} gain in recall@5, {lost} lose and "
        f"{actions - gained - lost} stay as they are."
    )
    return [*said, *_buckets(found), *_cautions(found)]


def _headline(found: Comparison, name: str) -> str:
    change = found.metrics[name]
    d = change.difference
    judged = {
        "higher": "clearly higher",
        "lower": "clearly lower",
        "not clear": "not clearly different",
    }[verdict(change)]
    p = p_value(d) if AT_MOST in p_value(d) else f"= {p_value(d)}"
    return (
        f"The {metric_label(name)} of {found.names[1]} is {judged}: {change.mean_b:.2f} % against "
        f"{change.mean_a:.2f} % of {found.names[0]}, {signed(d.value)} points ({percent(d.level)} "
        f"interval {signed(d.low)} to {signed(d.high)}, p {p})."
    )


def _buckets(found: Comparison) -> list[str]:
    buckets = found.buckets[0]
    totals = {
        change: sum(c.count for c in buckets.cells if c.change == change)
        for change in ("fixed", "broken")
    }
    guess = "By the best guess" if buckets.k == 1 else f"By the {buckets.k} best guesses"
    text = (
        f"{guess}, {found.names[1]} fixes {amount(totals['fixed'])} of {found.n:,} segments and "
        f"breaks {amount(totals['broken'])}"
    )
    if found.teacher is not None:
        known = {change: buckets.cell("right", change).count for change in totals}
        text += (
            f"; the teacher is right about {amount(known['fixed'])} of the fixed and "
            f"{amount(known['broken'])} of the broken"
        )
    return [text + "."]


def _cautions(found: Comparison) -> list[str]:
    said = []
    if len(found.a) == 1:
        said.append(
            "There is one run of each, so the intervals say nothing about the chance of training."
        )
    unpredicted = {name: count for name, count in found.unpredicted.items() if count}
    if unpredicted:
        names = ", ".join(f"{name} ({count:,})" for name, count in unpredicted.items())
        said.append(f"Segments without a prediction count as wrong: {names}.")
    return said
