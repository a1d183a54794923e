"""How transformers writes each model type, where that decides what autograd keeps.

Two sources that compute the same layer may keep different tensors: a norm in F32, positions
put back by a concatenation, dropout.  One row a model type, in the words of
csrc/estimate/dialect.h; what depends on a config's numbers (dropout, the activation, whether
weights of experts are divided by their sum) is read from it.  Every row is held against torch
by tests/test_estimator_oracle.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]
Words = dict[str, Any]

_LAYER: Words = {"norm_code": "layer"}
_GEMMA: Words = {"norm_code": "gemma", "act": "gelu"}
_BERT: Words = {
    "norm_code": "layer", "norm_order": "post", "act": "gelu", "rope": "none",
    "softmax": "native", "mask": "none",
}  # fmt: skip
_FALCON: Words = {"norm_code": "layer", "act": "gelu", "mask": "tensor", "softmax": "native"}

# model_type: words that differ from Llama's (pre-norm, RMS in F32, silu, rotary by halves).
DIALECTS: dict[str, Words] = {
    "bert": _BERT,
    "bloom": {**_LAYER, "act": "gelu", "rope": "alibi"},
    "cohere": {"norm_code": "cohere", "norm_order": "shared"},
    "cohere2": {"norm_code": "cohere", "norm_order": "shared"},
    "deepseek_v2": {"router": "deepseek2"},
    "deepseek_v3": {"router": "deepseek3"},
    "exaone4": {"norm_order": "after"},
    "falcon": _FALCON,
    "gemma": _GEMMA,
    "gemma2": {**_GEMMA, "norm_order": "sandwich", "score_cap": 1},
    "gemma3_text": {**_GEMMA, "norm_order": "sandwich"},
    "glm": {"rope": "spread"},
    "glm4": {"rope": "spread", "norm_order": "sandwich"},
    "glm4_moe": {"rope": "part", "router": "deepseek3"},
    "gpt2": {**_LAYER, "act": "gelu_new", "rope": "none", "softmax": "native"},
    "gpt_bigcode": {**_LAYER, "act": "gelu", "rope": "none"},
    "gpt_neox": {**_LAYER, "act": "gelu", "norm_order": "twin", "rope": "part"},
    "gpt_oss": {"norm_code": "scaled", "rope": "split", "softmax": "sink", "router": "gpt_oss"},
    "gptj": {**_LAYER, "act": "gelu_new", "norm_order": "shared", "rope": "pairs"},
    "granite": {},
    "internlm2": {},
    "llama": {},
    "minimax_m2": {"rope": "part", "router": "deepseek3"},
    "ministral": {},
    "mistral": {},
    "mixtral": {"router": "mixtral"},
    "mpt": {**_LAYER, "act": "gelu", "rope": "alibi"},
    "nemotron": {"norm_code": "layer_1p", "act": "relu2", "rope": "part"},
    "olmo": {"norm_code": "layer_fp32"},
    "olmo2": {"norm_code": "scaled", "norm_order": "after"},
    "olmo3": {"norm_code": "scaled", "norm_order": "after"},
    "olmoe": {"router": "olmoe"},
    "opt": {**_LAYER, "act": "relu", "rope": "none"},
    "phi": {**_LAYER, "act": "gelu_new", "norm_order": "shared", "rope": "part"},
    "phi3": {"rope": "part"},
    "qwen2": {},
    "qwen2_moe": {"router": "olmoe"},
    "qwen3": {},
    "qwen3_moe": {"router": "olmoe"},
    "roberta": _BERT,
    "smollm3": {},
    "stablelm": {**_LAYER, "rope": "part"},
    "starcoder2": {**_LAYER, "act": "gelu"},
    "t5": {"norm_code": "t5", "act": "relu", "rope": "buckets", "softmax": "native"},
}  # fmt: skip

# Names of a dropout's probability in configs, and what transformers falls back to.
_DROPOUTS: dict[str, dict[str, tuple[tuple[str, ...], float]]] = {
    "bert": {
        "attention_dropout": (("attention_probs_dropout_prob",), 0.1),
        "residual_dropout": (("hidden_dropout_prob",), 0.1),
    },
    "gpt2": {
        "attention_dropout": (("attn_pdrop",), 0.1),
        "residual_dropout": (("resid_pdrop",), 0.1),
    },
    "opt": {
        "attention_dropout": (("attention_dropout",), 0.0),
        "residual_dropout": (("dropout",), 0.1),
    },
    "gptj": {
        "attention_dropout": (("attn_pdrop",), 0.0),
        "residual_dropout": (("resid_pdrop",), 0.0),
    },
    "t5": {
        "attention_dropout": (("dropout_rate",), 0.1),
        "residual_dropout": (("dropout_rate",), 0.1),
        "act_dropout": (("dropout_rate",), 0.1),
    },
}
_DROPOUTS["roberta"] = _DROPOUTS["bert"]
_DROPOUTS["gpt_bigcode"] = _DROPOUTS["gpt2"]

# Names of the activation function in configs, and what torch keeps for it.
_ACT_FIELDS = ("hidden_act", "activation_function", "hidden_activation", "dense_act_fn")
_ACTS = {
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
}

_ATTENTION_ONLY = {"attention_dropout": (("attention_dropout",), 0.0)}


def dropouts(config: Config) -> dict[str, int]:
    """Which of the three dropouts are on: 1 where the probability is not 0."""
    rows = _DROPOUTS.get(str(config.get("model_type")), _ATTENTION_ONLY)
    found = {}
    for field, (names, fallback) in rows.items():
        values = [config[name] for name in names if config.get(name) is not None]
        found[field] = int((values or [fallback])[0] > 0)
    return found


def activation(config: Config) -> dict[str, str]:
    """The word of the config's activation function, where it names one that is known."""
    if config.get("model_type") == "gpt_oss":  # names silu, and has a function of its own
        return {}
    named = [config[field] for field in _ACT_FIELDS if isinstance(config.get(field), str)]
    return {"act": _ACTS[named[0]]} if named and named[0] in _ACTS else {}


