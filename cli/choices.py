"""Fixed values that options take, known without loading the part of the library that they are for.

Promise: each is what the library takes; `tests/cli/test_choices.py` compares them.
"""

from __future__ import annotations

import click

BACKENDS = click.Choice(["zarr", "hdf5"])
DTYPES = click.Choice(["float16", "float32"])
TOKEN_DTYPES = click.Choice(["float16", "float32", "int8"])
ENGINES = click.Choice(["local", "ray"])
MOMENTS = click.Choice(["uniform", "windows"])
DECODERS = click.Choice(["cpu", "nvdec"])

TEACHERS = click.Choice(["count", "sequence", "language", "prompted"])
HISTORIES = click.Choice(["complete", "observed", "gappy"])
HISTORIES_OF_OTHERS = click.Choice(["unknown", "complete", "observed", "gappy"])
FORESIGHTS = click.Choice(["ego4d", "frames"])
MIXES = click.Choice(["mean", "geometric", "stack", "attention"])
EXTRACTORS = click.Choice(["lexicon", "dependency"])
INITS = click.Choice(["pretrained", "random"])
FORMS = click.Choice(["natural", "paper"])
PRECISIONS = click.Choice(["auto", "bfloat16", "float32"])

CLUSTERS = click.Choice(["video", "segment"])
DENOMINATORS = click.Choice(["all", "rulstm", "avt", "unseen"])
CLASSES = click.Choice(["all", "present"])
MIXTURES = click.Choice(["probabilities", "logits"])
CHALLENGES = click.Choice(["ek55", "ek100"])

ARRAY_FORMS = click.Choice(["npy", "npz", "pt", "mat"])
LAYOUTS = click.Choice(["rows-first", "dim-first"])
ROW_TIMES = click.Choice(["end", "middle", "listed"])

STUDENT_FORMS = click.Choice(["safetensors", "onnx", "torch-export"])
