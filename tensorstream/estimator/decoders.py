"""Model types whose layers tests hold against transformers twice: parameters and saved bytes.

One function a family, each from a config to the numbers of an architecture, as in
architectures.py, which lists them.  Sources are transformers' modeling files of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Config = Mapping[str, Any]
Numbers = dict[str, Any]

# LayerNorm with weight and bias, as GPT-2 and its descendants have it.
_NORMED: Numbers = {"norm": "layer", "norm_bias": 1}
_BIASED: Numbers = {"qkv_bias": 1, "out_bias": 1, "mlp_bias": 1, "gated": 0}


def _first(config: Config, *keys: str) -> int:
    for key in keys:
        if config.get(key) is not None:
            return int(config[key])
    raise ValueError(f"config of model type {config.get('model_type')!r} lacks {keys[0]!r}")


def _flag(config: Config, key: str, default: bool = False) -> int:
    return int(bool(config.get(key, default)))


def _layer(config: Config, **more: Any) -> Numbers:
    """Heads and the width of the MLP under the names configs have for them."""
    hidden = _first(config, "hidden_size", "n_embd", "d_model")
    heads = _first(config, "num_attention_heads", "n_head", "n_heads")
    if not heads or (config.get("head_dim") is None and hidden % heads):
        raise ValueError(f"num_attention_heads {heads} does not divide hidden_size {hidden}")
    layer: Numbers = {
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or hidden // heads,
        "ffn": config.get("intermediate_size") or config.get("n_inner") or 4 * hidden,
    }
    return {**layer, **more}


def _windows(config: Config, layer: Numbers) -> tuple[list[Numbers], bytes]:
    """Kinds and pattern where ``layer_types`` says which layers see a window only."""
    kinds = config.get("layer_types")
    count = _first(config, "num_hidden_layers", "n_layer", "n_layers")
    if not kinds or "sliding_attention" not in kinds or not config.get("sliding_window"):
        return [layer], bytes(count)
    if len(kinds) != count:
        raise ValueError(f"layer_types names {len(kinds)} layers, num_hidden_layers {count}")
    windowed = {**layer, "window": int(config["sliding_window"])}
    return [layer, windowed], bytes(int(kind == "sliding_attention") for kind in kinds)


def _model(config: Config, layer: Numbers, *, tied: bool = False, **more: Any) -> Numbers:
    """A decoder of layers that differ in their windows at most; `more` are the stack's."""
    kinds, pattern = _windows(config, layer)
    return {
        "vocab": _first(config, "vocab_size"),
        "tied": _flag(config, "tie_word_embeddings", tied),
        "head_bias": more.pop("head_bias", 0),
        "decoder": {
            "hidden": _first(config, "hidden_size", "n_embd", "d_model"),
            "kinds": kinds,
            "pattern": pattern,
            **more,
        },
    }


def _experts(config: Config, layer: Numbers, **more: Any) -> Numbers:
    width = _first(config, "moe_intermediate_size", "intermediate_size")
    return {
        **layer,
        "mlp": "moe",
        "ffn": 0,
        "experts": _first(config, "num_experts", "num_local_experts", "n_routed_experts"),
        "active_experts": _first(config, "num_experts_per_tok"),
        "expert_ffn": width,
        **more,
    }


def _attention_bias(config: Config) -> Numbers:
    bias = _flag(config, "attention_bias")
    return {"qkv_bias": bias, "out_bias": bias, "mlp_bias": _flag(config, "mlp_bias")}


def gated(config: Config) -> Numbers:
    """Granite, Ministral, SmolLM3: Llama with other names for its extras."""
    return _model(config, _layer(config, **_attention_bias(config)))


def masked(config: Config) -> Numbers:
    """BERT, RoBERTa for masked words: token types, a normed embedding, a head of two layers."""
    hidden = _first(config, "hidden_size")
    types = _first(config, "type_vocab_size") * hidden
    transform = hidden * hidden + hidden + 2 * hidden
    return _model(
        config, _layer(config, **_BIASED), tied=True, head_bias=1, final_norms=0, **_NORMED,
        positions=_first(config, "max_position_embeddings"),
        extra=types + 2 * hidden + transform,
    )  # fmt: skip


def bloom(config: Config) -> Numbers:
    layer = _layer({**config, "n_inner": None}, fused_qkv=1, **_BIASED)
    return _model(config, layer, tied=True, final_norms=2, **_NORMED)


def cohere(config: Config) -> Numbers:
    layer = _layer(config, norms=1, parallel=1, **_attention_bias(config))
    if config.get("use_qk_norm"):
        layer["extra"] = (layer["heads"] + layer["kv_heads"]) * layer["head_dim"]
    return _model(config, layer, tied=True, norm="layer")


