"""Verbs and objects from the dependency parse of a spaCy pipeline.

Promise: commands are the root verbs of sentences that have no subject (or "you" with a modal), and
the verbs joined to them; objects are their direct objects and those joined to these. Nothing is
downloaded: a model that is not installed is an error. The parser reads "Add salt." as "You can add
salt.": models trained on newspapers, where commands are rare, take many for nouns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from antcache.errors import BadConfig, NotFound, needs
from antcache.teacher.corpus import vocabulary as voc
from antcache.teacher.corpus.parsed import ParsedAction, Seen, meant
from antcache.teacher.corpus.phrases import TOKEN, split_sentences

OBJECTS = ("dobj", "obj")
SUBJECTS = ("nsubj", "nsubjpass", "nsubj:pass", "expl", "csubj")
PLURAL = ("NNS", "NNPS")
PIPES_NEEDED = ("DEP", "LEMMA", "TAG")
NO_COMMANDS = frozenset().union(
    *(voc.SUBORDINATORS, voc.PREPOSITIONS, voc.DETERMINERS, voc.PRONOUNS, voc.SUBJECTS),
    *(voc.NUMBERS, voc.ADVERBS, voc.CONNECTORS, voc.NEGATIONS, voc.MODALS),
)
"""A sentence that opens with one of these doesn't open with its verb."""


class DependencyExtractor:
    """Extractor over a spaCy pipeline.

    Args:
        nlp: a `spacy.language.Language` that sets tags, lemmas, heads and dependencies.
        model: its name, for the record.
    """

    name = "dependency"

    def __init__(self, nlp: Any, model: str) -> None:
        sample = nlp("Cut the onion.")
        missing = [name for name in PIPES_NEEDED if not sample.has_annotation(name)]
        if missing:
            raise BadConfig(
                "the spaCy pipeline does not parse",
                where=model,
                expected="tagger, lemmatizer and parser",
                found=f"no {', '.join(missing)}",
                hint="an English pipeline such as en_core_web_sm does",
            )
        self._nlp = nlp
        self.settings: dict[str, str | int] = {
            "spacy_model": model,
            "spacy_model_version": str(nlp.meta.get("version", "")),
        }

    @classmethod
    def load(cls, model: str) -> DependencyExtractor:
        """Extractor over an installed pipeline, by package name or folder.

        Raises:
            MissingExtra: spaCy is not installed.
            NotFound: the model is not.
            BadConfig: it has no parser, tagger or lemmatizer.
        """
        with needs("spacy", "parse"):
            import spacy
        try:
            nlp = spacy.load(model, exclude=["ner"])
        except OSError as error:
            raise NotFound(
                "no such spaCy model is installed",
                where=model,
                hint=f"python -m spacy download {model}, or --extractor lexicon",
            ) from error
        return cls(nlp, model)

    def actions(self, instructions: Sequence[str]) -> list[list[ParsedAction]]:
        """The actions of each of N instructions."""
        return [actions_of(doc) for doc in self._nlp.pipe(map(as_statements, instructions))]


def as_statements(instruction: str) -> str:
    """Its sentences, with "You can" before those that seem to open with a verb."""
    return " ".join(f"{_as_statement(part)}." for part in split_sentences(instruction))


def _as_statement(sentence: str) -> str:
    tokens = TOKEN.findall(sentence.lower())
    opening = tokens[0] if tokens else ""
    command = opening[:1].isalpha() and opening not in NO_COMMANDS
    if not command or opening.endswith(("ing", "ly")):
        return sentence
    return f"You can {sentence[0].lower()}{sentence[1:]}"


def actions_of(doc: Any) -> list[ParsedAction]:
    """The actions of a parsed instruction (a `spacy.tokens.Doc`)."""
    found: list[ParsedAction] = []
    seen: Seen = []
    for sentence in doc.sents:
        waiting: list[int] = []
        for verb in _commands(sentence.root):
            name, objects, rest = _frame(verb)
            things = [thing for token in objects if (thing := _thing(token, seen)) is not None]
            if not things:
                if not rest and not objects and verb.lemma_.lower() not in voc.ALONE:
                    waiting.append(len(found))
                found.append(ParsedAction(name, None))
                continue
            for place in reversed(waiting):  # "peel and cut the onion"
                shared = [ParsedAction(found[place].verb, thing) for thing in things]
                found[place : place + 1] = shared
            waiting = []
            found += [ParsedAction(name, thing) for thing in things]
    return found


