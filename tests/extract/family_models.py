"""A small model of every family, with random weights."""

from __future__ import annotations

import torch
import transformers

SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}
CONV = {"hidden_sizes": [8, 8, 16, 32], "depths": [1, 1, 1, 1]}
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 99}


def lively(model):
    """With weights of the size that training leaves: what a deep network sees fades without it."""
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
            module.momentum = 1.0
    model.train()(pixel_values=torch.randn(8, 3, 32, 32))
    return model


def makers(small):
    """Functions that make a small model of every family, as it is published: with whatever heads it
    has there."""
    t = transformers
    patches = {**small, "patch_size": 8}
    clips = {**patches, "num_frames": 4}
    vivit = {**small, "num_frames": 4, "tubelet_size": [2, 8, 8]}
    prism = {
        **{k: v for k, v in small.items() if k != "num_hidden_layers"},
        **{"num_frames": 4, "tubelet_size": [1, 8, 8]},
        **{"num_spatial_layers": 1, "num_temporal_layers": 1, "num_auxiliary_layers": 1},
    }
    jepa = {
        **{k: v for k, v in patches.items() if k != "image_size"},
        **{"crop_size": 32, "frames_per_clip": 4, "num_pooler_layers": 1},
        **{"pred_hidden_size": 32, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2},
    }
    text = {**TEXT, "intermediate_size": 64}
    words = {**text, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    mit = {"mit_hidden_size": 32, "mit_intermediate_size": 64, "mit_num_attention_heads": 2}
    xclip = {"projection_dim": 32, "prompt_layers": 1, "prompt_num_attention_heads": 2}
    naflex = {**{k: v for k, v in patches.items() if k != "image_size"}, "num_patches": 16}
    hiera = {"embed_dim": 8, "image_size": [32, 32], "depths": [1, 1, 1], "num_heads": [1, 2, 4]}
    hiera |= {"patch_stride": [2, 2], "query_stride": [2, 2], "num_query_pool": 2}
    narrow = {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128}
    return {
        "vit": lambda: t.ViTForImageClassification(t.ViTConfig(**patches)),
        "deit": lambda: t.DeiTForImageClassification(t.DeiTConfig(**patches)),
        "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**patches)),
        "dinov2_with_registers": lambda: t.Dinov2WithRegistersModel(
            t.Dinov2WithRegistersConfig(**patches)
        ),
        "dinov3_vit": lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(**patches, num_register_tokens=2)),
        "dinov3_convnext": lambda: t.DINOv3ConvNextModel(t.DINOv3ConvNextConfig(**CONV)),
        "clip": lambda: t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=patches)),
        "clip_vision_model": lambda: t.CLIPVisionModel(t.CLIPVisionConfig(**patches)),
        "siglip": lambda: t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=patches)),
        "siglip_vision_model": lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**patches)),
        "siglip2": lambda: t.Siglip2Model(t.Siglip2Config(text_config=text, vision_config=naflex)),
        "siglip2_vision_model": lambda: t.Siglip2VisionModel(t.Siglip2VisionConfig(**naflex)),
        "convnext": lambda: t.ConvNextForImageClassification(t.ConvNextConfig(**CONV)),
        "convnextv2": lambda: t.ConvNextV2Model(t.ConvNextV2Config(**CONV)),
        "resnet": lambda: t.ResNetModel(
            t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 32], depths=[1, 1])
        ),
        "efficientnet": lambda: lively(
            t.EfficientNetForImageClassification(t.EfficientNetConfig(**narrow))
        ),
        "mobilenet_v2": lambda: lively(
            t.MobileNetV2ForImageClassification(t.MobileNetV2Config(depth_multiplier=0.35))
        ),
        "swin": lambda: t.SwinForImageClassification(t.SwinConfig(**SWIN, window_size=4)),
        "swinv2": lambda: t.Swinv2Model(t.Swinv2Config(**SWIN, window_size=4)),
        "hiera": lambda: t.HieraForImageClassification(t.HieraConfig(**hiera)),
        "videomae": lambda: t.VideoMAEForVideoClassification(t.VideoMAEConfig(**clips)),
        "timesformer": lambda: t.TimesformerForVideoClassification(t.TimesformerConfig(**clips)),
        "vivit": lambda: t.VivitForVideoClassification(t.VivitConfig(**vivit)),
        "vjepa2": lambda: t.VJEPA2ForVideoClassification(t.VJEPA2Config(**jepa)),
        "videoprism": lambda: t.VideoPrismClipModel(
            t.VideoPrismConfig(text_config=text, vision_config=prism)
        ),
        "videoprism_vision_model": lambda: t.VideoPrismVisionModel(
            t.VideoPrismVisionConfig(**prism)
        ),
        "xclip": lambda: t.XCLIPModel(
            t.XCLIPConfig(text_config=words, vision_config={**clips, **mit}, **xclip)
        ),
    }
