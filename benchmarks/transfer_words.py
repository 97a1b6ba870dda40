"""Actions of one kitchen in the words of another: the map of names behind `transfer.py`.

Promise: a name is mapped by the tables here and nothing else. Its verb stays, or becomes one that
`VERBS` lists for it, the first that the other kitchen has with the thing; its thing is the first of
its words (by `THINGS`, where these say it otherwise) that the other kitchen has. What has no such
action is dropped, and counted.
"""

from __future__ import annotations

import re

from antcache.annotations import Taxonomy
from antcache.teacher.language.text import action_words

VERBS = {
    "add": ("add", "put", "pour", "place", "sprinkle"),
    "allow": (),
    "beat": ("mix",),
    "blitz": ("mix",),
    "butter": ("spread",),
    "chop": ("cut",),
    "combine": ("mix",),
    "cook": ("cook", "mix"),
    "crack": ("crack", "break"),
    "dice": ("cut",),
    "discard": ("throw", "put"),
    "drizzle": ("pour", "add"),
    "extract": ("squeeze", "take"),
    "fill": ("fill", "pour"),
    "fry": ("cook", "mix"),
    "lay": ("put", "place"),
    "microwave": ("cook", "turn on"),
    "mince": ("cut",),
    "mix": ("mix", "stir"),
    "peel": ("peel", "cut"),
    "place": ("place", "put"),
    "pour": ("pour", "add", "put"),
    "put": ("put", "place"),
    "remove": ("remove", "take"),
    "return": ("put", "place"),
    "rinse": ("wash",),
    "saute": ("cook", "mix"),
    "scoop": ("scoop", "take"),
    "season": ("season", "add", "pour"),
    "slice": ("cut",),
    "smear": ("spread", "apply"),
    "spoon": ("scoop", "put", "pour"),
    "sprinkle": ("sprinkle", "pour", "add", "put"),
    "squeeze": ("squeeze",),
    "stir": ("mix", "stir"),
    "stirfry": ("mix", "cook"),
    "take": ("take",),
    "top": ("put", "place"),
    "transfer": ("put", "place", "pour"),
    "whisk": ("mix",),
}
"""Verbs of the scripts, and what others may call them; one that is not here has its own name."""
THINGS = {
    "bread": ("bread", "bun"),
    "bun": ("bread",),
    "cereals": ("cereal",),
    "curd": ("yoghurt",),
    "dough": ("dough", "mixture"),
    "egg": ("egg",),
    "garlic": ("garlic", "seasoning"),
    "glass": ("glass", "cup"),
    "ingredients": ("ingredients", "mixture", "food"),
    "milk": ("milk",),
    "mug": ("mug", "cup"),
    "mushrooms": ("mushroom",),
    "pancake": ("pancake", "patty"),
    "pepper": ("pepper", "seasoning"),
    "saltnpepper": ("salt", "seasoning", "pepper"),
    "salt": ("salt", "seasoning"),
    "skillet": ("pan",),
    "teabag": ("tea", "bag"),
    "tortilla": ("tortilla", "bread"),
    "vinegar": ("vinegar", "seasoning"),
}
"""Things by other names, each with itself first where it keeps its own."""
SMALL = frozenset(("a", "an", "the", "of", "and", "one", "up"))
WHERE = re.compile(r"\b(?:in|inside|into|to|on|onto|with|from|over|until|for|by)\b")
"""What follows says where to or how long, and names no thing that is handled."""


def words_of(name: str) -> list[str]:
    """The words of a script's action, up to where it is done: `put_egg2plate`, or a sentence behind
    its verb and a dash."""
    _, dash, rest = name.partition("-")
    sentence = rest if dash and " " in rest else name
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", sentence.replace("_", " ").replace("2", " to "))
    handled = WHERE.split(spaced.strip().lower())[0]
    return [w for w in re.findall(r"[a-z]+", handled) if w not in SMALL]


def singular(word: str) -> str:
    """Without the ending of a plural, as far as the words here need it."""
    if word.endswith("oes"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def index_of(taxonomy: Taxonomy) -> dict[tuple[str, str], int]:
    """The first action of each verb and thing (or its last word), by its own or its class names."""
    found: dict[tuple[str, str], int] = {}
    for i, (verb, noun) in enumerate(action_words(taxonomy)):
        if taxonomy.paired:
            classes = taxonomy.verbs[taxonomy.verb_of[i]], taxonomy.nouns[taxonomy.noun_of[i]]
            found.setdefault((classes[0].replace("-", " "), singular(classes[1])), i)
        if noun:
            things = [noun, noun.split()[-1]] if " " in noun else [noun]
        else:  # a single label: a verb and what it is done to
            verb, *things = words_of(verb)
            things = things[:1]
        for thing in things:
            found.setdefault((verb.replace("-", " "), singular(thing)), i)
    return found


def mapped(name: str, index: dict[tuple[str, str], int]) -> int | None:
    """The action of the other kitchen that `name` means, or None."""
    verb, *rest = words_of(name) or [""]
    for word in rest:
        for thing in THINGS.get(word, THINGS.get(singular(word), (word,))):
            for other in (verb, *VERBS.get(verb, ())):
                if (other, singular(thing)) in index:
                    return index[other, singular(thing)]
    return None