def words(config: Config) -> Words | None:
    """The words of a config's model type, dropouts among them; None where it is not known."""
    known = DIALECTS.get(str(config.get("model_type")))
    if known is None:
        return None
    found = {**known, **dropouts(config), **activation(config)}
    if found.get("router") == "olmoe" and config.get("norm_topk_prob"):
        found["router"] = "qwen"
    if config.get("model_type") == "falcon":
        found |= _falcon(config)
    if config.get("model_type") == "glm4" or config.get("model_type") == "glm":
        found["rope_dim"] = _rotary(config)
    if config.get("model_type") == "gptj":
        found["rope_dim"] = int(config.get("rotary_dim") or 0)
    return found


def _falcon(config: Config) -> Words:
    grouped = bool(config.get("new_decoder_architecture"))
    parallel = bool(config.get("parallel_attn", True))
    order = "twin" if grouped else "shared" if parallel else "pre"
    cut = "spread" if grouped else "index" if config.get("multi_query", True) else "view"
    rope = "alibi" if config.get("alibi") else "half"
    return {"norm_order": order, "kv_cut": cut, "rope": rope}


def _rotary(config: Config) -> int:
    """Elements of a head that are rotated: pairs of ceil(part / 2)."""
    rope = config.get("rope_parameters") or config
    part = float(rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1)
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return (int(head * part) + 1) // 2 * 2


def apply(config: Config, model: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a model with the words of its model type in every kind of layer.

    Numbers of a type that is not known come back as they are: they are then taken for
    layers written as Llama's.
    """
    found = words(config)
    if found is None:
        return model
    model = dict(model)
    for name in ("decoder", "encoder"):
        if name in model:
            kinds = [{**kind, **found} for kind in model[name]["kinds"]]
            model[name] = {**model[name], "kinds": kinds}
    return model
