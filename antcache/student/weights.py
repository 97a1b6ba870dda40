"""Loss weights of distillation in two conventions, and what a weight comes to here.

Promise: one formula. The paper (Ghosh et al. 2023) averages KL over rows *and* over the n classes
that it runs over (all C, or the teacher's k best), `antcache` over rows alone; both multiply by
T^2. So `ours = paper / n`: what the paper's weight means changes with the number of classes, what
ours means does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from antcache.errors import BadConfig
from antcache.student.config import StudentConfig

_FORM = re.compile(r"(?P<weight>[^@/]+)@T(?P<temperature>[^@/]+)/C(?P<classes>\d+)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One weight of the KL term, in either convention."""

    ours: float
    """Multiplies `T^2 * mean over rows (KL)`."""
    temperature: float
    """T."""
    classes: int
    """C of the dataset."""
    k: int | None = None
    """Of top-k targets; None where KL runs over all classes."""

    def __post_init__(self) -> None:
        if not self.ours >= 0 or not self.ours < float("inf"):
            raise BadConfig("impossible weight", expected="at least 0", found=self.ours)
        if not 0 < self.temperature < float("inf"):
            raise BadConfig("impossible temperature", expected="above 0", found=self.temperature)
        if self.classes < 1 or (self.k is not None and not 1 <= self.k <= self.classes):
            raise BadConfig(
                "impossible number of classes",
                expected="at least 1 class, and k from 1 to that",
                found=f"C {self.classes}, k {self.k}",
            )

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

    def __str__(self) -> str:
        over = f"all {self.classes}" if self.k is None else f"the teacher's {self.k} best"
        return (
            f"weight {self.ours:.4g} here = {self.paper:.4g} in the paper's convention "
            f"(mean over {over} classes); times T^2 = {self.temperature:g}^2 it is "
            f"{self.effective:.4g} x KL"
        )


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


def describe(config: StudentConfig, num_classes: int, k: int | None) -> list[str]:
    """What the distillation weight of a run comes to, in sentences to be logged.

    Args:
        config: of the run.
        num_classes: C of its dataset.
        k: classes per row of its soft targets, None if they are dense.

    The first sentence states the weight; a second one follows where the run has a published
    setting's weight and temperature, but another number of classes under its mean: the paper's
    number would have come to another weight there.
    """
    own = Weight(ours=config.weight, temperature=config.temperature, classes=num_classes, k=k)
    said = [f"distillation: {own}"]
    for name, published in PUBLISHED.items():
        same = (
            abs(own.ours - published.ours) <= 0.005 * published.ours
            and own.temperature == published.temperature
        )
        if same and own.num_terms != published.num_terms:
            said.append(
                f"distillation: this is the paper's {published.paper:g} of {name}, whose mean runs "
                f"over {published.num_terms} classes; over {own.num_terms} as here the paper's "
                f"{published.paper:g} would be weight {published.paper / own.num_terms:.4g}"
            )
        elif own.ours == published.paper:
            said.append(
                f"distillation: weight {own.ours:g} is what the paper writes for {name} in its "
                f"convention; here it is {published.num_terms} times as strong: "
                f"--weight {published.ours:.4g} is the same"
            )
    return said
