"""Language models of transformers: from the hub or a folder, whole, and without any pickle.

Promise: whatever is wrong with a checkpoint is one clear error; weights that are missing are never
made up unasked; after `fetch`, nothing is asked of the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from antcache.errors import BadConfig, NotFound, needs
from antcache.hub import check_folder, check_size, find_folder, in_one_line, quiet
from antcache.teacher.language.config import ModelSettings
from antcache.teacher.language.text import add_marks

PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors")
"""Files of a hub id that are downloaded: settings, tokenizer and weights; no pickles."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def import_transformers() -> Any:
    """The package transformers.

    Raises:
        MissingExtra: it is not installed.
    """
    with needs("transformers", "teacher"):
        import transformers
    return transformers


def fetch(name: str, revision: str | None = None) -> Path:
    """The folder with a model's files; those of a hub id are downloaded, or in the cache.

    Raises:
        NotFound: there is neither such a folder nor such a model, or the hub can't be reached.
        MissingExtra: transformers is not installed.
    """
    import_transformers()
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise NotFound(
                "no config.json",
                where=folder,
                expected="the folder of a transformers model",
                hint="an adapted model is the folder that `antcache teacher adapt` wrote",
            )
        return folder
    expected = "the folder of a transformers model, or a hub id such as bert-base-uncased"
    return find_folder(
        name, PATTERNS, kind=NotFound, expected=expected, extra="teacher", revision=revision
    )


def read_settings(folder: Path) -> tuple[Any, Any]:
    """Settings and tokenizer of the model in `folder`.

    Raises:
        BadConfig: they can't be read, or the model is not one that reads a text.
    """
    transformers = import_transformers()
    own = {"local_files_only": True, "trust_remote_code": False}  # else it would ask on stdin
    with _used(folder):
        check_folder(folder)
        config = transformers.AutoConfig.from_pretrained(folder, **own)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **own)
        if config.is_encoder_decoder:
            raise BadConfig(
                "not a model of one text",
                where=folder,
                expected="an encoder or a decoder",
                found=f"{config.model_type}, an encoder with a decoder",
            )
    return config, tokenizer


def is_causal(config: Any) -> bool:
    """Whether a token sees only those before it: then the last one knows most."""
    from transformers.models.auto import modeling_auto

    return bool(getattr(config, "is_decoder", False)) or (
        config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and config.model_type not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )


def load_model(folder: Path, config: Any, *, auto: str = "AutoModel") -> tuple[Any, list[str]]:
    """The model in `folder` with its weights, float32, on the CPU.

    Args:
        folder: with config.json and model.safetensors (or several, with an index).
        config: as from `read_settings`.
        auto: which of transformers' Auto classes makes it.

    Returns:
        The model, and the names of weights that are new, of torch's random state: those of a pooler
        (which nobody looks at) and, with a head on top, those of the head.

    Raises:
        BadConfig: other weights are missing, or they are of another shape, damaged, or a pickle.
    """
    transformers = import_transformers()
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
        raise BadConfig(
            "the weights are a pickle, which is not read" if pickles else "no weights",
            where=folder,
            expected="model.safetensors",
            found=pickles[0] if pickles else "nothing",
            hint="convert them to safetensors, or name a revision that has them"
            if pickles
            else "fetch them, or train from random weights",
        )
    with _used(folder):
        made_by = getattr(transformers, auto)
        check_size(lambda: made_by.from_config(config), [*folder.glob("*.safetensors")])
        model, info = made_by.from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
        )
        body = "" if auto == "AutoModel" else f"{model.base_model_prefix}."
        new = sorted(info["missing_keys"])
        absent = [n for n in new if n.startswith(body) and not n.startswith(f"{body}pooler.")]
        if absent:
            raise BadConfig(
                "weights are missing from the checkpoint",
                where=folder,
                found=f"{len(absent)}, such as {absent[0]}",
            )
    return model, new


def new_model(
    folder: Path, config: Any, *, auto: str = "AutoModel", weights: Path | None = None
) -> Any:
    """The model in `folder` with new weights, of torch's random state.

    With `weights`, the file that they will be taken from, it may not be much larger than that.
    """
    transformers = import_transformers()
    with _used(folder):
        make = getattr(transformers, auto).from_config
        if weights is not None:
            check_size(lambda: make(config), [weights])
        return make(config, dtype=torch.float32)


def open_model(
    config: ModelSettings, form: str, *, auto: str = "AutoModel"
) -> tuple[Any, Any, list[str]]:
    """The model that settings name, its tokenizer, and which weights of the checkpoint are new.

    The tokenizer has the marks of the paper's `form`; the model may not have room for them yet.

    Raises:
        BadConfig: the model can't be used.
        NotFound: there is no such model.
    """
    folder = fetch(config.model, config.revision)
    settings, tokenizer = read_settings(folder)
    if form == "paper":
        add_marks(tokenizer)
    if config.init == "random":
        return new_model(folder, settings, auto=auto), tokenizer, []
    model, new = load_model(folder, settings, auto=auto)
    return model, tokenizer, new


@contextmanager
def _used(folder: Path) -> Iterator[None]:
    """Transformers says nothing, and whatever it raises about a model becomes `BadConfig`."""
    what = "the language model can't be used"
    with quiet(import_transformers()), in_one_line(folder, BadConfig, what):
        yield