def deepseek(config: Config) -> Numbers:
    """DeepSeek-V2 and V3: latent attention; the first layers are dense."""
    rope = _first(config, "qk_rope_head_dim")
    dense = _layer(config) | {
        "mixer": "latent",
        "head_dim": _first(config, "qk_nope_head_dim") + rope,
        "value_dim": _first(config, "v_head_dim"),
        "q_rank": config.get("q_lora_rank") or 0,
        "kv_rank": _first(config, "kv_lora_rank"),
        "rope_dim": rope,
        "index_heads": config.get("index_n_heads") or 0,
        "index_dim": config.get("index_head_dim") or 0,
        "qkv_bias": _flag(config, "attention_bias"),
        "out_bias": _flag(config, "attention_bias"),
    }
    return _first_dense(config, dense)


def _first_dense(config: Config, dense: Numbers) -> Numbers:
    """A decoder whose first layers are dense and the others have experts, some shared."""
    shared = _first(config, "moe_intermediate_size") * _first(config, "n_shared_experts")
    sparse = _experts(config, dense, shared_ffn=shared)
    count = _first(config, "num_hidden_layers")
    first = min(count, _first(config, "first_k_dense_replace"))
    model = _model(config, dense)
    model["decoder"] |= {
        "kinds": [dense, sparse],
        "pattern": bytes(first) + b"\1" * (count - first),
    }
    return model


def exaone4(config: Config) -> Numbers:
    return _model(config, _layer(config, qk_norm=1))


def gemma3(config: Config) -> Numbers:
    model = _model(config, _layer(config, qk_norm=1, norms=4), tied=True)
    return {**model, "softcap": int(config.get("final_logit_softcapping") is not None)}


def glm(config: Config) -> Numbers:
    """GLM-4 as transformers has it; GLM-4-0414 (glm4) with norms on both sides."""
    norms = 4 if config.get("model_type") == "glm4" else 2
    bias = _flag(config, "attention_bias")
    return _model(config, _layer(config, fused_gate=1, qkv_bias=bias, norms=norms))


def glm4_moe(config: Config) -> Numbers:
    """GLM-4.5: DeepSeek's experts behind grouped attention."""
    bias = {"qkv_bias": _flag(config, "attention_bias")}
    return _first_dense(config, _layer(config, qk_norm=_flag(config, "use_qk_norm"), **bias))


def gpt2(config: Config) -> Numbers:
    """GPT-2 and StarCoder 1 (gpt_bigcode), whose key and value have one head."""
    layer = _layer(config, fused_qkv=1, **_BIASED)
    if config.get("model_type") == "gpt_bigcode" and config.get("multi_query", True):
        layer["kv_heads"] = 1
    positions = _first(config, "n_positions", "max_position_embeddings")
    return _model(config, layer, tied=True, positions=positions, **_NORMED)


def gpt_oss(config: Config) -> Numbers:
    """Biases everywhere, experts' among them, and a learned sink a head."""
    layer = _layer(config, **_attention_bias(config), router_bias=1)
    layer |= {"mlp_bias": 1, "extra": layer["heads"]}
    return _model(config, _experts(config, layer))


def gptj(config: Config) -> Numbers:
    layer = _layer(config, mlp_bias=1, gated=0, norms=1, parallel=1)
    return _model(config, layer, head_bias=1, **_NORMED)


def internlm2(config: Config) -> Numbers:
    """InternLM2, as its own code on the Hub has it: query, key and value in one matrix."""
    return _model(config, _layer(config, fused_qkv=1))


def llama4(config: Config) -> Numbers:
    """Llama 4's decoder: experts with a shared one in every n-th layer, wider MLPs between."""
    width = _first(config, "intermediate_size")
    dense = _layer({**config, "intermediate_size": _first(config, "intermediate_size_mlp")})
    sparse = _experts({**config, "moe_intermediate_size": width}, dense, shared_ffn=width)
    step = _first(config, "interleave_moe_layer_step")
    model = _model(config, dense)
    count = len(model["decoder"]["pattern"])
    pattern = bytes(int((i + 1) % max(step, 1) == 0) for i in range(count))
    model["decoder"] |= {"kinds": [dense, sparse], "pattern": pattern}
    return model


def minimax_m2(config: Config) -> Numbers:
    own = {**config, "moe_intermediate_size": None}
    return _model(config, _experts(own, _layer(config, qk_norm=2)))


def mixtral(config: Config) -> Numbers:
    """Mixtral: a window, where there is one, is that of all layers."""
    layer = _layer(config, window=config.get("sliding_window") or 0)
    return _model(config, _experts(config, layer))


