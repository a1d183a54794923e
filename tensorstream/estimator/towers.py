"""Models that see: a tower of patches and a projector in front of a decoder.

The decoder is that of the text's own model type; the tower is ``numbers["vision"]``, a stack as
any other, and the projector a count of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tensorstream.estimator import dialects

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
    hidden: int, depth: int, heads: int, ffn: int, own: Mapping[str, Any], **layer: Any
) -> Numbers:
    """A stack of plain attention layers with biases, whose patches all see each other."""
    each = {
        "heads": heads, "kv_heads": heads, "head_dim": hidden // heads, "ffn": ffn, "gated": 0,
        "fused_qkv": 1, "qkv_bias": 1, "out_bias": 1, "mlp_bias": 1, "norm_code": "layer",
        "act": "gelu", "rope": "none", "mask": "none", **layer,
    }  # fmt: skip
    stack = {"norm": "layer", "norm_bias": 1, "final_norms": 0, **own}
    return {"hidden": hidden, **stack, "kinds": [each], "pattern": bytes(depth)}


def _act(vision: Config, fallback: str) -> str:
    """The word of a tower's activation function."""
    return dialects.activation({"hidden_act": fallback, **vision}).get("act", fallback)


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
    depth, heads = vision.get("depth", 32), vision.get("num_heads", 16)
    words = {"act": _act(vision, "quick_gelu"), "rope": "vision"}
    tower = _tower(hidden, depth, heads, ffn, own, **words)
    model = text(text_config(config, "qwen2"))
    wide, out = 4 * hidden, vision.get("hidden_size") or model["decoder"]["hidden"]
    projector = 2 * hidden + wide * wide + wide + wide * out + out
    see = {"vision": tower, "patch": 14, "frames": 2, "merge": 2, "projector_ffn": wide}
    return {**model, **see, "projector": projector}


def qwen2_5_vl(config: Config, text: Text) -> Numbers:
    """Qwen2.5-VL: RMS norms and a gated MLP in the tower, windows in most of its layers."""
    vision = dict(config.get("vision_config") or {})
    hidden, ffn = vision.get("hidden_size", 1280), vision.get("intermediate_size", 3420)
    own = {"norm": "rms", "norm_bias": 0, "extra": _patches(vision, hidden, 2, False)}
    depth, heads = vision.get("depth", 32), vision.get("num_heads", 16)
    words = {"act": _act(vision, "silu"), "rope": "vision", "norm_code": "llama", "gated": 1}
    tower = _tower(hidden, depth, heads, ffn, own, **words)
    side = vision.get("window_size", 112) // vision.get("patch_size", 14)
    whole = vision.get("fullatt_block_indexes", (7, 15, 23, 31))
    tower["kinds"] += [{**tower["kinds"][0], "window": side * side}]
    tower["pattern"] = bytes(int(i not in whole) for i in range(depth))
    model = text(text_config(config, "qwen2"))
    wide, out = 4 * hidden, vision.get("out_hidden_size") or model["decoder"]["hidden"]
    projector = hidden + wide * wide + wide + wide * out + out
    see = {"vision": tower, "patch": 14, "frames": 2, "merge": 2, "projector_ffn": wide}
    return {**model, **see, "projector": projector}


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
    depth, heads = vision.get("depth", 27), vision.get("num_heads", 16)
    tower = _tower(hidden, depth, heads, ffn, own, act=_act(vision, "gelu"), rope="vision")
    model = text(text_config(config, kind))
    wide, out = 4 * hidden, vision.get("out_hidden_size") or model["decoder"]["hidden"]
    product = wide * wide + wide + wide * out + out
    deep = len(vision.get("deepstack_visual_indexes", (8, 16, 24)))
    projector = 2 * hidden + product + deep * (2 * wide + product)
    see = {"vision": tower, "patch": 16, "frames": 2, "merge": 2, "projector_ffn": wide}
    return {**model, **see, "projector": projector}


# ---- towers that have a model type of their own --------------------------------------


