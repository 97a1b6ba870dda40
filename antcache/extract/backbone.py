"""Frozen vision models of `transformers`, from a hub id or a local folder, as one function.

Promise: a backbone is evaluated as it was published: all weights come from the checkpoint (a
missing one is an error, never a random one), no dropout, no gradients, float32 on the CPU and bf16
autocast on a GPU. What can't be used raises `UnknownBackbone` in one line. Weights are read as
safetensors, or as `.bin` without unpickling code. No code of a repository is ever run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antcache.devices import pick_device
from antcache.errors import UnknownBackbone, needs
from antcache.extract.families import FAMILIES, Family
from antcache.extract.own import FACTORY, TriedBackbone, load_own
from antcache.extract.preprocess import Preprocessing
from antcache.extract.timm_folder import timm_processor
from antcache.extract.token_grid import token_grid
from antcache.hub import check_folder, check_size, find_folder, first_line, in_one_line, quiet
from antcache.store.format import fingerprint
from antcache.store.tokens import Grid
from antcache.untrusted import read_json

SAFETENSORS = ("model.safetensors", "model-*-of-*.safetensors")
BINARIES = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")
MOST_FRAMES = 1024
"""Of a clip: models see up to 64; some could take any number, all of which are held at once."""
PROCESSOR_FILES = (  # file, and where in it the settings are
    ("preprocessor_config.json", ()),
    ("video_preprocessor_config.json", ()),
    ("processor_config.json", ("image_processor", "video_processor")),
)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A loaded model; call it with pixels to get features.

    Attributes:
        name: hub id or folder, as it was asked for.
        family: how models of this kind are used.
        model: the `transformers` model, frozen.
        preprocessing: from pictures to pixels.
        device: where the model is.
        num_frames: frames T per feature; 1 for models that see single frames.
        dim: width D of a feature, or of a token.
        config: what determines the features, JSON-ready: family, model settings, weights, pooling,
            preprocessing.
        grid: tokens of its last layer in time, height and width; None where they are no grid.
    """

    name: str
    family: Family
    model: Any
    preprocessing: Preprocessing
    device: torch.device
    num_frames: int
    dim: int
    config: dict[str, Any]
    grid: Grid | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        """Features (B, D) float32 of pixels (B, T, 3, height, width) float32."""
        with _inference(pixels):
            return _pooled(_output(self.model, self.family, pixels), self.family)

    def tokens(self, pixels: Tensor, ahead: Sequence[int] = ()) -> Tensor:
        """Tokens (B, K, D) float32 of pixels: its grid's, in the order of time, height and width.

        Args:
            pixels: (B, T, 3, height, width) float32.
            ahead: for each predicted future, how many tokens of time lie between it and the last of
                the grid; of each, height x width tokens follow. Only where `predicts`.
        """
        assert self.grid is not None
        with _inference(pixels):
            hidden = _output(self.model, self.family, pixels).last_hidden_state
            grid = token_grid(hidden, pixels, self.model, self.family)
            if grid is None or tuple(grid.shape[1:4]) != self.grid:
                raise UnknownBackbone(
                    "its tokens are another grid than those of its first pictures", where=self.name
                )
            futures = [_predicted(self.model, hidden, self.grid, steps) for steps in ahead]
            return torch.cat([grid.flatten(1, 3), *futures], dim=1).float()

    @property
    def predicts(self) -> bool:
        """Whether it predicts tokens of the future."""
        return self.family.predicts

    @property
    def no_grid(self) -> str:
        """Why it has no grid of tokens."""
        return self.family.no_grid or "its tokens are not one for each place of a grid"

    def preprocess(self, pictures: Tensor) -> Tensor:
        """Pixels (B, 3, height, width) float32 of pictures (B, H, W, 3) uint8."""
        return self.preprocessing(pictures)

    @property
    def prepare(self) -> Callable[[Tensor], Tensor]:
        """The part of `preprocess` that needs no model; it can be pickled."""
        return self.preprocessing.levels

    def finish(self, prepared: Tensor) -> Tensor:
        """Pixels (B, T, 3, height, width), on the device, of clips of what `prepare` gives."""
        if self.device.type == "cuda" and not prepared.is_cuda:
            prepared = prepared.pin_memory()  # so that copying waits for no earlier batch
        return self.preprocessing.normalised(prepared.to(self.device, non_blocking=True))

    @property
    def clip_fps(self) -> float | None:
        """Frames per second within a clip, as its family was trained; None for single frames."""
        return self.family.clip_fps

    @property
    def precision(self) -> str:
        """What the model computes in."""
        return "bfloat16" if self.device.type == "cuda" else "float32"


