"""Which output of which model is the feature, and why.

Promise: this table is the whole of what antcache assumes about model families; the choice does not
depend on the checkpoint, and it is recorded with every stream. A family that is not listed is
refused, because its outputs would have to be guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Family:
    """How the models of one `model_type` are used.

    Attributes:
        model: class in `transformers` that is the vision backbone without heads.
        pooling: `pooler` (the model's own `pooler_output`), `cls` (the first token after the last
            layer) or `mean` (over all tokens after the last layer).
        reason: why that.
        processor: stem of the image processor class where its file names none.
        frames: the setting of the model that says of how many frames a clip is; empty for models
            that see single frames.
        clip_fps: frames per second of a clip as the published checkpoints were trained; None for
            single frames, and where nothing published says it.
        options: further arguments of the model class.
        method: what is called, where it is not the model itself.
        pixels: name of the argument that takes the pixels.
        call: further arguments of each call.
        patches: whether it takes pictures cut into patches, of any shape.
        lead: tokens of its last layer that are of no place, before those of the grid: CLS and the
            like; registers, which its settings count, aside.
        order: how the others follow one another: by time, height and width, by height, width and
            time, or as the model unrolled them.
        no_grid: why it has no grid of tokens; empty where it has one.
        predicts: whether it predicts tokens of the future.
    """

    model: str
    pooling: str
    reason: str
    processor: str
    frames: str = ""
    clip_fps: float | None = None
    options: dict[str, bool] = field(default_factory=dict)
    method: str = ""
    pixels: str = "pixel_values"
    call: dict[str, bool] = field(default_factory=dict)
    patches: bool = False
    lead: int = 0
    order: Literal["time_first", "space_first", "unrolled"] = "time_first"
    no_grid: str = ""
    predicts: bool = False


_NO_POOLER = {"add_pooling_layer": False}
_CLS = "classifiers read this token; many checkpoints have no pooler, which would then be random"
_NORMED_MEAN = "mean over space with the model's trained norm: what its classifier reads"
_NORMED_CLS = "the CLS token with the model's trained last norm"
_MEAN = "mean over space: what its classifier reads"
_NO_POOLED_TOKEN = "there is neither CLS token nor pooler: published probes attend to these tokens"

_CLIP = Family(
    model="CLIPVisionModel", pooling="pooler", reason=_NORMED_CLS, processor="CLIP", lead=1
)
_SIGLIP = Family(
    model="SiglipVisionModel",
    pooling="pooler",
    reason="trained attention pooling; there is no CLS token",
    processor="Siglip",
)
_SIGLIP2 = replace(
    _SIGLIP,
    model="Siglip2VisionModel",
    processor="Siglip2",
    patches=True,
    no_grid="its grid changes with the shape of the pictures",
)
_DINOV2 = Family(model="Dinov2Model", pooling="pooler", reason=_NORMED_CLS, processor="Bit", lead=1)

FAMILIES: dict[str, Family] = {
    "vit": Family(
        model="ViTModel", pooling="cls", reason=_CLS, processor="ViT", options=_NO_POOLER, lead=1
    ),
    "deit": Family(
        model="DeiTModel",
        pooling="cls",
        reason=_CLS,
        processor="DeiT",
        options=_NO_POOLER,
        lead=2,  # its distillation token is the second
    ),
    "dinov2": _DINOV2,
    "dinov2_with_registers": replace(_DINOV2, model="Dinov2WithRegistersModel"),
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "siglip2": _SIGLIP2,
    "siglip2_vision_model": _SIGLIP2,
    "dinov3_vit": Family(
        model="DINOv3ViTModel", pooling="pooler", reason=_NORMED_CLS, processor="DINOv3ViT", lead=1
    ),
    "dinov3_convnext": Family(
        model="DINOv3ConvNextModel",
        pooling="pooler",
        reason=_NORMED_MEAN,
        processor="DINOv3ViT",
        lead=1,  # the mean, normed
    ),
    "convnext": Family(
        model="ConvNextModel", pooling="pooler", reason=_NORMED_MEAN, processor="ConvNext"
    ),
    "convnextv2": Family(
        model="ConvNextV2Model", pooling="pooler", reason=_NORMED_MEAN, processor="ConvNext"
    ),
    "resnet": Family(model="ResNetModel", pooling="pooler", reason=_MEAN, processor="ConvNext"),
    "efficientnet": Family(
        model="EfficientNetModel", pooling="pooler", reason=_MEAN, processor="EfficientNet"
    ),
    "mobilenet_v2": Family(
        model="MobileNetV2Model", pooling="pooler", reason=_MEAN, processor="MobileNetV2"
    ),
    "swin": Family(model="SwinModel", pooling="pooler", reason=_NORMED_MEAN, processor="ViT"),
    "swinv2": Family(model="Swinv2Model", pooling="pooler", reason=_NORMED_MEAN, processor="ViT"),
    "hiera": Family(
        model="HieraModel",
        pooling="pooler",
        reason=_NORMED_MEAN,
        processor="Bit",
        order="unrolled",
    ),
    "timm_wrapper": Family(
        model="TimmWrapperModel",
        pooling="pooler",
        reason="what its classifier reads",
        processor="TimmWrapper",
        call={"do_pooling": True},
    ),
    "videomae": Family(
        model="VideoMAEModel",
        pooling="mean",
        reason="there is neither CLS token nor pooler; its classifier reads this mean",
        processor="VideoMAE",
        frames="num_frames",
        clip_fps=7.5,  # 16 frames, every 4th of 30 fps
    ),
    "timesformer": Family(
        model="TimesformerModel",
        pooling="cls",
        reason="its classifier reads this token; there is no pooler",
        processor="Timesformer",
        frames="num_frames",
        clip_fps=0.9375,  # 8 frames, every 32nd of 30 fps
        lead=1,
        order="space_first",
    ),
    "vivit": Family(
        model="VivitModel",
        pooling="cls",
        reason=_CLS,
        processor="Vivit",
        frames="num_frames",
        clip_fps=15.0,  # 32 frames, every 2nd of 30 fps
        options=_NO_POOLER,
        lead=1,
    ),
    "vjepa2": Family(
        model="VJEPA2Model",
        pooling="mean",
        reason=_NO_POOLED_TOKEN,
        processor="VJEPA2",
        frames="frames_per_clip",
        clip_fps=4.0,
        pixels="pixel_values_videos",
        call={"skip_predictor": True},
        predicts=True,
    ),
    "videoprism": Family(
        model="VideoPrismClipModel",
        pooling="pooler",
        reason="trained attention pooling: what is compared with texts",
        processor="LlavaOnevision",
        frames="vision_config.num_frames",
        pixels="pixel_values_videos",
        method="get_video_features",
    ),
    "videoprism_vision_model": Family(
        model="VideoPrismVisionModel",
        pooling="mean",
        reason=_NO_POOLED_TOKEN,
        processor="LlavaOnevision",
        frames="num_frames",
        pixels="pixel_values_videos",
    ),
    "xclip": Family(
        model="XCLIPModel",
        pooling="pooler",
        reason="mean over frames that have seen one another: what is compared with texts",
        processor="VideoMAE",
        frames="vision_config.num_frames",
        clip_fps=0.8,  # 8 frames of videos of 10 s
        method="get_video_features",
        no_grid="its frames see one another through one token each",
    ),
}
