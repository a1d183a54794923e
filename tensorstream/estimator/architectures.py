"""From a Hugging Face ``config.json`` to the numbers of an architecture.

One function a family of model types; each returns the dict that the C core reads
(csrc/estimate/estimate.h: ``ts_model``, ``ts_stack``, ``ts_layer``).  A model type is one row
of ``FAMILIES``.  Parameter counts that follow from these numbers equal those that
transformers builds, which the tests hold against it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from tensorstream.estimator import decoders, dialects, names

Config = Mapping[str, Any]
Numbers = dict[str, Any]


def pick(config: Config, *keys: str, default: Any = None) -> Any:
    """The first key that is there and not None; ValueError naming the first without one."""
    for key in keys:
        if config.get(key) is not None:
            return config[key]
    if default is None:
        raise ValueError(f"config of model type {config.get('model_type')!r} lacks {keys[0]!r}")
    return default


def stack(kinds: list[Numbers], pattern: list[int] | bytes, **own: int) -> Numbers:
    """A pile of layers; pattern says of each layer which of the kinds it is."""
    return {**own, "kinds": kinds, "pattern": bytes(pattern)}


def attention(config: Config, **more: int) -> Numbers:
    """Heads as transformers' configs name them; `more` overrides."""
    hidden = pick(config, "hidden_size", "n_embd", "d_model")
    heads = pick(config, "num_attention_heads", "n_head", "num_heads")
    kv_heads = pick(config, "num_key_value_heads", default=heads)
    head_dim = pick(config, "head_dim", default=_share(hidden, heads))
    return {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, **more}