def load_backbone(name: str | Path, *, device: str = "auto") -> Backbone | TriedBackbone:
    """Load a backbone by hub id or local folder, or one's own by module and factory.

    Args:
        name: e.g. `facebook/dinov2-small`, or a folder with `config.json`, weights and
            `preprocessor_config.json`, or `package.module:factory` (`antcache.extract.own`).
        device: `auto` (a CUDA GPU if there is one, else the CPU), `cpu`, `cuda`, `cuda:1`, ...

    Raises:
        UnknownBackbone: it can't be found or loaded, lacks weights, or is of an unknown kind.
        BadConfig: there is no such device.
        MissingExtra: transformers is not installed.
    """
    place = pick_device(device)
    if FACTORY.fullmatch(str(name)) and not Path(name).is_dir():
        return load_own(str(name), place)
    with needs("transformers", "extract"):
        import transformers

    folder = _folder(str(name))
    settings = _read_json(folder / "config.json", "is it the folder of a transformers model?")
    # timm's own folders don't name their type; this is how transformers tells them.
    kind = settings.get("model_type") or ("timm_wrapper" if "pretrained_cfg" in settings else None)
    if kind not in FAMILIES:
        raise UnknownBackbone(
            "not a vision model that antcache knows",
            where=name,
            expected=", ".join(FAMILIES),
            found=kind,
        )
    family = FAMILIES[kind]
    if not hasattr(transformers, family.model):
        raise UnknownBackbone(
            f"models of the type {kind} need a newer transformers",
            where=name,
            expected=f"a version with {family.model}",
            found=transformers.__version__,
            hint="pip install --upgrade transformers",
        )
    if kind == "timm_wrapper":
        file, found = folder / "config.json", timm_processor(settings, folder)
    else:
        file, found = _processor_config(folder)
    preprocessing = Preprocessing.from_config(found, where=file, default_type=family.processor)
    weights = _weight_files(folder)
    kind_of_model = getattr(transformers, family.model)
    with quiet(transformers), in_one_line(name, UnknownBackbone):
        check_folder(folder)
        stated = kind_of_model.config_class.from_pretrained(folder, local_files_only=True)
        check_size(lambda: kind_of_model(stated), weights)
        num_frames = int(attrgetter(family.frames)(stated)) if family.frames else 1
        if not 1 <= num_frames <= MOST_FRAMES:
            raise ValueError(f"clips of {num_frames} frames, not 1 to {MOST_FRAMES}")
        model, info = kind_of_model.from_pretrained(
            folder,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=weights[0].suffix == ".safetensors",
            trust_remote_code=False,
            dtype=torch.float32,
            **family.options,
        )
        absent = sorted(info["missing_keys"])
        if absent:
            raise UnknownBackbone(
                "weights are missing from the checkpoint, they would be random",
                where=name,
                found=f"{len(absent)}, such as {absent[0]}",
            )
    model.eval().requires_grad_(False).to(place)
    # A trial, so that what does not fit together is found before any video.
    with in_one_line(name, UnknownBackbone):
        trial = torch.zeros(1, num_frames, 3, *preprocessing.out, device=place)
        with _inference(trial):
            out = _output(model, family, trial)
            dim = _pooled(out, family).shape[1]
            tokens = token_grid(out.last_hidden_state, trial, model, family)
    aside = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
    config = {
        "family": kind,
        "model": fingerprint({k: v for k, v in settings.items() if k not in aside}),
        "weights": _hash(weights),
        "pooling": family.pooling,
        "preprocessing": preprocessing.to_dict(),
    }
    return Backbone(
        name=str(name),
        family=family,
        model=model,
        preprocessing=preprocessing,
        device=place,
        num_frames=num_frames,
        dim=dim,
        config=config,
        grid=None if tokens is None else (tokens.shape[1], tokens.shape[2], tokens.shape[3]),
    )


@contextmanager
def _inference(pixels: Tensor) -> Iterator[None]:
    """No gradients; bf16 where the pixels are on a GPU."""
    on_gpu = pixels.device.type == "cuda"
    with (
        torch.inference_mode(),
        torch.autocast("cuda", torch.bfloat16) if on_gpu else nullcontext(),
    ):
        yield


