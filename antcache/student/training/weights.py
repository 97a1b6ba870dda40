"""Loss weights of distillation in two conventions, and what a weight comes to here.

Promise: one formula. The paper (Ghosh et al. 2023) averages KL over rows *and* over the n classes
that it runs over (all C, or the teacher's k best), `antcache` over rows alone; both multiply by
T^2. So `ours = paper / n`: what the paper's weight means changes with the number of classes, what
ours means does not.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from antcache.checks import Count, Positive, at_least, check_types
from antcache.checks import Weight as Factor
from antcache.errors import BadConfig

_FORM = re.compile(r"(?P<weight>[^@/]+)@T(?P<temperature>[^@/]+)/C(?P<classes>\d{1,12})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One weight of the KL term, in either convention."""

    ours: Factor
    """Multiplies `T^2 * mean over rows (KL)`."""
    temperature: Positive
    """T."""
    classes: Count
    """C of the dataset."""
    k: Count | None = None
    """Of top-k targets; None where KL runs over all classes."""

    def __post_init__(self) -> None:
        check_types(self)
        at_least("k", self.num_terms, 1, self.classes)

    @property
    def num_terms(self) -> int:
        """Classes that the paper's mean runs over, n."""
        return self.classes if self.k is None else self.k

    @property
    def paper(self) -> float:
        """The same weight in the paper's convention."""
        return self.ours * self.num_terms

    @property
    def effective(self) -> float:
        """What multiplies the mean KL itself, T^2 included."""
        return self.ours * self.temperature**2

    def to_dict(self) -> dict[str, float | int | None]:
        """JSON-ready form."""
        names = ("ours", "paper", "temperature", "effective", "classes", "k")
        return {name: getattr(self, name) for name in names}


PUBLISHED = {
    "EGTEA": Weight(ours=150 / 106, temperature=10, classes=106),
    "EK55": Weight(ours=20 / 50, temperature=5, classes=2513, k=50),
}
"""The paper's own settings."""


def parse_weight(text: str, *, convention: str, k: int | None = None) -> Weight:
    """A weight such as `150@T10/C106`: weight 150, temperature 10, 106 classes.

    Args:
        text: what to read.
        convention: `paper` or `ours`, what the number before the `@` is.
        k: classes of top-k targets.

    Raises:
        BadConfig: it has another form, or a number is impossible.
    """
    match = _FORM.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        value, temperature = float(match["weight"]), float(match["temperature"])
    except ValueError:
        raise BadConfig(
            "unreadable weight",
            expected="WEIGHT@T<temperature>/C<classes>, as in 150@T10/C106",
            found=text,
        ) from None
    plain = Weight(ours=value, temperature=temperature, classes=int(match["classes"]), k=k)
    if convention == "ours":
        return plain
    assert convention == "paper"
    return Weight(ours=value / plain.num_terms, temperature=temperature, classes=plain.classes, k=k)


def describe(own: Weight, union: tuple[int, int] | None = None) -> list[str]:
    """What a weight comes to, in sentences.

    Args:
        own: the weight.
        union: where several teachers are mixed, the fewest and the most classes that their `own.k`
            best come to together in a row; KL runs over these.

    The first sentence states the weight; another follows where it is that of a published setting in
    either convention, at its temperature, but KL runs over another number of classes, or where
    the paper's number is taken for ours.
    """
    fewest, most = union or (own.num_terms, own.num_terms)
    span = _span(str(fewest), str(most))
    if union is not None:
        over = f"the {span} classes in the union of the teachers' {own.k} best"
    elif own.k is not None:
        over = f"the teacher's {own.k} best classes"
    else:
        over = f"all {own.classes} classes"
    paper = f" = {own.ours * fewest:.4g} in" if fewest == most else ", no one number in"
    said = [
        f"weight {own.ours:.4g} here{paper} the paper's convention (mean over {over}); "
        f"times T^2 = {own.temperature:g}^2 it is {own.effective:.4g} x KL"
    ]
    for name, published in PUBLISHED.items():
        n = published.num_terms
        moved = own.temperature == published.temperature and (fewest, most) != (n, n)
        if moved and _near(own.ours, published.ours):
            would = _span(f"{published.paper / most:.4g}", f"{published.paper / fewest:.4g}")
            said.append(
                f"this is the paper's {published.paper:g} of {name}, whose mean runs over {n} "
                f"classes; over {span} as here the paper's {published.paper:g} would be weight "
                f"{would}"
            )
        elif moved and fewest == most and _near(own.ours * fewest, published.paper):
            said.append(
                f"this is the paper's {published.paper:g} of {name}, but as a mean over {fewest} "
                f"classes in place of {n}, {own.ours / published.ours:.4g} times as strong: "
                f"weight {published.ours:.4g} is the same"
            )
        elif own.ours == published.paper:
            said.append(
                f"weight {own.ours:g} is what the paper writes for {name} in its convention; here "
                f"it is {n} times as strong: weight {published.ours:.4g} is the same"
            )
    return said


def _near(value: float, published: float) -> bool:
    """Whether a number is a published one, but for its rounding."""
    return math.isclose(value, published, rel_tol=0.005)


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