def _share(hidden: int, heads: int) -> int:
    if not heads or hidden % heads:
        raise ValueError(f"num_attention_heads {heads} does not divide hidden_size {hidden}")
    return int(hidden // heads)


def decoder(config: Config, kinds: list[Numbers], pattern: list[int], **own: Any) -> Numbers:
    """A model that is one decoder: vocabulary, embedding, layers, head."""
    model = {
        "vocab": pick(config, "vocab_size"),
        "tied": int(bool(config.get("tie_word_embeddings", own.pop("tied", True)))),
        "head": own.pop("head", 1),
        "head_bias": own.pop("head_bias", 0),
        "max_positions": config.get("max_position_embeddings") or 0,
    }
    own.setdefault("hidden", pick(config, "hidden_size", "n_embd", "d_model"))
    return {**model, "decoder": stack(kinds, pattern, **own)}


def depth(config: Config) -> int:
    return int(pick(config, "num_hidden_layers", "n_layer", "num_layers", "n_layers"))


def llama(config: Config, **more: int) -> Numbers:
    """Pre-norm, RMS, gated MLP: Llama, Mistral, Qwen2, Qwen3 and many more."""
    layer = attention(config, **more)
    layer["ffn"] = pick(config, "intermediate_size")
    if config.get("attention_bias"):
        layer |= {"qkv_bias": 1, "out_bias": 1}
    if config.get("mlp_bias"):
        layer["mlp_bias"] = 1
    window = config.get("sliding_window")
    if window and config.get("use_sliding_window", config["model_type"] == "mistral"):
        layer["window"] = window
    return decoder(config, [layer], [0] * depth(config), tied=False)


def qwen2(config: Config) -> Numbers:
    return llama(config, qkv_bias=1)


def qwen3(config: Config) -> Numbers:
    return llama(config, qk_norm=1)


def qwen1(config: Config) -> Numbers:
    """Qwen-7B and its kin: fused qkv with bias; intermediate_size counts gate and up.

    Qwen-VL is one of them, with a tower (`visual`).
    """
    from tensorstream.estimator import towers

    layer = attention(config, fused_qkv=1, qkv_bias=1)
    layer["ffn"] = pick(config, "intermediate_size") // 2
    model = decoder(config, [layer], [0] * depth(config), tied=False)
    return {**model, **towers.qwen_vl(config["visual"])} if config.get("visual") else model


def gemma(config: Config) -> Numbers:
    """Gemma 1: one key/value head where there is one, the embedding as head."""
    return {**llama(config), "tied": 1}


def gemma2(config: Config) -> Numbers:
    """Gemma 2: a norm before and after each part, windows in every second layer."""
    layer = attention(config, norms=4)
    layer["ffn"] = pick(config, "intermediate_size")
    windowed = {**layer, "window": pick(config, "sliding_window", default=4096)}
    pattern = [i % 2 for i in range(depth(config))]
    return {**decoder(config, [windowed, layer], pattern), "tied": 1, "softcap": 1}


def phi(config: Config) -> Numbers:
    """Phi-1.5 and 2: attention and MLP beside each other from one norm, biases throughout."""
    layer = attention(config, qkv_bias=1, out_bias=1, mlp_bias=1, gated=0, norms=1, parallel=1)
    layer["ffn"] = pick(config, "intermediate_size")
    own = {"norm": "layer", "norm_bias": 1, "tied": False, "head_bias": 1}
    return decoder(config, [layer], [0] * depth(config), **own)


def phi3(config: Config) -> Numbers:
    return llama(config, fused_qkv=1, fused_gate=1)


def gpt_neox(config: Config) -> Numbers:
    """GPT-NeoX, Pythia, StableLM alpha: both parts from norms of their own."""
    parallel = int(bool(config.get("use_parallel_residual", True)))
    layer = attention(
        config, fused_qkv=1, qkv_bias=1, out_bias=1, mlp_bias=1, gated=0, parallel=parallel
    )
    layer["ffn"] = pick(config, "intermediate_size")
    own = {"norm": "layer", "norm_bias": 1, "tied": False}
    return decoder(config, [layer], [0] * depth(config), **own)


def falcon(config: Config) -> Numbers:
    """Falcon: one key/value head (7B) or groups (40B, 180B), no gate."""
    hidden, heads = pick(config, "hidden_size"), pick(config, "num_attention_heads", "n_head")
    grouped = bool(config.get("new_decoder_architecture"))
    kv_heads = pick(config, "num_kv_heads", default=heads) if grouped else 1
    if not grouped and not config.get("multi_query", True):
        kv_heads = heads
    bias = int(bool(config.get("bias")))
    parallel = int(bool(config.get("parallel_attn", True)))
    layer = {
        "heads": heads, "kv_heads": kv_heads, "head_dim": _share(hidden, heads),
        "fused_qkv": 1, "qkv_bias": bias, "out_bias": bias, "mlp_bias": bias, "gated": 0,
        "norms": 2 if grouped or not parallel else 1, "parallel": parallel,
        "ffn": pick(config, "ffn_hidden_size", default=4 * hidden),
    }  # fmt: skip
    own = {"norm": "layer", "norm_bias": 1, "tied": True}
    return decoder(config, [layer], [0] * depth(config), **own)


def chatglm(config: Config) -> Numbers:
    """ChatGLM 2 and 3, GLM-4-9B: a few key/value groups, gate and up in one."""
    heads = pick(config, "num_attention_heads")
    groups = config["multi_query_group_num"] if config.get("multi_query_attention") else heads
    layer = {
        "heads": heads, "kv_heads": groups, "head_dim": pick(config, "kv_channels"),
        "fused_qkv": 1, "fused_gate": 1, "qkv_bias": int(bool(config.get("add_qkv_bias"))),
        "ffn": pick(config, "ffn_hidden_size"),
    }  # fmt: skip
    vocab = {"vocab_size": pick(config, "padded_vocab_size", "vocab_size")}
    return decoder({**config, **vocab}, [layer], [0] * depth(config), tied=False)


def baichuan(config: Config) -> Numbers:
    return llama(config, fused_qkv=1)


def bert(config: Config) -> Numbers:
    """BERT and RoBERTa with a classifier: a norm after each sum, positions and token types."""
    if any(str(name).endswith("ForMaskedLM") for name in config.get("architectures") or ()):
        return decoders.masked(config)
    hidden = pick(config, "hidden_size")
    layer = attention(config, qkv_bias=1, out_bias=1, mlp_bias=1, gated=0)
    layer["ffn"] = pick(config, "intermediate_size")
    labels = len(config.get("id2label", (0, 1)))
    own = {
        "norm": "layer", "norm_bias": 1, "tied": False, "head": 0,
        "positions": pick(config, "max_position_embeddings"),
        # token types, the pooler, the classifier
        "extra": hidden * (pick(config, "type_vocab_size", default=2) + hidden + 1)
        + labels * (hidden + 1),
    }  # fmt: skip
    return decoder(config, [layer], [0] * depth(config), **own)


def vit(config: Config) -> Numbers:
    """A vision transformer with a classifier: patches are its tokens, and one more."""
    hidden, patch = pick(config, "hidden_size"), pick(config, "patch_size")
    gated = int(bool(config.get("use_swiglu_ffn")))
    layer = attention(
        config, fused_qkv=1, qkv_bias=1, out_bias=1, mlp_bias=1, gated=gated, fused_gate=gated
    )
    layer["ffn"] = pick(config, "intermediate_size")
    classes = config.get("num_labels", 0)
    own = {
        "norm": "layer", "norm_bias": 1, "tied": True, "head": 0,
        "positions": (pick(config, "image_size") // patch) ** 2 + 1,
        # the patches' projection, the class token, the classifier, layer scales
        "extra": hidden * (3 * patch * patch + 2) + classes * (hidden + 1)
        + (2 * hidden * depth(config) if config.get("layerscale_value") else 0),
    }  # fmt: skip
    return decoder({**config, "vocab_size": 0}, [layer], [0] * depth(config), **own)


def moe(config: Config, layer: Numbers, **more: int) -> Numbers:
    """The layer with experts instead of its dense MLP."""
    return {
        **layer,
        "mlp": "moe",
        "ffn": 0,
        "experts": pick(config, "num_experts", "num_local_experts", "n_routed_experts"),
        "active_experts": pick(config, "num_experts_per_tok"),
        "expert_ffn": pick(config, "moe_intermediate_size", "intermediate_size"),
        **more,
    }


def qwen2_moe(config: Config) -> Numbers:
    layer = attention(config, qkv_bias=1)
    shared = {"shared_ffn": config["shared_expert_intermediate_size"], "shared_gate": 1}
    return decoder(config, [moe(config, layer, **shared)], [0] * depth(config), tied=False)


def qwen3_moe(config: Config) -> Numbers:
    layer = attention(config, qk_norm=1)
    return decoder(config, [moe(config, layer)], [0] * depth(config), tied=False)


def gemma4(config: Config) -> Numbers:
    """Gemma 4's small ones: an embedding a layer, windows, layers that share keys and values.

    Towers for images and sound are counted (`towers`), not what they compute.
    """
    layers, each = depth(config), pick(config, "hidden_size_per_layer_input", default=256)
    hidden, shared = pick(config, "hidden_size"), pick(config, "num_kv_shared_layers")
    period = pick(config, "sliding_window_pattern", default=6)
    # Per layer: a gate into the embedding's width, back, and a norm.
    layer = attention(config, qk_norm=1, norms=4, extra=2 * hidden * each + hidden)
    layer["ffn"] = pick(config, "intermediate_size")
    wide = 2 if config.get("use_double_wide_mlp") else 1
    later = {**layer, "kv_shared": 1, "ffn": wide * layer["ffn"]}
    full = {"head_dim": pick(config, "global_head_dim", default=layer["head_dim"])}
    window = {"window": pick(config, "sliding_window")}
    kinds = [layer | window, layer | full, later | window, later | full]
    pattern = [
        2 * int(i >= layers - shared) + int((i + 1) % period == 0) for i in range(layers)
    ]
    towers = pick(config, "towers", default=0)
    own = {"extra": layers * hidden * each + towers, "tied": True}
    return {**decoder(config, kinds, pattern, **own), "layer_embed": each, "softcap": 1}


FAMILIES: dict[str, Callable[[Config], Numbers]] = {
    "gemma4": gemma4,
    "baichuan": baichuan,
    "bert": bert,
    "chatglm": chatglm,
    "falcon": falcon,
    "gemma": gemma,
    "gemma2": gemma2,
    "gpt_neox": gpt_neox,
    "llama": llama,
    "mistral": llama,
    "phi": phi,
    "phi3": phi3,
    "qwen": qwen1,
    "qwen2": qwen2,
    "qwen2_moe": qwen2_moe,
    "qwen3": qwen3,
    "qwen3_moe": qwen3_moe,
    "roberta": bert,
    "vit": vit,
    **decoders.DECODERS,
}


@functools.cache
def families() -> dict[str, Callable[[Config], Numbers]]:
    """Every model type that is known: decoders, those that remember, those that see."""
    from tensorstream.estimator import hybrids, towers

    def seeing(make: Callable[[Config, towers.Text], Numbers]) -> Callable[[Config], Numbers]:
        return lambda config: make(config, numbers)

    with_towers = {kind: seeing(make) for kind, make in towers.TOWERS.items()}
    return {**FAMILIES, **hybrids.HYBRIDS, **with_towers}


# Fields that are whole numbers in every config, and the largest that one may be: what a core's
# stack holds, and what a dimension does (csrc/estimate/estimate.h).
_DEPTHS = (
    "num_hidden_layers", "num_layers", "n_layer", "n_layers", "depth", "num_decoder_layers",
    "encoder_layers", "decoder_layers",
)  # fmt: skip
_WIDTHS = (
    "hidden_size", "n_embd", "d_model", "num_attention_heads", "n_head", "n_heads", "num_heads",
    "num_key_value_heads", "head_dim", "intermediate_size", "moe_intermediate_size",
    "shared_expert_intermediate_size", "ffn_dim", "d_ff", "d_kv", "n_inner", "vocab_size",
    "num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok",
    "kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim",
)  # fmt: skip
_MOST = dict.fromkeys(_DEPTHS, 1024) | dict.fromkeys(_WIDTHS, 1 << 31)


def _check(config: Config) -> None:
    """Raise ValueError naming the first field that is no number, negative or absurd."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            _check(value)
        if name not in _MOST or value is None or isinstance(value, (list, tuple)):
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{name} is {value!r}, not a whole number")
        if not 0 <= value <= _MOST[name]:
            raise ValueError(f"{name} is {value}, not between 0 and {_MOST[name]}")


def numbers(config: Config) -> Numbers:
    """The numbers of an architecture.

    Raises:
        ValueError: no or an unknown ``model_type``, or a field it needs is missing; the
            sentence names the field and the near model type.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ValueError("the config has no 'model_type'")
    known = families()
    if kind not in known:
        raise ValueError(
            f"unknown model type {kind!r}.{names.near(kind, known)} "
            f"Known: {', '.join(sorted(known))}"
        )
    _check(config)
    try:
        return dialects.apply(config, known[kind](config))
    except KeyError as error:
        raise ValueError(f"config of model type {kind!r} lacks {error}") from None
    except (TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"config of model type {kind!r} has a field amiss: {error}") from None