def _output(model: Any, family: Family, pixels: Tensor) -> Any:
    """What the model says of pixels (B, T, 3, height, width)."""
    given = pixels if family.frames else pixels[:, 0]
    arguments = cut(given, model.config.patch_size) if family.patches else {}
    compute = getattr(model, family.method) if family.method else model
    return compute(**{family.pixels: given, **arguments, **family.call})


def _pooled(out: Any, family: Family) -> Tensor:
    """Features (B, D) float32 out of what a model says."""
    if family.pooling == "pooler":
        features = out.pooler_output.flatten(1)
    elif family.pooling == "cls":
        features = out.last_hidden_state[:, 0]
    else:
        features = out.last_hidden_state.mean(1)
    result: Tensor = features.float()
    return result


def _predicted(model: Any, hidden: Tensor, grid: Grid, steps: int) -> Tensor:
    """Tokens (B, height * width, D) that V-JEPA 2's predictor gives for one future.

    As in its published evaluation: it sees all tokens of the encoder (B, N, D), and is asked for
    the positions from `N + height * width * steps` on.
    """
    count, plane = hidden.shape[1], grid[1] * grid[2]
    positions = torch.arange(count + plane * (steps + 1), device=hidden.device)
    positions = positions.expand(len(hidden), -1)
    out = model.predictor(
        encoder_hidden_states=hidden,
        context_mask=[positions[:, :count]],
        target_mask=[positions[:, count + plane * steps :]],
    )
    predicted: Tensor = out.last_hidden_state
    return predicted


def cut(pixels: Tensor, patch: int) -> dict[str, Tensor]:
    """Pictures (B, 3, height, width) as models of any shape take them: in patches, row by row.

    `pixel_values` (B, N, patch * patch * 3), their grid (B, 2), and no padding.
    """
    count, channels, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    grid = pixels.reshape(count, channels, rows, patch, columns, patch)
    patches = grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    shape = pixels.new_tensor((rows, columns), dtype=torch.long)
    return {
        "pixel_values": patches,
        "spatial_shapes": shape.expand(len(pixels), 2),
        "pixel_attention_mask": torch.ones(
            patches.shape[:2], dtype=torch.long, device=pixels.device
        ),
    }


def _folder(name: str) -> Path:
    """The folder with the model's files; those of a hub id are downloaded, or in the cache."""

    def found(weights: tuple[str, ...]) -> Path:
        expected = "a folder with config.json, or a hub id such as facebook/dinov2-small"
        patterns = ("*.json", *weights)
        return find_folder(name, patterns, kind=UnknownBackbone, expected=expected, extra="extract")

    folder = found(SAFETENSORS)
    return folder if _matching(folder, SAFETENSORS) else found(BINARIES)


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted(file for pattern in patterns for file in folder.glob(pattern))


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, as transformers chooses them."""
    files = _matching(folder, SAFETENSORS) or _matching(folder, BINARIES)
    if not files:
        raise UnknownBackbone("no weights", where=folder, expected=" or ".join(SAFETENSORS[:1]))
    return files


def _processor_config(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The image processor's file and settings."""
    for name, sections in PROCESSOR_FILES:
        file = folder / name
        if not file.is_file():
            continue
        settings = _read_json(file, "fetch it again")
        if not sections:
            return file, settings
        for section in sections:
            if isinstance(settings.get(section), dict):
                return file, settings[section]
    raise UnknownBackbone(
        "no preprocessor_config.json, so its resizing and normalisation are unknown",
        where=folder,
        hint="copy it from the model's repository; every vision model on the hub has one",
    )


def _read_json(file: Path, hint: str) -> dict[str, Any]:
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        found = "nothing" if isinstance(error, FileNotFoundError) else first_line(error)
        raise UnknownBackbone(
            f"no readable {file.name}", where=file.parent, found=found, hint=hint
        ) from error
    if not isinstance(content, Mapping):
        raise UnknownBackbone("not a JSON object", where=file, hint=hint)
    return dict(content)


def _hash(files: list[Path]) -> str:
    """BLAKE2b over the bytes of the weight files, in the order of their names."""
    total = hashlib.blake2b(digest_size=16)
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                total.update(block)
    return f"blake2b:{total.hexdigest()}"