def _clip(vision: Config) -> Numbers:
    """CLIP: a class token, a norm before its layers and one for what nobody asks of LLaVA."""
    hidden, patch = vision.get("hidden_size", 1024), vision.get("patch_size", 14)
    own = {
        "positions": (vision.get("image_size", 336) // patch) ** 2 + 1,
        "final_norms": 2,
        "extra": _patches(vision, hidden, 1, False) + hidden,
    }
    depth, heads = vision.get("num_hidden_layers", 24), vision.get("num_attention_heads", 16)
    ffn = vision.get("intermediate_size", 4096)
    return _tower(hidden, depth, heads, ffn, own, fused_qkv=0, act=_act(vision, "quick_gelu"))


def _siglip(vision: Config) -> Numbers:
    """SigLIP, and Idefics3's copy of it: no class token, one norm behind; perhaps a head."""
    hidden, patch = vision.get("hidden_size", 1152), vision.get("patch_size", 14)
    ffn = vision.get("intermediate_size", 4304)
    usual = vision.get("model_type") == "siglip_vision_model"
    head = int(bool(vision.get("vision_use_head", usual)))
    # A query, attention of it, a norm, an MLP (SiglipMultiheadAttentionPoolingHead).
    asks = (
        hidden + 4 * (hidden * hidden + hidden) + 2 * hidden + 2 * hidden * ffn + ffn + hidden
    )
    own = {
        "positions": (vision.get("image_size", 384) // patch) ** 2,
        "final_norms": 1,
        "extra": _patches(vision, hidden, 1, True) + head * asks,
    }
    depth, heads = vision.get("num_hidden_layers", 27), vision.get("num_attention_heads", 16)
    return _tower(hidden, depth, heads, ffn, own, fused_qkv=0, act=_act(vision, "gelu"))


def _pixtral(vision: Config) -> Numbers:
    """Pixtral: RMS norms, a gated MLP, rotary positions over rows and columns, no bias."""
    hidden, ffn = vision.get("hidden_size", 1024), vision.get("intermediate_size", 4096)
    own = {"norm": "rms", "norm_bias": 0, "final_norms": 1}
    own |= {"extra": _patches({"patch_size": 16, **vision}, hidden, 1, False)}
    depth, heads = vision.get("num_hidden_layers", 24), vision.get("num_attention_heads", 16)
    words = {"act": _act(vision, "gelu"), "norm_code": "llama", "rope": "half", "gated": 1}
    words |= dict.fromkeys(("fused_qkv", "qkv_bias", "out_bias", "mlp_bias"), 0)
    return _tower(hidden, depth, heads, ffn, own, **words)


def _internvit(vision: Config) -> Numbers:
    """InternViT: CLIP's layers with two learned scales each."""
    hidden, ffn = vision.get("hidden_size", 1024), vision.get("intermediate_size", 4096)
    side, patch = _side(vision, "image_size", 448), _side(vision, "patch_size", 14)
    rms = vision.get("norm_type") == "rms_norm"
    own = {
        "norm": "rms" if rms else "layer",
        "norm_bias": int(not rms),
        "positions": (side // patch) ** 2 + 1,
        "final_norms": int(not vision.get("use_mean_pooling", True)),
        "extra": _patches({**vision, "patch_size": patch}, hidden, 1, True) + hidden,
    }
    depth, heads = vision.get("num_hidden_layers", 24), vision.get("num_attention_heads", 16)
    return _tower(
        hidden, depth, heads, ffn, own, fused_qkv=0, act=_act(vision, "gelu"),
        qkv_bias=int(bool(vision.get("attention_bias"))), extra=2 * hidden,
        norm_code="llama" if rms else "layer", softmax="native", branch_scale=1,
        qk_norm=2 * int(bool(vision.get("use_qk_norm"))),
    )  # fmt: skip


def _side(vision: Config, key: str, fallback: int) -> int:
    """A side that may be written as a pair."""
    found = vision.get(key, fallback)
    return int(found[0] if isinstance(found, (list, tuple)) else found)


_KINDS: dict[str, Callable[[Config], Numbers]] = {
    "clip_vision_model": _clip,
    "siglip_vision_model": _siglip,
    "idefics3_vision": _siglip,
    "smolvlm_vision": _siglip,
    "pixtral": _pixtral,
    "internvl_vision": _internvit,
}


def _seen(
    config: Config, text: Text, kind: str, decoder: str
) -> tuple[Numbers, int, int, Config]:
    """The decoder with a tower of its vision config's type; widths of both, that config.

    Raises:
        ValueError: a tower that is not known.
    """
    vision = dict(config.get("vision_config") or {})
    named = str(vision.setdefault("model_type", kind))
    if named not in _KINDS:
        raise ValueError(
            f"vision_config: unknown model type {named!r}. Known: {', '.join(_KINDS)}"
        )
    inner = config.get("text_config") or {}
    model = text(text_config(config, str(inner.get("model_type") or decoder)))
    tower = _KINDS[named](vision)
    patch = _side(vision, "patch_size", 16 if named == "pixtral" else 14)
    wide, out = tower["hidden"], model["decoder"]["hidden"]
    return {**model, "vision": tower, "patch": patch}, wide, out, vision


def _mlp(into: int, out: int, bias: bool = True) -> int:
    """Two linears, the second as wide as the text."""
    return into * out + out * out + 2 * out * int(bias)


def llava(config: Config, text: Text) -> Numbers:
    """LLaVA 1.5, LLaVA-NeXT (one vector more, a line's end), Pixtral-12B: two linears."""
    model, wide, out, _ = _seen(config, text, "clip_vision_model", "llama")
    newline = out if config.get("model_type") in ("llava_next", "llava_onevision") else 0
    bias = bool(config.get("multimodal_projector_bias", True))
    return {**model, "projector": _mlp(wide, out, bias) + newline, "projector_ffn": out}


def llava_onevision(config: Config, text: Text) -> Numbers:
    """LLaVA-OneVision: SigLIP's tower, Qwen2."""
    vision = {"model_type": "siglip_vision_model", **(config.get("vision_config") or {})}
    inner = {"model_type": "qwen2", **(config.get("text_config") or {})}
    return llava({**config, "vision_config": vision, "text_config": inner}, text)


def mistral3(config: Config, text: Text) -> Numbers:
    """Mistral Small 3.1: Pixtral's tower, a norm, four patches to one, two linears."""
    model, wide, out, _ = _seen(config, text, "pixtral", "mistral")
    merge = config.get("spatial_merge_size", 2)
    bias = bool(config.get("multimodal_projector_bias", False))
    projector = wide + merge * merge * wide * wide + _mlp(wide, out, bias)
    return {**model, "merge": merge, "projector": projector, "projector_ffn": out}


def paligemma(config: Config, text: Text) -> Numbers:
    """PaliGemma: SigLIP's tower without a head, one linear, Gemma."""
    sees = {"vision_use_head": False, **(config.get("vision_config") or {})}
    model, wide, out, vision = _seen(
        {**config, "vision_config": sees}, text, "siglip_vision_model", "gemma"
    )
    out = vision.get("projection_dim") or config.get("projection_dim") or out
    return {**model, "projector": wide * out + out}


def gemma3(config: Config, text: Text) -> Numbers:
    """Gemma 3: SigLIP's tower over 896 pixels, 16 patches averaged to one, norm and product."""
    sees = {"vision_use_head": False, "image_size": 896, **(config.get("vision_config") or {})}
    model, wide, out, vision = _seen(
        {**config, "vision_config": sees}, text, "siglip_vision_model", "gemma3_text"
    )
    rows = _side(vision, "image_size", 896) // _side(vision, "patch_size", 14)
    merge = rows // int(config.get("mm_tokens_per_image", 256) ** 0.5)
    return {**model, "merge": merge, "projector": wide * out + wide}


def idefics3(config: Config, text: Text) -> Numbers:
    """Idefics3 and SmolVLM: SigLIP's tower, patches of a square side by side, one linear."""
    model, wide, out, _ = _seen(config, text, "idefics3_vision", "llama")
    merge = config.get("scale_factor", 2)
    return {**model, "merge": merge, "projector": merge * merge * wide * out}


def internvl(config: Config, text: Text) -> Numbers:
    """InternVL 2 to 3.5: InternViT, four patches side by side, a norm, two linears."""
    model, wide, out, _ = _seen(config, text, "internvl_vision", "qwen2")
    merge = int(1 / config.get("downsample_ratio", 0.5))
    into = merge * merge * wide
    projector = 2 * into + _mlp(into, out)
    return {**model, "merge": merge, "projector": projector, "projector_ffn": out}


TOWERS: dict[str, Callable[[Config, Text], Numbers]] = {
    "gemma3": gemma3,
    "idefics3": idefics3,
    "internvl": internvl,
    "llava": llava,
    "llava_next": llava,
    "llava_onevision": llava_onevision,
    "mistral3": mistral3,
    "paligemma": paligemma,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl,
    "smolvlm": idefics3,
}
