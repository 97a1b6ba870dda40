"""A folder of another dataset is told by its classes."""

from __future__ import annotations

from dataclasses import replace
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
    """Whole, or a part that can only be of it; its own is refused for nothing of the kind."""
    (tmp_path / "actions.csv").write_text(actions_csv(there, count))
    dataset = given.removesuffix("-official")
    fits = count is not None and replace(SIZES[there], actions=count).within(SIZES[dataset])
    if there == dataset or fits:
        with pytest.raises(AntcacheError, match="the folder lacks"):
            read_annotations(given, tmp_path)
        return
    with pytest.raises(BadAnnotations, match=rf"not the classes of {dataset}: .*{there}\)"):
        read_annotations(given, tmp_path)


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
