"""The generated kitchen: a grammar of recipes, and timelines and text sampled from it.

Promise: everything follows from the grammar below, `KitchenConfig` and its seed; nothing is tuned
to a model. A cook follows a recipe whose parts may be left out or come in any order; now and then
something unrelated happens in between. Scripts (text) and timelines (video) come from the same
grammar, as recipes on paper and videos of people cooking do.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.checks import Amount, Count, Seed, Share, check_types

DATASET = "demo-kitchen"


@dataclass(frozen=True)
class AnyOrder:
    """Parts that may come in any order, each as a whole."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class Maybe:
    """A part that is left out with probability 1 - `chance`."""

    part: str
    chance: float = 0.5


Step = str | AnyOrder | Maybe
# A part is a string of actions, `verb_noun`, separated by blanks.

FETCH = "open_cupboard take_{0} close_cupboard"
CHILL = "open_fridge take_{0} close_fridge"

RECIPES: dict[str, tuple[Step, ...]] = {
    "tea": (
        "take_kettle turn-on_tap pour_water turn-off_tap turn-on_kettle",
        FETCH.format("cup"),
        Maybe("take_spoon put_spoon"),
        "turn-off_kettle pour_water",
        Maybe(CHILL.format("milk") + " pour_milk"),
    ),
    "coffee": (
        "turn-on_kettle",
        AnyOrder((FETCH.format("cup"), FETCH.format("coffee"))),
        "take_spoon turn-off_kettle pour_water mix_coffee put_spoon",
    ),
    "pasta": (
        "take_pan turn-on_tap pour_water turn-off_tap turn-on_hob",
        FETCH.format("pasta"),
        Maybe("take_salt put_salt"),
        "pour_pasta take_spoon mix_pasta turn-off_hob",
        AnyOrder(("take_plate put_plate", CHILL.format("cheese"))),
        "pour_pasta put_cheese",
    ),
    "rice": (
        FETCH.format("rice"),
        "turn-on_tap wash_rice turn-off_tap",
        "take_pan pour_rice pour_water turn-on_hob",
        Maybe("take_salt put_salt"),
        "turn-off_hob take_plate pour_rice",
    ),
    "omelette": (
        CHILL.format("egg"),
        "take_spoon mix_egg put_spoon",
        Maybe("take_salt put_salt"),
        "take_pan put_pan turn-on_hob pour_oil pour_egg",
        Maybe("mix_egg"),
        "turn-off_hob take_plate put_plate",
    ),
    "pancakes": (
        AnyOrder((FETCH.format("flour") + " pour_flour", CHILL.format("milk") + " pour_milk")),
        CHILL.format("egg") + " mix_egg",
        "take_pan turn-on_hob pour_oil pour_egg turn-off_hob",
        "take_plate put_plate",
    ),
    "salad": (
        CHILL.format("lettuce"),
        "turn-on_tap wash_lettuce turn-off_tap",
        "take_knife cut_lettuce",
        AnyOrder(("take_tomato cut_tomato", "take_onion cut_onion")),
        "put_knife take_plate put_lettuce",
        Maybe("pour_oil"),
    ),
    "soup": (
        "take_knife",
        AnyOrder(("take_tomato cut_tomato", "take_onion cut_onion")),
        "put_knife take_pan turn-on_tap pour_water turn-off_tap turn-on_hob",
        AnyOrder(("put_tomato", "put_onion")),
        Maybe("take_salt put_salt"),
        "turn-off_hob",
    ),
    "sandwich": (
        FETCH.format("bread"),
        "take_knife cut_bread",
        AnyOrder((CHILL.format("cheese") + " cut_cheese", "take_tomato cut_tomato")),
        AnyOrder(("put_cheese", "put_tomato")),
        "put_bread put_knife",
    ),
    "toast": (
        FETCH.format("bread"),
        "take_knife cut_bread put_knife",
        "take_pan turn-on_hob put_bread turn-off_hob",
        Maybe(CHILL.format("cheese") + " put_cheese"),
        "take_plate put_plate",
    ),
    "sauce": (
        "take_pan turn-on_hob pour_oil",
        "take_onion take_knife cut_onion put_onion",
        "take_tomato cut_tomato put_tomato put_knife",
        Maybe("take_salt put_salt"),
        "turn-off_hob",
    ),
    "dishes": (
        "turn-on_tap",
        AnyOrder(("wash_plate put_plate", "wash_cup put_cup", "wash_pan put_pan")),
        "turn-off_tap",
    ),
}

INTERRUPTIONS = ("turn-on_tap wash_hand turn-off_tap", "wash_table", "open_bin close_bin")


