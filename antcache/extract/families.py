"""Which output of which model is the feature, and why.

Promise: this table is the whole of what antcache assumes about model families; the choice does not
depend on the checkpoint, and it is recorded with every stream. A family that is not listed is
refused, because its outputs would have to be guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Family:
    """How the models of one `model_type` are used.

    Attributes:
        model: class in `transformers` that is the vision backbone without heads.
        pooling: `pooler` (the model's own `pooler_output`), `cls` (the first token after the last
            layer) or `mean` (over all tokens after the last layer).
        reason: why that.
        processor: stem of the image processor class where its file names none.
        clip_fps: frames per second of a clip as the published checkpoints were trained; None for
            models that see single frames.
        options: further arguments of the model class.
    """

    model: str
    pooling: str
    reason: str
    processor: str
    clip_fps: float | None = None
    options: dict[str, bool] = field(default_factory=dict)


_NO_POOLER = {"add_pooling_layer": False}
_CLS = "classifiers read this token; many checkpoints have no pooler, which would then be random"
_NORMED_MEAN = "mean over space with the model's trained norm: what its classifier reads"
_NORMED_CLS = "the CLS token with the model's trained last norm"

FAMILIES: dict[str, Family] = {
    "vit": Family(
        model="ViTModel", pooling="cls", reason=_CLS, processor="ViT", options=_NO_POOLER
    ),
    "deit": Family(
        model="DeiTModel", pooling="cls", reason=_CLS, processor="DeiT", options=_NO_POOLER
    ),
    "dinov2": Family(model="Dinov2Model", pooling="pooler", reason=_NORMED_CLS, processor="Bit"),
    "dinov2_with_registers": Family(
        model="Dinov2WithRegistersModel", pooling="pooler", reason=_NORMED_CLS, processor="Bit"
    ),
    "clip": Family(model="CLIPVisionModel", pooling="pooler", reason=_NORMED_CLS, processor="CLIP"),
    "clip_vision_model": Family(
        model="CLIPVisionModel", pooling="pooler", reason=_NORMED_CLS, processor="CLIP"
    ),
    "siglip": Family(
        model="SiglipVisionModel",
        pooling="pooler",
        reason="trained attention pooling; there is no CLS token",
        processor="Siglip",
    ),
    "siglip_vision_model": Family(
        model="SiglipVisionModel",
        pooling="pooler",
        reason="trained attention pooling; there is no CLS token",
        processor="Siglip",
    ),
    "convnext": Family(
        model="ConvNextModel", pooling="pooler", reason=_NORMED_MEAN, processor="ConvNext"
    ),
    "convnextv2": Family(
        model="ConvNextV2Model", pooling="pooler", reason=_NORMED_MEAN, processor="ConvNext"
    ),
    "resnet": Family(
        model="ResNetModel",
        pooling="pooler",
        reason="mean over space: what its classifier reads",
        processor="ConvNext",
    ),
    "swin": Family(model="SwinModel", pooling="pooler", reason=_NORMED_MEAN, processor="ViT"),
    "swinv2": Family(model="Swinv2Model", pooling="pooler", reason=_NORMED_MEAN, processor="ViT"),
    "videomae": Family(
        model="VideoMAEModel",
        pooling="mean",
        reason="there is neither CLS token nor pooler; its classifier reads this mean",
        processor="VideoMAE",
        clip_fps=7.5,  # 16 frames, every 4th of 30 fps
    ),
    "timesformer": Family(
        model="TimesformerModel",
        pooling="cls",
        reason="its classifier reads this token; there is no pooler",
        processor="Timesformer",
        clip_fps=0.9375,  # 8 frames, every 32nd of 30 fps
    ),
    "vivit": Family(
        model="VivitModel",
        pooling="cls",
        reason=_CLS,
        processor="Vivit",
        clip_fps=15.0,  # 32 frames, every 2nd of 30 fps
        options=_NO_POOLER,
    ),
}
