"""A spaCy pipeline of another Python: for models that the spaCy here is too new to load.

Promise: the parses are that pipeline's own, copied word by word into documents of the spaCy here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

PARSE = """
import json, sys, spacy
nlp = spacy.load(sys.argv[1], disable=["ner"])
def parse(doc):
    return {
        "words": [token.text for token in doc],
        "spaces": [bool(token.whitespace_) for token in doc],
        "heads": [token.head.i for token in doc],
        "deps": [token.dep_ for token in doc],
        "lemmas": [token.lemma_ for token in doc],
        "pos": [token.pos_ for token in doc],
        "tags": [token.tag_ for token in doc],
    }
parses = [parse(doc) for doc in nlp.pipe(json.load(sys.stdin))]
json.dump({"version": nlp.meta["version"], "parses": parses}, sys.stdout)
"""


class ForeignPipeline:
    """What `DependencyExtractor` needs of a spaCy pipeline; each call starts the other Python."""

    def __init__(self, python: str, model: str) -> None:
        import spacy

        self._vocab = spacy.blank("en").vocab
        self._command = [python, "-c", PARSE, model]
        self.meta = {"version": self._run([])["version"]}

    def _run(self, texts: list[str]) -> dict[str, Any]:
        given = json.dumps(texts)
        try:
            done = subprocess.run(
                self._command, input=given, capture_output=True, text=True, check=True
            )
        except OSError as error:
            sys.exit(str(error))
        except subprocess.CalledProcessError as error:
            sys.exit(f"{self._command[0]}: {error.stderr.strip().splitlines()[-1]}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def __call__(self, text: str) -> Any:
        """The `spacy.tokens.Doc` of a text."""
        return next(self.pipe([text]))

    def pipe(self, texts: Iterable[str]) -> Iterator[Any]:
        """A `spacy.tokens.Doc` for each text."""
        from spacy.tokens import Doc

        for parse in self._run(list(texts))["parses"]:
            yield Doc(self._vocab, **parse)
