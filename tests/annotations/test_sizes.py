"""A folder of another dataset is told by its classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from antcache.annotations import read_annotations
from antcache.annotations.sizes import SIZES
from antcache.errors import AntcacheError, BadAnnotations

FORMS = {
    "epic-kitchens-55": "id,action,verb,noun\n",
    "epic-kitchens-100": "id,verb,noun,action\n",
    "egtea": "",
}


def actions_csv(dataset: str, count: int | None = None) -> str:
    """As many actions as a dataset has (or `count`), with all its verbs and nouns."""
    sizes = SIZES[dataset]
    lines = []
    for i in reversed(range(count or sizes.actions)):
        verb = sizes.verbs - 1 - i % sizes.verbs
        noun = sizes.nouns - 1 - i % sizes.nouns
        lines.append(
            {
                "epic-kitchens-55": f"{i}, a_b{i},{verb},{noun}",
                "epic-kitchens-100": f"{i},{verb},{noun},a b{i}",
                "egtea": f"{i}, {verb}_{noun}, a_b{i}",
            }[dataset]
        )
    return FORMS[dataset] + "\n".join(lines) + "\n"


@pytest.mark.parametrize("count", [None, 105])
@pytest.mark.parametrize("there", FORMS)
@pytest.mark.parametrize("given", [*FORMS, "epic-kitchens-100-official"])
def test_a_folder_of_another_dataset_is_named(
    tmp_path: Path, there: str, given: str, count: int | None
) -> None:
    """Whole, or some of its actions; its own is refused for nothing of the kind."""
    (tmp_path / "actions.csv").write_text(actions_csv(there, count))
    dataset = given.removesuffix("-official")
    if there == dataset:
        with pytest.raises(AntcacheError, match="the folder lacks"):
            read_annotations(given, tmp_path)
        return
    with pytest.raises(BadAnnotations, match=rf"not the classes of {dataset}: .*{there}\)"):
        read_annotations(given, tmp_path)


@pytest.mark.parametrize("count", [600, 3805])
def test_all_verbs_and_nouns_of_a_dataset_with_some_of_its_actions(
    tmp_path: Path, count: int
) -> None:
    (tmp_path / "actions.csv").write_text(actions_csv("epic-kitchens-100", count))
    with pytest.raises(BadAnnotations, match=r"found \d+ actions.*like epic-kitchens-100\)"):
        read_annotations("epic-kitchens-55", tmp_path)


def test_some_verbs_of_a_dataset_may_be_those_of_another(tmp_path: Path) -> None:
    """Nothing tells EPIC-KITCHENS-100's first verbs and nouns from those of EPIC-KITCHENS-55."""
    rows = "\n".join(f"{i},{i},{i},a b{i}" for i in range(90)) + "\n"
    (tmp_path / "actions.csv").write_text(FORMS["epic-kitchens-100"] + rows)
    with pytest.raises(AntcacheError, match="the folder lacks"):
        read_annotations("epic-kitchens-55", tmp_path)


def test_the_real_folders(data_dir: Path) -> None:
    names = {
        "epic-kitchens-55": "epic-kitchens-55",
        "epic-kitchens-100": "epic-kitchens-100/rulstm",
    }
    for there, folder in (*names.items(), ("egtea", "egtea")):
        for given in SIZES:
            if given == there:
                assert read_annotations(given, data_dir / folder).name == there
                continue
            with pytest.raises(BadAnnotations, match=rf"it looks like {there}\)"):
                read_annotations(given, data_dir / folder)
