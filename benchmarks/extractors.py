"""How many of the verbs and objects of recipe instructions do the extractors find?

    python benchmarks/extractors.py [--spacy-model NAME] [--spacy-python PATH] [--record]

On 100 instructions labelled by hand (tests/teacher/corpus/labelled_instructions.json, with its
guidelines). The rules of the lexicon extractor were developed on other instructions and on the
first 50 of these; the last 50 were held out. All 100 were labelled, and so read, before the rules
were written; 40 more (labelled_afterwards.json) were drawn and labelled after, and no rule was
changed for them. The dependency extractor is measured where the spaCy model is installed, here or,
where only an old model can be had, beside the spaCy of another Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from foreign_spacy import ForeignPipeline
from labeled import Labeled, agreement, read_labeled
from record import DATA, Figure, finish

from antcache.errors import MissingExtra, NotFound
from antcache.teacher.corpus.dependency import DependencyExtractor
from antcache.teacher.corpus.extractors import DEFAULT_SPACY_MODEL, Extractor, make_extractor
from antcache.teacher.corpus.words import read_word_lists

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "teacher" / "corpus"
DEVELOPMENT = 50
F1_BOUND = 75.0
"""Of verb-object pairs on the held-out instructions, percent, for the lexicon extractor."""


def measure(extractor: Extractor, parts: dict[str, Sequence[Labeled]]) -> list[Figure]:
    """Precision, recall and F1 on each part, printed and as figures."""
    figures = []
    for part, labeled in parts.items():
        found = extractor.actions([label.text for label in labeled])
        for what, verbs_only in (("pairs", False), ("verbs", True)):
            score = agreement(found, labeled, verbs_only=verbs_only)
            values = {"precision": score.precision, "recall": score.recall, "F1": score.f1}
            cells = "".join(f"{100 * value:11.1f}" for value in values.values())
            print(f"{extractor.name:12}{part:14}{what:8}{cells}{score.labeled:11}")
            for name, value in values.items():
                bounded = (extractor.name, part, what, name) == ("lexicon", *HELD_OUT_F1)
                figures.append(
                    Figure(
                        figure=f"{extractor.name}, {part}, {what}: {name}",
                        value=100 * value,
                        unit="percent",
                        at_least=F1_BOUND if bounded else None,
                        n=len(labeled),
                    )
                )
    return figures


def _dependency(model: str, python: str | None) -> Extractor:
    if python is None:
        return make_extractor("dependency", spacy_model=model)
    return DependencyExtractor(ForeignPipeline(python, model), model)


HELD_OUT_F1 = ("held out", "pairs", "F1")


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spacy-model", default=DEFAULT_SPACY_MODEL)
    parser.add_argument("--spacy-python", help="a Python whose spaCy loads the model")
    parser.add_argument("--record", action="store_true", help="update the results file")
    options = parser.parse_args()
    recipes = DATA / "recipes" / "layer1.json"
    labeled = read_labeled(FOLDER / "labelled_instructions.json", recipes)
    parts = {
        "development": labeled[:DEVELOPMENT],
        "held out": labeled[DEVELOPMENT:],
        "all": labeled,
        "afterwards": read_labeled(FOLDER / "labelled_afterwards.json", recipes),
    }
    print(f"{'percent':34}{'precision':>11}{'recall':>11}{'F1':>11}{'labeled':>11}")
    words = read_word_lists(DATA / "epic-kitchens-55")
    figures = measure(make_extractor("lexicon", words=words), parts)
    try:
        dependency = _dependency(options.spacy_model, options.spacy_python)
    except (MissingExtra, NotFound) as error:
        print(f"dependency  not measured: {error}")
    else:
        figures += measure(dependency, parts)
    finish("extractors", figures, record=options.record)


if __name__ == "__main__":
    main()
