"""Classes of EPIC-KITCHENS-55 and -100, shared by RULSTM's and the official form.

Promise: ids are the published ones; names come from the official class files where the folder has
them, and otherwise from the names of the actions, with a warning.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from antcache.annotations.classes import (
    Actions,
    ClassNames,
    names_from_actions,
    read_class_list,
    read_class_names,
    read_many_shot_actions,
    with_names,
)
from antcache.annotations.files import first_of
from antcache.annotations.sizes import SIZES
from antcache.annotations.taxonomy import Taxonomy

EK55_CLASSES = ("EPIC_verb_classes.csv", "EPIC_noun_classes.csv")
EK55_MANY_SHOT = tuple(f"EPIC_many_shot_{kind}.csv" for kind in ("actions", "verbs", "nouns"))
EK100_CLASSES = ("EPIC_100_verb_classes.csv", "EPIC_100_noun_classes.csv")
EK100_TAIL = ("EPIC_100_tail_verbs.csv", "EPIC_100_tail_nouns.csv")
EK100_NOUNS = (EK100_CLASSES[1], "EPIC_100_noun_classes_v2.csv")  # version 2 has five more


def ek55_taxonomy(
    folder: Path, actions: Actions, names: ClassNames | None
) -> tuple[Taxonomy, list[str]]:
    """Classes of EPIC-KITCHENS-55 with the many-shot lists that `folder` has; and warnings.

    RULSTM's folder has those of verbs and nouns alone. The official list of actions holds exactly
    those whose verb and noun are many-shot (819 of 819), so it is made of the two.
    """
    taxonomy, warnings = _named("epic-kitchens-55", actions, names, "_")
    listed, *lists = (folder / name for name in EK55_MANY_SHOT)
    missing = [path.name for path in lists if not path.is_file()]
    if missing:
        warnings.append(f"no {', '.join(missing)}: no many-shot figures for this dataset")
        return taxonomy, warnings
    taxonomy = replace(
        taxonomy,
        many_shot_verbs=read_class_list(lists[0], "verb_class", "verb", len(taxonomy.verbs)),
        many_shot_nouns=read_class_list(lists[1], "noun_class", "noun", len(taxonomy.nouns)),
    )
    if listed.is_file():
        many_shot = read_many_shot_actions(listed, actions)
    else:
        many_shot = taxonomy.both_shot_actions or ()
        warnings.append(
            f"no {listed.name}: the {len(many_shot)} actions whose verb and noun are many-shot "
            "are listed, as the official list has them"
        )
    return replace(taxonomy, many_shot_actions=many_shot), warnings


def ek100_taxonomy(
    folder: Path, actions: Actions, names: ClassNames | None
) -> tuple[Taxonomy, list[str]]:
    """Classes of EPIC-KITCHENS-100 with the tail lists that `folder` has; and warnings."""
    taxonomy, warnings = _named("epic-kitchens-100", actions, names, " ")
    verbs, nouns = (folder / name for name in EK100_TAIL)
    missing = [path.name for path in (verbs, nouns) if not path.is_file()]
    if missing:
        warnings.append(f"no {', '.join(missing)}: no tail figures for this dataset")
        return taxonomy, warnings
    return replace(
        taxonomy,
        tail_verbs=read_class_list(verbs, "verb", "verb", len(taxonomy.verbs)),
        tail_nouns=read_class_list(nouns, "noun", "noun", len(taxonomy.nouns)),
    ), warnings


def ek55_names(folder: Path) -> ClassNames | None:
    """Official names of EPIC-KITCHENS-55, or None where `folder` lacks a class file."""
    verbs, nouns = (first_of(folder, (name,)) for name in EK55_CLASSES)
    if verbs is None or nouns is None:
        return None
    return (
        read_class_names(verbs, "verb_id", "class_key"),
        read_class_names(nouns, "noun_id", "class_key"),
    )


def ek100_names(folder: Path) -> ClassNames | None:
    """Official names of EPIC-KITCHENS-100, or None where `folder` lacks a class file."""
    verbs, nouns = first_of(folder, EK100_CLASSES[:1]), first_of(folder, EK100_NOUNS)
    if verbs is None or nouns is None:
        return None
    # Behind the last noun, version 2 has those of another challenge: they are in no action.
    count = SIZES["epic-kitchens-100"].nouns
    return read_class_names(verbs, "id", "key"), read_class_names(nouns, "id", "key")[:count]


def _named(
    dataset: str, actions: Actions, names: ClassNames | None, joint: str
) -> tuple[Taxonomy, list[str]]:
    if names is not None:
        return with_names(dataset, actions, names), []
    warning = "no class files: a verb or noun is called as most of its actions call it"
    return with_names(dataset, actions, names_from_actions(actions, joint)), [warning]
