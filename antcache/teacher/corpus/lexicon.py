"""Verbs and objects by imperative grammar and word lists; nothing to download.

Promise: the same text and lists give the same actions, thousands of instructions a second on one
core. An object need not be on a list: recipes name more things than a dataset of videos does.

A sentence is cut at commas and conjunctions. A chunk is a command where a verb opens it (after
adverbs, "you can", a leading "in a large bowl" or "when the onions are soft"); the noun phrase
that follows is its object, and chunks after that which open no command are further objects.
Pronouns stand for the thing named last in the same instruction; others are left without object.
"""

from __future__ import annotations

from collections.abc import Sequence

from antcache.teacher.corpus import vocabulary as voc
from antcache.teacher.corpus.parsed import ParsedAction, Seen, meant
from antcache.teacher.corpus.phrases import (
    Chunk,
    chunks,
    is_number,
    noun_phrase,
    sentences,
    starts_phrase,
    stops_phrase,
)
from antcache.teacher.corpus.words import WordLists, base_form, singular

NO_VERBS = voc.ADJECTIVES | voc.AMOUNTS | voc.NEGATIONS | voc.SUBJECTS | {"of", "sure"}
BEFORE_NOUNS = voc.DETERMINERS | voc.PREPOSITIONS | voc.SUBJECTS | voc.MODALS | {"of"}
"""After one of these a word is no verb, though it may be one elsewhere."""


class LexiconExtractor:
    """Extractor without a language model.

    Args:
        words: verbs and nouns of a dataset.
    """

    name = "lexicon"

    def __init__(self, words: WordLists) -> None:
        singles = {verb.split()[0] for verb in words.verbs if verb}
        self.verbs = frozenset(singles | voc.VERBS) - voc.NOT_COMMANDS
        self._phrasal = frozenset(verb for verb in words.verbs if " " in verb)
        self.nouns = words.nouns
        self.heads = frozenset(noun.split()[-1] for noun in words.nouns)
        self.settings: dict[str, str | int] = {
            "verbs": len(words.verbs),
            "nouns": len(words.nouns),
        }

    def actions(self, instructions: Sequence[str]) -> list[list[ParsedAction]]:
        """The actions of each of N instructions."""
        return [self._instruction(text) for text in instructions]

    def _instruction(self, text: str) -> list[ParsedAction]:
        found: list[ParsedAction] = []
        seen: Seen = []
        for tokens in sentences(text):
            _Sentence(self, found, seen).read(chunks(tokens))
        return found

    # What the words are

    def is_verb(self, words: Sequence[str], i: int, *, first: bool, listing: bool = False) -> bool:
        """Whether `words[i]` opens a command.

        Args:
            words: of a chunk.
            i: which of them.
            first: nothing comes before in the sentence.
            listing: a list of objects may go on here.
        """
        word = words[i]
        after = words[i + 1] if i + 1 < len(words) else ""
        if word not in self.verbs:
            return self._unknown_verb(word, after, first=first)
        if word not in voc.NOUN_OR_VERB:
            return True
        if after in voc.BE or after == "of":
            return False
        if first:
            return True
        return bool(after) and (starts_phrase(after) or (after in voc.WHERE and not listing))

    def _unknown_verb(self, word: str, after: str, *, first: bool) -> bool:
        """A word that is no noun, adjective or function word, right before an object."""
        if (
            word in NO_VERBS
            or starts_phrase(word)
            or stops_phrase(word)
            or singular(word) in self.heads
            or word.endswith(("ed", "ing", "s"))
            or "'" in word
        ):
            return False
        before_object = after in voc.DETERMINERS or after in ("it", "them")
        return before_object or (first and singular(after) in self.heads)

    def is_particle(self, verb: str, words: Sequence[str], i: int) -> bool:
        """Whether `words[i]`, right after `verb`, belongs to it rather than to what follows."""
        word = words[i]
        if word not in voc.PARTICLES:
            return False
        if word in ("up", "down", "off", "out", "away", "back", "apart", "aside"):
            return True
        if i + 1 == len(words) or words[i + 1] in voc.PREPOSITIONS:
            return word not in ("around", "over") or i + 1 == len(words)
        after = noun_phrase(words, i + 1, self.nouns)
        if after.thing is None:
            return False
        place = after.thing.split()[-1] in voc.PLACES
        known = f"{verb} {word}" in self._phrasal or (word == "in" and verb in voc.POURING)
        return word in ("in", "on", "over") and known and not place and not after.pronoun