@dataclass(frozen=True, kw_only=True)
class KitchenConfig:
    """How much is generated, and how irregular it is."""

    train_videos: Count = 40
    validation_videos: Count = 30
    scripts: Amount = 800
    """Recipes in the text-only corpus."""
    recipes_per_video: Count = 2
    interruption: Share = 0.04
    """Probability of an interruption before each action."""
    action_s: tuple[float, float] = (1.2, 2.8)
    """Shortest and longest duration of an action in seconds."""
    pause_s: tuple[float, float] = (0.1, 0.7)
    """Shortest and longest pause between actions in seconds."""
    seed: Seed = 2210

    def __post_init__(self) -> None:
        check_types(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class KitchenVideo:
    """What happens in one video: `actions` (n,) ids, from `start_s` to `stop_s` (n,) seconds."""

    video: str
    actions: NDArray[np.int64]
    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]

    @property
    def duration_s(self) -> float:
        """Length of the video in seconds."""
        return float(self.stop_s[-1]) + 0.5


@dataclass(frozen=True, kw_only=True)
class Kitchen:
    """Taxonomy, timelines of both splits, and scripts: arrays of action ids."""

    taxonomy: Taxonomy
    splits: dict[str, list[KitchenVideo]]
    scripts: list[NDArray[np.int64]]

    def segments(self, split: str) -> Segments:
        """The split's timelines as annotated segments."""
        lines = self.splits[split]
        actions = np.concatenate([line.actions for line in lines])
        return Segments.of(
            uid=[f"{line.video}_{i}" for line in lines for i in range(len(line.actions))],
            video=[line.video for line in lines for _ in line.actions],
            start_s=np.concatenate([line.start_s for line in lines]),
            stop_s=np.concatenate([line.stop_s for line in lines]),
            verb=self.taxonomy.verb_of[actions],
            noun=self.taxonomy.noun_of[actions],
            action=actions,
        )


def kitchen_taxonomy() -> Taxonomy:
    """All actions that the grammar can produce, in alphabetical order."""
    texts = [*INTERRUPTIONS]
    for steps in RECIPES.values():
        for step in steps:
            texts += [step] if isinstance(step, str) else _parts(step)
    actions = sorted({action for text in texts for action in text.split()})
    verbs = sorted({action.split("_")[0] for action in actions})
    nouns = sorted({action.split("_")[1] for action in actions})
    return Taxonomy(
        dataset=DATASET,
        verbs=tuple(verbs),
        nouns=tuple(nouns),
        actions=tuple(actions),
        action_verbs=tuple(verbs.index(action.split("_")[0]) for action in actions),
        action_nouns=tuple(nouns.index(action.split("_")[1]) for action in actions),
    )


def generate(config: KitchenConfig) -> Kitchen:
    """Sample a kitchen; equal configs give equal kitchens."""
    taxonomy = kitchen_taxonomy()
    ids = {action: i for i, action in enumerate(taxonomy.actions)}
    videos, text = (np.random.default_rng(s) for s in np.random.SeedSequence(config.seed).spawn(2))
    counts = {"train": config.train_videos, "validation": config.validation_videos}
    numbers = iter(range(sum(counts.values())))
    splits = {
        split: [_timeline(f"K{next(numbers):03d}", ids, config, videos) for _ in range(count)]
        for split, count in counts.items()
    }
    scripts = [_ids(_script(config, text), ids) for _ in range(config.scripts)]
    return Kitchen(taxonomy=taxonomy, splits=splits, scripts=scripts)


def _parts(step: Step) -> list[str]:
    if isinstance(step, str):
        return [step]
    return [step.part] if isinstance(step, Maybe) else list(step.parts)


def _script(config: KitchenConfig, rng: np.random.Generator) -> list[str]:
    """One recipe as it is cooked: its actions by name."""
    names = list(RECIPES)
    actions: list[str] = []
    for step in RECIPES[names[rng.integers(len(names))]]:
        parts = _parts(step)
        if isinstance(step, AnyOrder):
            parts = [parts[i] for i in rng.permutation(len(parts))]
        elif isinstance(step, Maybe) and rng.random() >= step.chance:
            continue
        for action in " ".join(parts).split():
            if rng.random() < config.interruption:
                actions += INTERRUPTIONS[rng.integers(len(INTERRUPTIONS))].split()
            actions.append(action)
    return actions


def _ids(actions: list[str], ids: dict[str, int]) -> NDArray[np.int64]:
    return np.array([ids[action] for action in actions], dtype=np.int64)


def _timeline(
    video: str, ids: dict[str, int], config: KitchenConfig, rng: np.random.Generator
) -> KitchenVideo:
    actions = [a for _ in range(config.recipes_per_video) for a in _script(config, rng)]
    durations = rng.uniform(*config.action_s, size=len(actions))
    pauses = rng.uniform(*config.pause_s, size=len(actions))
    # Hundredths of a second, as people annotate.
    start_s = np.round(np.cumsum(pauses) + np.cumsum(durations) - durations + 1.0, 2)
    return KitchenVideo(
        video=video,
        actions=_ids(actions, ids),
        start_s=start_s,
        stop_s=np.round(start_s + durations, 2),
    )
