"""Models that see: a tower of patches and a projector in front of a decoder.

The decoder is that of the text's own model type; the tower is ``numbers["vision"]``, a stack as
any other, and the projector a count of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Config = Mapping[str, Any]
Numbers = dict[str, Any]
Text = Callable[[Config], Numbers]

QWEN_VL_QUERIES = 256  # visual.py: n_queries, and the rows of its table of positions


def text_config(config: Config, kind: str) -> dict[str, Any]:
    """The decoder's config: a section of its own, or the same level."""
    inner = config.get("text_config")
    own = dict(inner) if isinstance(inner, Mapping) else dict(config)
    own["model_type"] = kind
    if "tie_word_embeddings" in config:
        own["tie_word_embeddings"] = config["tie_word_embeddings"]
    return own


def _tower(
    hidden: int, depth: int, heads: int, ffn: int, own: Mapping[str, Any], **layer: int
) -> Numbers:
    """A stack of plain attention layers with biases."""
    each = {
        "heads": heads, "kv_heads": heads, "head_dim": hidden // heads, "ffn": ffn, "gated": 0,
        "fused_qkv": 1, "qkv_bias": 1, "out_bias": 1, "mlp_bias": 1, **layer,
    }  # fmt: skip
    stack = {"norm": "layer", "norm_bias": 1, "final_norms": 0, **own}
    return {"hidden": hidden, **stack, "kinds": [each], "pattern": bytes(depth)}


def _patches(vision: Config, hidden: int, frames: int, bias: bool) -> int:
    """Parameters of the convolution that makes patches."""
    side = vision.get("patch_size", 14)
    return int(vision.get("in_channels", 3) * frames * side * side * hidden + bias * hidden)


def qwen_vl(visual: Config) -> Numbers:
    """Qwen-VL: CLIP's layers over 448 pixels; a resampler asks them with 256 queries."""
    width, heads = visual["width"], visual["heads"]
    out, patch = visual.get("output_dim", 4096), visual.get("patch_size", 14)
    ffn = int(width * visual["mlp_ratio"])
    own = {"positions": QWEN_VL_QUERIES, "final_norms": 1}  # the norm before all layers
    own["extra"] = _patches(visual, width, 1, False)
    tower = _tower(width, visual["layers"], heads, ffn, own)
    # Queries and their positions, wider keys and values, attention, three norms, a product.
    resampler = 2 * QWEN_VL_QUERIES * out + width * out + 4 * (out * out + out)
    projector = resampler + 6 * out + out * out
    return {"vision": tower, "patch": patch, "projector": projector}


def qwen2_vl(config: Config, text: Text) -> Numbers:
    """Qwen2-VL: 32 layers over 14-pixel patches of two frames, four patches merged."""
    vision = dict(config.get("vision_config") or {})
    hidden = vision.get("embed_dim", 1280)
    ffn = int(hidden * vision.get("mlp_ratio", 4))
    own = {"extra": _patches(vision, hidden, 2, False)}
    tower = _tower(hidden, vision.get("depth", 32), vision.get("num_heads", 16), ffn, own)
    model = text(text_config(config, "qwen2"))
    wide, out = 4 * hidden, vision.get("hidden_size") or model["decoder"]["hidden"]
    projector = 2 * hidden + wide * wide + wide + wide * out + out
    return {**model, "vision": tower, "patch": 14, "merge": 2, "projector": projector}


def qwen2_5_vl(config: Config, text: Text) -> Numbers:
    """Qwen2.5-VL: RMS norms and a gated MLP in the tower, windows in most of its layers."""
    vision = dict(config.get("vision_config") or {})
    hidden, ffn = vision.get("hidden_size", 1280), vision.get("intermediate_size", 3420)
    own = {"norm": "rms", "norm_bias": 0, "extra": _patches(vision, hidden, 2, False)}
    depth, heads = vision.get("depth", 32), vision.get("num_heads", 16)
    tower = _tower(hidden, depth, heads, ffn, own, gated=1)
    model = text(text_config(config, "qwen2"))
    wide, out = 4 * hidden, vision.get("out_hidden_size") or model["decoder"]["hidden"]
    projector = hidden + wide * wide + wide + wide * out + out
    return {**model, "vision": tower, "patch": 14, "merge": 2, "projector": projector}


def qwen3_vl(config: Config, text: Text) -> Numbers:
    """Qwen3-VL: 16-pixel patches, learned positions, three more mergers into early layers."""
    kind = "qwen3_moe" if "moe" in str(config.get("model_type")) else "qwen3"
    vision = dict(config.get("vision_config") or {})
    hidden, ffn = vision.get("hidden_size", 1152), vision.get("intermediate_size", 4304)
    vision.setdefault("patch_size", 16)
    own = {
        "positions": vision.get("num_position_embeddings", 2304),
        "extra": _patches(vision, hidden, 2, True),
    }
    tower = _tower(hidden, vision.get("depth", 27), vision.get("num_heads", 16), ffn, own)
    model = text(text_config(config, kind))
    wide, out = 4 * hidden, vision.get("out_hidden_size") or model["decoder"]["hidden"]
    product = wide * wide + wide + wide * out + out
    deep = len(vision.get("deepstack_visual_indexes", (8, 16, 24)))
    projector = 2 * hidden + product + deep * (2 * wide + product)
    return {**model, "vision": tower, "patch": 16, "merge": 2, "projector": projector}


def llava(config: Config, text: Text) -> Numbers:
    """LLaVA 1.5: CLIP's tower, two linears, Llama."""
    vision = dict(config.get("vision_config") or {})
    hidden, ffn = vision.get("hidden_size", 1024), vision.get("intermediate_size", 4096)
    side, patch = vision.get("image_size", 336), vision.get("patch_size", 14)
    own = {
        "positions": (side // patch) ** 2 + 1,
        "final_norms": 2,
        "extra": _patches(vision, hidden, 1, False) + hidden,
    }
    depth = vision.get("num_hidden_layers", 24)
    heads = vision.get("num_attention_heads", 16)
    tower = _tower(hidden, depth, heads, ffn, own, fused_qkv=0)
    inner = config.get("text_config") or {}
    model = text(text_config(config, str(inner.get("model_type") or "llama")))
    out = model["decoder"]["hidden"]
    projector = hidden * out + out + out * out + out
    return {**model, "vision": tower, "patch": patch, "projector": projector}


TOWERS: dict[str, Callable[[Config, Text], Numbers]] = {
    "llava": llava,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl,
}
