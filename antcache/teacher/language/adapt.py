"""Domain adaptation: masked-LM training of an encoder on the recipe corpus.

Promise: the output is an ordinary folder of transformers with `adapt.json` beside the weights, and
appears all at once; a training that was stopped is taken up where it was last saved, and on a CPU
ends with the same weights. The marks of the paper's form are tokens of their own in the tokenizer.
(Ghosh et al. 2023 adapt on Recipe1M: 200,000 steps, 15 % of the tokens masked.)

A checkpoint without a masked-LM head, such as a sentence encoder, gets a new one whose decoder is
its table of embeddings; the log says so, and its perplexity before the training is of no meaning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from antcache import __version__
from antcache.devices import pick_device
from antcache.errors import AlreadyExists, BadConfig
from antcache.files import FolderKind, atomic_folder
from antcache.files.disk import remove_folder
from antcache.files.locks import exclusively, lock_beside
from antcache.hub import quiet
from antcache.progress import Progress, silent
from antcache.teacher.language.checkpoint import import_transformers, open_model
from antcache.teacher.language.config import AdaptConfig
from antcache.teacher.language.masked import MaskedTraining
from antcache.teacher.language.network import resize, token_limit
from antcache.teacher.language.recipes import Masker, Pieces, Recipe
from antcache.teacher.language.text import ActionTokens
from antcache.teacher.training import random_state
from antcache.tensors import system_errors
from antcache.untrusted import read_json

log = logging.getLogger(__name__)

REPORT_FILE = "adapt.json"
STATE_FILE = "training.safetensors"
OUTPUT = FolderKind(what="an adapted model", mark=REPORT_FILE)


def adapt(
    train: Iterable[Recipe],
    held_out: Iterable[Recipe],
    config: AdaptConfig,
    output: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a model on recipes and write it to `output`.

    Args:
        train: recipes to train on: verb and object of each step.
        held_out: recipes that the perplexity is measured on, before and after.
        config: see `AdaptConfig`.
        output: the folder that is made.
        device: torch device.
        resume: take up a training of this `output` that was stopped, if there is one; one that is
            finished is only read.
        overwrite: replace an adapted model that is there, and forget a stopped training.
        progress: called with steps done.

    Returns:
        What `adapt.json` holds: settings, counts, `perplexity_before` and `perplexity_after` over
        the masked tokens of the held-out recipes (equal masks), seconds, version.

    Raises:
        AlreadyExists: `output` is there, or a stopped training of it is and `resume` is false, or
            another process is training it.
        WriteFailed: the disk refused.
        BadConfig: the model can't be used, or there are no recipes.
        BadCheckpoint: the stopped training is another one, or damaged.
        NotFound: there is no such model.
    """
    work = output.with_name(f".{output.name}.adapting")
    with exclusively(lock_beside(output), "another process is training it", where=output):
        finished = _report(output) if resume and not overwrite else None
        if finished is None:
            _check_output(output, work, resume=resume, overwrite=overwrite)
        started = time.perf_counter()
        run, pieces, measured, facts = _prepare(train, held_out, config, device)
        if finished is not None:
            asked = {"config": asdict(config), **facts}
            if any(finished.get(name) != value for name, value in asked.items()):
                OUTPUT.check(output)  # it is another one, and in the way
            log.info("the training was already finished")
            remove_folder(work)
            return finished
        log.info("adapting %s: %s", config.model, json.dumps(facts))
        before = run.perplexity(measured)
        log.info("step 0: held-out perplexity %.3f", before)
        if resume and (work / STATE_FILE).is_file():
            run.load(work / STATE_FILE, facts)
            log.info("taken up at step %d", run.step)
        run.train(pieces, work / STATE_FILE, facts, progress)
        after = run.perplexity(measured)
        log.info("step %d: held-out perplexity %.3f", run.step, after)
        report = {
            "config": asdict(config),
            **facts,
            "perplexity_before": before,
            "perplexity_after": after,
            "seconds": time.perf_counter() - started,
            "antcache": __version__,
        }
        with atomic_folder(output, OUTPUT, overwrite=overwrite) as staged:
            with quiet(import_transformers()), system_errors(staged):
                run.model.save_pretrained(staged)
                run.masker.tokenizer.save_pretrained(staged)
            (staged / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        remove_folder(work)
    return report


def _prepare(
    train: Iterable[Recipe], held_out: Iterable[Recipe], config: AdaptConfig, device: str
) -> tuple[MaskedTraining, Pieces, Pieces, dict[str, Any]]:
    """The training, what it is trained on and measured on, and what the report says of these."""
    place = pick_device(device)
    known: dict[str, int] = {}
    pieces = Pieces.of(train, config.form, config.actions, known)
    measured = Pieces.of(held_out, config.form, config.actions, known)
    for part, what in ((pieces, "train on"), (measured, "measure perplexity on")):
        if not len(part):
            raise BadConfig(f"there are no recipes to {what}")
    with random_state(place, config.seed):
        model, tokenizer, new = open_model(config, config.form, auto="AutoModelForMaskedLM")
        if new:
            log.info("new weights: %s (the rest of the head is tied)", ", ".join(new))
        resize(model, len(tokenizer))
    model.to(place)
    tokens = ActionTokens.of(tokenizer, tuple(known), config.form, token_limit(model))
    run = MaskedTraining(model, Masker(tokenizer, tokens, config.mask), config, place)
    facts = {
        "recipes": pieces.recipes,
        "held_out_recipes": measured.recipes,
        "texts": len(pieces),
        "actions": len(pieces.actions),
        "distinct_actions": len(known),
        "fingerprint": _fingerprint(pieces, known),
    }
    return run, pieces, measured, facts


def _fingerprint(pieces: Pieces, known: Iterable[str]) -> str:
    """Of the texts that are trained on, in their order."""
    total = hashlib.blake2b(json.dumps(list(known)).encode(), digest_size=16)
    total.update(pieces.actions.tobytes())
    total.update(pieces.starts.tobytes())
    return total.hexdigest()


def _report(output: Path) -> dict[str, Any] | None:
    """What a finished training says of itself; None if there is none."""
    try:
        found = read_json(output / REPORT_FILE)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _check_output(output: Path, work: Path, *, resume: bool, overwrite: bool) -> None:
    OUTPUT.check(output, overwrite=overwrite)
    if overwrite and not resume:
        remove_folder(work)
    if (work / STATE_FILE).exists() and not resume:
        raise AlreadyExists(
            "a training of this output was stopped",
            where=work,
            hint="--resume takes it up, --overwrite starts anew",
        )