def _commands(root: Any) -> Iterator[Any]:
    """The root if it is a command, and the verbs joined to it, in the order of the text."""
    verbs = [root]
    for verb in verbs:  # grows while it is walked
        verbs += [t for t in verb.children if t.dep_ in ("conj", "parataxis") and _is_verb(t)]
    told = False
    for verb in sorted(verbs, key=lambda token: token.i):
        subjects = [t for t in verb.children if t.dep_ in SUBJECTS]
        modal = any(t.dep_ == "aux" and t.tag_ == "MD" for t in verb.children)
        if subjects:
            told = modal and all(t.lower_ in ("you", "we") for t in subjects)
        elif verb is root or verb.dep_ == "parataxis" or not told:
            told = True
        forbidden = any(t.dep_ == "neg" for t in verb.children) or verb.lemma_.lower() == "avoid"
        if told and not forbidden and _is_verb(verb):
            yield verb


def _is_verb(token: Any) -> bool:
    plain = token.tag_ in ("VB", "VBP") or token.lower_ == token.lemma_.lower()  # put, cut, beat
    return token.pos_ == "VERB" and plain


def _frame(verb: Any) -> tuple[str, list[Any], bool]:
    """The verb with its particle, its objects, and whether anything else depends on it."""
    children = list(verb.children)
    inner = [t for t in children if t.dep_ in ("xcomp", "ccomp") and t.pos_ == "VERB"]
    if verb.lemma_.lower() in voc.PHASES and inner:  # "start cooking the pasta"
        return _frame(inner[0])
    if verb.lemma_.lower() in voc.LETTING and inner:  # "let the dough rest"
        subjects = [t for t in (*inner[0].children, *children) if t.dep_ in (*SUBJECTS, *OBJECTS)]
        name, _, _ = _frame(inner[0])
        return name, _joined(subjects), True
    name = verb.lemma_.lower()
    for token in children:
        particle = token.lower_ in voc.PARTICLES
        if token.dep_ in ("prt", "compound:prt") or (
            token.dep_ == "advmod" and particle and token.i > verb.i
        ):
            name = f"{name} {token.lower_}"
            break
    objects = [t for t in children if t.dep_ in OBJECTS]
    if not objects and name in voc.POURING and verb.i + 1 < len(verb.doc):  # "stir in the oil"
        after = verb.nbor()
        poured = [t for t in after.children if t.dep_ == "pobj"] if after.lower_ == "in" else []
        if poured and poured[0].lemma_.lower() not in voc.PLACES and poured[0].pos_ != "PRON":
            return f"{name} in", _joined(poured), True
    plain = ("conj", "cc", "punct", "advmod", "prt", "compound:prt", "aux")
    rest = any(t.dep_ not in (*plain, *OBJECTS, *SUBJECTS) for t in children)
    return name, _joined(objects), rest


def _joined(tokens: Sequence[Any]) -> list[Any]:
    """Tokens with those joined to them by "and", "or" or a comma."""
    found = list(tokens)
    for token in found:  # grows while it is walked
        found += [t for t in token.children if t.dep_ == "conj" and t.pos_ != "VERB"]
    return sorted(found, key=lambda token: token.i)


def _thing(token: Any, seen: Seen) -> str | None:
    """What an object names; a pronoun stands for the last thing of its number."""
    if token.lower_ in ("it", "them"):
        return meant(seen, many=token.lower_ == "them")
    if token.lemma_.lower() in voc.MEASURES:  # "two cans of tomatoes"
        ofs = [t for t in token.children if t.lower_ == "of"]
        inside = [held for of in ofs for held in of.children if held.dep_ == "pobj"]
        if inside:
            return _thing(inside[0], seen)
    if token.pos_ not in ("NOUN", "PROPN") or token.lemma_.lower() in voc.TIMES:
        return None
    head = token.lemma_.lower()
    modifiers = [
        t.lower_
        for t in token.children
        if t.i < token.i
        and t.text.isalpha()
        and (
            (t.dep_ == "compound" and t.lemma_.lower() not in voc.MEASURES)
            or (t.dep_ == "amod" and (t.lower_, head) in voc.NAMES)
        )
    ]
    if not modifiers and head in voc.NAMELESS:
        return None
    thing = " ".join([*modifiers, head])
    seen.append((thing, token.tag_ in PLURAL))
    return thing
