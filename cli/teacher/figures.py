"""What the commands for teachers print alike: the figures of soft targets, split by split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antcache.annotations.protocols import anchor_name
from antcache.cli.common import print_table

if TYPE_CHECKING:
    from antcache.store import SoftTargets, Store

SHOWN = {
    "top-1": "action/top1",
    "top-5": "action/top5",
    "many-shot recall@5": "action/many_shot_recall@5",
    "recall@5": "action/recall@5",
}


def shown(figures: Mapping[str, float]) -> list[float | str]:
    """The figures below the heads `SHOWN`."""
    return [figures.get(key, "-") for key in SHOWN.values()]


def facts_of(
    store: Store, name: str, targets: SoftTargets, made: str, folder: Path, seconds: float
) -> dict[str, Any]:
    """What was `made` in a folder, and its targets with their figures on every split."""
    from antcache.evaluation.scoring import score_targets
    from antcache.store.soft_targets import anchor_of

    return {
        "targets": name,
        made: str(folder),
        "seconds": seconds,
        "segments": len(targets),
        "valid": int(targets.valid.sum()),
        **targets.attributes,
        "anchor": anchor_name(anchor_of(targets.attributes)),
        "metrics": {split: score_targets(store, name, split).scored for split in store.splits()},
    }


def print_figures(title: str, facts: Mapping[str, Any]) -> None:
    """Print the figures of each split."""
    rows = [[split, *shown(values), values["n"]] for split, values in facts["metrics"].items()]
    print_table(f"{title}, anchor {facts['anchor']}", ["percent", *SHOWN, "segments"], rows)
