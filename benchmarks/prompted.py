"""What does a segment cost a decoder that is asked for the name of every action?

    python benchmarks/prompted.py [--record] [--model M] [--texts N] [--device D]

Without `--model`, a decoder made from its config with random weights, for what it costs alone: two
layers 128 wide, with a tokenizer trained on the action names of
EPIC-KITCHENS-55. With `--model`, that one, a hub id or a folder. Processor seconds for a text of
five past actions and all names of the dataset, which equal texts share; and what it costs if the
past is computed anew for each name, over that (ratio, on the smallest model).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import Figure, finish
from teacher_runs import EK55, timeline

from antcache.teacher.base import make_teacher
from antcache.teacher.histories import Examples, HistoryConfig
from antcache.teacher.language.text import action_texts

SIZES = {"2 layers, 128 wide": (2, 128, 4)}


def decoder(folder: Path, layers: int, width: int, heads: int, texts: list[str]) -> Path:
    """A decoder with random weights, and a tokenizer of the words of `texts`, in `folder`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([f" {text}," for text in texts], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<|end|>")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=width, n_layer=layers, n_head=heads, n_positions=256
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def asked(count: int) -> Examples:
    """The first histories of five actions of the validation split, each another text."""
    line = timeline(EK55)
    examples = line.examples(HistoryConfig(), 20)[line.split == "validation"]
    full = np.flatnonzero((examples.history[:, -5:] >= 0).all(axis=1))
    _, first = np.unique(examples.history[full, -5:], axis=0, return_index=True)
    return examples[full[np.sort(first)[:count]]]


def measure(name: str, model: str, count: int, device: str) -> tuple[list[Figure], Any]:
    """Seconds a text of a model, on average over `count` texts."""
    teacher: Any = make_teacher(
        "prompted", timeline(EK55).taxonomy, {"model": model, "precision": "float32"}, device=device
    )
    examples = asked(count)
    teacher.fit(examples)
    teacher.predict(examples[:1])  # warm
    teacher.fit(examples)  # forgets what it said
    # On a GPU its own time counts, not that of the process which waits for it.
    clock = time.process_time if teacher.device.type == "cpu" else time.perf_counter
    began = clock()
    teacher.predict(examples)
    seconds = (clock() - began) / len(examples)
    tokens = sum(map(len, teacher._names.tokens))
    print(f"{name}: {seconds:.2f} s a text, {tokens} tokens of names", flush=True)
    made = [Figure(figure=f"{name}: a text", value=round(seconds, 3), unit="s", n=len(examples))]
    return made, (teacher, examples, seconds)


def anew(teacher: Any, examples: Examples) -> float:
    """Processor seconds of a text if the past is computed anew for each name."""
    names, text = teacher._names, examples.history[0, -5:]
    prefix = names.prefix(text)
    began = time.process_time()
    with torch.inference_mode():
        for rows in torch.split(names.order, teacher.config.batch):
            own = [torch.tensor([*prefix, *names.tokens[int(i)]]) for i in rows]
            ids = torch.nn.utils.rnn.pad_sequence(own, batch_first=True).to(teacher.device)
            teacher._model(ids).logits.logsumexp(2)
    return time.process_time() - began


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--model", help="a decoder: hub id or folder")
    parser.add_argument("--texts", type=int, default=3, help="texts that are scored")
    parser.add_argument("--device", default="cpu", help="torch device")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.model:
        made, _ = measure(arguments.model, arguments.model, arguments.texts, arguments.device)
        finish("prompted", made, record=arguments.record)
        return
    texts = action_texts(timeline(EK55).taxonomy, "natural")
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (layers, width, heads) in SIZES.items():
            model = decoder(Path(folder) / name, layers, width, heads, texts)
            own, (teacher, examples, seconds) = measure(
                name, str(model), arguments.texts, arguments.device
            )
            made += own
            if name == next(iter(SIZES)):
                ratio = anew(teacher, examples) / seconds
                made.append(
                    Figure(
                        figure=f"{name}: the past anew for each name, over once",
                        value=round(ratio, 2),
                        unit="ratio",
                        n=1,
                    )
                )
    finish("prompted", made, record=arguments.record)


if __name__ == "__main__":
    main()