class _Sentence:
    """Reads the chunks of one sentence in order."""

    def __init__(self, lexicon: LexiconExtractor, found: list[ParsedAction], seen: Seen) -> None:
        self._lexicon = lexicon
        self._found = found
        self._seen = seen
        self._verb: str | None = None  # of the command whose list of objects may go on
        self._bare: list[int] = []  # commands that wait for the object of the next one
        self._aside = False  # inside a leading subordinate clause, which a comma ends

    def read(self, parts: Sequence[Chunk]) -> None:
        """Append the actions of a sentence."""
        for number, chunk in enumerate(parts):
            if "," in chunk.before or "then" in chunk.before:
                self._aside = False
            self._chunk(chunk, opening=number == 0)

    def _chunk(self, chunk: Chunk, *, opening: bool) -> None:
        words, lexicon = chunk.words, self._lexicon
        start, told = self._skip(words)
        if start >= len(words) or self._aside:
            return
        word = words[start]
        first = opening or "then" in chunk.before
        told = told and not (is_number(word) or stops_phrase(word))  # "you will be able"
        if word in voc.NEGATIONS:
            self._close()
        elif told or lexicon.is_verb(words, start, first=first, listing=self._verb is not None):
            self._command(words, start, joined=bool(chunk.before & {"and", "or", "/", "&"}))
        elif word in voc.SUBORDINATORS and not (word in voc.ADVERBS and opening is False):
            self._subordinate(words, start)
        elif word in voc.PREPOSITIONS:
            self._close()
            self._inside(words, start, after_place=True)
        elif self._verb is not None and word not in voc.SUBJECTS:
            self._object(words, start)
        else:
            self._statement(words, start)

    def _skip(self, words: Sequence[str]) -> tuple[int, bool]:
        """Where a chunk begins after adverbs and "after that"; whether "you can" was among them."""
        i, told = 0, False
        if tuple(words[:2]) in (("after", "that"), ("after", "this"), ("if", "desired")):
            i = 2
        while i < len(words):
            if words[i] in ("you", "we") and i + 1 < len(words) and words[i + 1] in voc.MODALS:
                i, told = i + 2, True
            elif words[i] in voc.NEGATIONS or words[i] == "once":
                break
            elif words[i] in voc.ADVERBS or (
                words[i].endswith("ly") and words[i] not in self._lexicon.verbs
            ):
                i += 1
            else:
                break
        return i, told

    def _close(self) -> None:
        self._verb, self._bare = None, []

    # Commands

    def _command(self, words: Sequence[str], i: int, *, joined: bool) -> None:
        lexicon = self._lexicon
        verb = words[i]
        i += 1
        if verb in voc.PHASES and i < len(words):
            j = i + (words[i] == "to") + (words[i] in voc.ADVERBS)
            if j < len(words) and words[j].endswith("ing") and len(words[j]) > 4:
                verb, i = base_form(words[j], lexicon.verbs), j + 1
            elif j > i and j < len(words) and lexicon.is_verb(words, j, first=True):
                verb, i = words[j], j + 1
        if i < len(words) and words[i] == "sure":  # "make sure that" does nothing yet
            self._close()
            return
        if verb in voc.LETTING:
            self._letting(words, i)
            return
        bare = i >= len(words)
        while i < len(words) and words[i] in voc.ADVERBS and words[i] not in voc.PARTICLES:
            i += 1
        if i < len(words) and lexicon.is_particle(verb, words, i):
            verb, i = f"{verb} {words[i]}", i + 1
            bare = i >= len(words)
        if not (joined or bare):
            self._bare = []
        waiting, self._bare, self._verb = self._bare, [], None
        thing, end = self._thing(words, i)
        if end > i:
            verb = self._late_particle(verb, words, end)
        if thing is not None:
            for place in waiting:
                self._found[place] = self._found[place]._replace(object=thing)
        self._found.append(ParsedAction(verb, thing))
        self._mention_later(words, end)
        if thing is not None and end >= len(words):
            self._verb = verb
        elif bare and verb.split()[0] not in voc.ALONE:
            self._bare = [*waiting, len(self._found) - 1]

    def _letting(self, words: Sequence[str], i: int) -> None:
        """ "let the dough rest": what is let do something is the object of doing it."""
        self._close()
        for j in range(i, len(words)):
            pronoun = j == i + 1 and words[i] in ("it", "them") and not stops_phrase(words[j])
            known = words[j] in self._lexicon.verbs
            if pronoun or (known and (j == i or words[j - 1] not in voc.DETERMINERS)):
                thing = self._thing(words[:j], i)[0] if j > i else None
                self._found.append(ParsedAction(self._late_particle(words[j], words, j + 1), thing))
                return
            if words[j] in voc.PREPOSITIONS and words[j] != "to":
                return

    def _thing(self, words: Sequence[str], i: int) -> tuple[str | None, int]:
        """The object at `i`, a pronoun replaced by what was named last."""
        thing, pronoun, end = noun_phrase(words, i, self._lexicon.nouns)
        if pronoun:
            thing = meant(self._seen, many=words[end - 1] != "it")
        elif thing is not None:
            self._seen.append((thing, _many(words, i, end, thing)))
        return thing, end

    def _late_particle(self, verb: str, words: Sequence[str], i: int) -> str:
        """`take out` for "take the dough out of the pan"."""
        while i < len(words) and words[i].endswith("ly"):
            i += 1
        if " " in verb or i >= len(words) or words[i] not in voc.PARTICLES:
            return verb
        after = words[i + 1] if i + 1 < len(words) else "of"
        alone = after == "of" or after in voc.PREPOSITIONS or after in voc.SUBORDINATORS
        return f"{verb} {words[i]}" if alone or words[i] in ("aside", "apart", "away") else verb

    def _object(self, words: Sequence[str], i: int) -> None:
        """A further object of the command before."""
        assert self._verb is not None
        verb = self._verb
        after = words[i + 1] if i + 1 < len(words) else ""
        doing = words[i].endswith("ing") and singular(words[i]) not in self._lexicon.heads
        if doing and (not after or stops_phrase(after) or starts_phrase(after)):
            self._close()  # "stirring constantly"
            return
        thing, end = self._thing(words, i)
        if thing is None or (end < len(words) and words[end] in voc.BE):
            self._close()
            return
        self._found.append(ParsedAction(verb, thing))
        if end < len(words):
            self._close()

    # What is no command

    def _subordinate(self, words: Sequence[str], i: int) -> None:
        """A clause with "when", "until" ...; it goes on until a comma."""
        self._close()
        self._mention(words, i + 1)
        self._mention_later(words, i + 1)
        self._aside = not self._inside(words, i + 1, after_place=False)

    def _inside(self, words: Sequence[str], i: int, *, after_place: bool) -> bool:
        """A command that no comma sets off: "in a pan add the oil". True where there is one."""
        lexicon = self._lexicon
        for j in range(i + 1, len(words)):
            previous, after = words[j - 1], words[j + 1] if j + 1 < len(words) else ""
            known = lexicon.is_verb(words, j, first=False)
            if not known or (words[j] in voc.NOUN_OR_VERB and not starts_phrase(after)):
                continue
            if previous in BEFORE_NOUNS or (after_place and previous in voc.ADJECTIVES):
                continue
            if after_place or starts_phrase(after) or singular(after) in lexicon.heads:
                self._command(words, j, joined=False)
                return True
        return False

    def _statement(self, words: Sequence[str], i: int) -> None:
        """Something is said, not asked for; what it is about may be meant by a pronoun later."""
        self._close()
        self._mention(words, i)
        self._aside = words[i] in voc.SUBJECTS

    def _mention_later(self, words: Sequence[str], i: int) -> None:
        """What a command's "until the rice is soft" or "to remove the eggs" names."""
        for j in range(i, len(words) - 1):
            if words[j] in voc.SUBORDINATORS and not self._seen:
                self._mention(words, j + 1)
            elif words[j] == "to" and words[j + 1] in self._lexicon.verbs:
                self._mention(words, j + 2)

    def _mention(self, words: Sequence[str], i: int) -> None:
        if i < len(words) and words[i] not in voc.SUBJECTS:
            thing, pronoun, end = noun_phrase(words, i, self._lexicon.nouns)
            if thing is not None and not pronoun:
                self._seen.append((thing, _many(words, i, end, thing)))


def _many(words: Sequence[str], start: int, end: int, thing: str) -> bool:
    """Whether the phrase `words[start:end]`, which names `thing`, is plural."""
    head = thing.split()[-1]
    return any(word != head and singular(word) == head for word in words[start:end])
