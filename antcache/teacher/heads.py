"""From a state to logits of actions, verbs and nouns: what the trained teachers have in common.

Promise: the logits depend on the state z and the history alone, and on nothing after it. Two parts,
each of which can be left out:

- *Factorised*: the logit of an action is the sum of its own, its verb's and its noun's, so that an
  action seen rarely profits from the others with its verb or noun.
- *Memory* over the whole history: every noun has a place in the list of nouns by how recently they
  were handled, or none, and a last verb. Both shift the logits of the noun's actions: the place
  through a bias and a projection of z, the last verb through tables of verb after verb (what was
  opened is closed) and action after verb. Without it, a trained teacher is far behind the count
  teacher (docs/teachers.md).

Where actions are single labels there are logits of actions alone, nothing to factorise, and the
memory is one of actions: see `antcache.teacher.things`.

Letters: B batch, h past actions, D width, C actions, V verbs, O nouns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antcache.annotations import Taxonomy
from antcache.teacher.things import Things
from antcache.teacher.trained import TrainedSettings


class ActionHeads(nn.Module):
    """Logits of the action, verb and noun that come next; see the module."""

    verb_of: Tensor
    noun_of: Tensor
    every_action: Tensor

    def __init__(
        self,
        taxonomy: Taxonomy,
        width: int,
        length: int,
        *,
        factorized: bool = True,
        memory: bool = True,
    ) -> None:
        """Fresh heads.

        Args:
            taxonomy: the C actions.
            width: D, of the state.
            length: h, of the histories.
            factorised: add the logits of verb and noun to the action's.
            memory: add the part that looks at the whole history.
        """
        super().__init__()
        self.paired = taxonomy.paired
        self.factorized, self.memory = factorized and self.paired, memory
        things = Things.of(taxonomy)
        self.sizes = (len(taxonomy.actions), things.verbs, things.nouns)
        actions, verbs, nouns = self.sizes
        # One more of each: "nothing", for the places that a short history leaves empty.
        self.register_buffer("verb_of", torch.tensor([*things.verb_of.tolist(), verbs]), False)
        self.register_buffer("noun_of", torch.tensor([*things.noun_of.tolist(), nouns]), False)
        self.register_buffer("every_action", torch.arange(actions), False)
        self.action_head = nn.Linear(width, actions)
        if self.paired:
            self.verb_head = nn.Linear(width, verbs)
            self.noun_head = nn.Linear(width, nouns)
        nn.init.normal_(self.action_head.weight, std=0.02)
        if memory:
            self.recency_head = nn.Linear(width, length + 1, bias=False)
            self.recency = nn.Parameter(torch.zeros(length + 1))
            self.verb_after = nn.Parameter(torch.zeros(verbs + 1, verbs))
            self.action_after = nn.Parameter(torch.zeros(verbs + 1, actions))

    def tables(self) -> list[nn.Parameter]:
        """The memory's tables: they start at 0, have far to go, and take no weight decay."""
        return [self.recency, self.verb_after, self.action_after] if self.memory else []

    def padded(self, history: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, verbs and nouns (B, h) of `history`, with C, V and O where there is nothing."""
        history = torch.where(history < 0, self.sizes[0], history)
        return history, self.verb_of[history], self.noun_of[history]

    def forward(self, z: Tensor, history: Tensor) -> tuple[Tensor, ...]:
        """Logits (B, C), (B, V) and (B, O) from z (B, D) and `history` (B, h), -1 for nothing.

        Only the first where actions are single labels.
        """
        actions, num_verbs, num_nouns = self.sizes
        pair = [self.verb_head(z), self.noun_head(z)] if self.paired else []
        action = self.action_head(z)
        verb_of, noun_of = self.verb_of[:actions], self.noun_of[:actions]
        if self.factorized:
            action = action + pair[0][:, verb_of] + pair[1][:, noun_of]
        if self.memory:
            _, verbs, nouns = self.padded(history)
            rank, last = recent_nouns(nouns, verbs, num_nouns, num_verbs)
            shift = (self.recency + self.recency_head(z)).gather(1, rank)
            last = last[:, noun_of]
            after = self.verb_after[last, verb_of] + self.action_after[last, self.every_action]
            action = action + shift[:, noun_of] + after
        return (action, *pair)

    def loss(
        self,
        outputs: tuple[Tensor, ...],
        target: Tensor,
        settings: TrainedSettings,
        *,
        class_weight: Tensor | None = None,
    ) -> Tensor:
        """Multi-task cross-entropy, the mean over B; the action's weight is what is left of 1.

        Args:
            outputs: logits of `forward`; of actions alone they have all the weight.
            target: (B,) int64 actions.
            settings: of the cross-entropies.
            class_weight: (C,) weights of the actions, or None.
        """
        for_verb, for_noun = settings.verb_weight, settings.noun_weight
        terms: list[tuple[Tensor, float, Tensor | None]] = [(target, 1.0, class_weight)]
        if self.paired:
            terms = [
                (target, 1 - for_verb - for_noun, class_weight),
                (self.verb_of[target], for_verb, None),
                (self.noun_of[target], for_noun, None),
            ]
        smoothing = settings.label_smoothing
        losses = [
            share * F.cross_entropy(x.float(), y, weight=weight, label_smoothing=smoothing)
            for x, (y, share, weight) in zip(outputs, terms, strict=True)
        ]
        return torch.stack(losses).sum()


def recent_nouns(nouns: Tensor, verbs: Tensor, num_nouns: int, never: int) -> tuple[Tensor, Tensor]:
    """Rank (B, O) of each noun by how recently it was handled, and the last verb done to it.

    Args:
        nouns: (B, h) int64, oldest first, `num_nouns` where there is nothing.
        verbs: (B, h) int64.
        num_nouns: O.
        never: the verb that stands for none.

    Returns:
        Ranks from 0 (the latest noun) up, h for a noun that is not there; verbs, or `never`.
    """
    batch, length = nouns.shape
    same = nouns[:, :, None] == nouns[:, None, :]
    newest = ~same.triu(diagonal=1).any(dim=2) & (nouns < num_nouns)
    place = newest.flip(1).cumsum(1).flip(1) - 1
    # Older mentions go to a column of their own, which is cut off.
    column = torch.where(newest, nouns, num_nouns)
    rank = nouns.new_full((batch, num_nouns + 1), length).scatter(1, column, place)
    last = nouns.new_full((batch, num_nouns + 1), never).scatter(1, column, verbs)
    return rank[:, :num_nouns], last[:, :num_nouns]