def mpt(config: Config) -> Numbers:
    layer = _layer({**config, "intermediate_size": None}, fused_qkv=1, gated=0)
    return _model(config, layer, tied=True, norm="layer")


def nemotron(config: Config) -> Numbers:
    layer = _layer(config, gated=0, **_attention_bias(config))
    return _model(config, layer, **_NORMED)


def olmo(config: Config) -> Numbers:
    """OLMo 1: norms without weights."""
    return _model(config, _layer(config, **_attention_bias(config)), norm="none")


def olmo2(config: Config) -> Numbers:
    """OLMo 2: norms after attention and MLP, and over all heads of q and k."""
    return _model(config, _layer(config, qk_norm=2, **_attention_bias(config)))


def olmoe(config: Config) -> Numbers:
    return _model(config, _experts(config, _layer(config, qk_norm=2)))


def opt(config: Config) -> Numbers:
    """OPT: positions start at 2; the 350m has a narrower embedding and norms behind."""
    hidden = _first(config, "hidden_size")
    bias = _flag(config, "enable_bias", True)
    layer = _layer({**config, "intermediate_size": _first(config, "ffn_dim")}, gated=0)
    layer |= {"qkv_bias": bias, "out_bias": bias, "mlp_bias": bias}
    before = config.get("do_layer_norm_before", True)
    final = int(bool(before and not config.get("_remove_final_layer_norm")))
    positions = _first(config, "max_position_embeddings") + 2
    model = _model(config, layer, tied=True, final_norms=final, positions=positions, **_NORMED)
    narrow = config.get("word_embed_proj_dim") or hidden
    if narrow != hidden:
        model["embed_dim"] = narrow
        model["decoder"]["extra"] = 2 * narrow * hidden
    return model


def stablelm(config: Config) -> Numbers:
    parallel = _flag(config, "use_parallel_residual")
    layer = _layer(config, qkv_bias=_flag(config, "use_qkv_bias"), parallel=parallel)
    layer["norms"] = 1 if parallel else 2
    return _model(config, layer, **_NORMED)


def starcoder2(config: Config) -> Numbers:
    bias = _flag(config, "use_bias", True)
    layer = _layer(config, qkv_bias=bias, out_bias=bias, mlp_bias=bias, gated=0)
    layer["window"] = config.get("sliding_window") or 0
    return _model(config, layer, tied=True, **_NORMED)


def t5(config: Config) -> Numbers:
    """T5: encoder and decoder; the first layer of each has the table of relative positions."""
    hidden, heads = _first(config, "d_model"), _first(config, "num_heads")
    layer: Numbers = {
        "heads": heads,
        "kv_heads": heads,
        "head_dim": _first(config, "d_kv"),
        "ffn": _first(config, "d_ff"),
        "gated": int(str(config.get("feed_forward_proj", "relu")).startswith("gated")),
    }
    buckets = _first(config, "relative_attention_num_buckets") * heads
    first = {"extra": buckets, "buckets": 1}

    def stack(layer: Numbers, count: int) -> Numbers:
        pattern = bytes(min(1, i) for i in range(count))
        return {"hidden": hidden, "kinds": [{**layer, **first}, layer], "pattern": pattern}

    depth = _first(config, "num_layers")
    below = _first(config, "num_decoder_layers", "num_layers")
    return {
        "vocab": _first(config, "vocab_size"),
        "tied": _flag(config, "tie_word_embeddings", True),
        "encoder": stack({**layer, "mask": "none"}, depth),
        "decoder": stack({**layer, "cross": 1, "norms": 3}, below),
    }


DECODERS: dict[str, Callable[[Config], Numbers]] = {
    "bloom": bloom,
    "cohere": cohere,
    "cohere2": cohere,
    "deepseek_v2": deepseek,
    "deepseek_v3": deepseek,
    "exaone4": exaone4,
    "gemma3_text": gemma3,
    "glm": glm,
    "glm4": glm,
    "glm4_moe": glm4_moe,
    "gpt2": gpt2,
    "gpt_bigcode": gpt2,
    "gpt_oss": gpt_oss,
    "gptj": gptj,
    "granite": gated,
    "internlm2": internlm2,
    "llama4_text": llama4,
    "minimax_m2": minimax_m2,
    "ministral": gated,
    "mixtral": mixtral,
    "mpt": mpt,
    "nemotron": nemotron,
    "olmo": olmo,
    "olmo2": olmo2,
    "olmo3": olmo2,
    "olmoe": olmoe,
    "opt": opt,
    "smollm3": gated,
    "stablelm": stablelm,
    "starcoder2": starcoder2,
    "t5": t5,
}
