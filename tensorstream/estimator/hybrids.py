"""Models whose layers remember a state: Mamba, its hybrids, gated delta rules, RG-LRU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tensorstream.estimator.architectures import (
    Numbers,
    attention,
    decoder,
    depth,
    moe,
    pick,
)

Config = Mapping[str, Any]


def mamba(config: Config) -> Numbers:
    """Mamba: nothing but selective scans, one norm a layer."""
    hidden = pick(config, "hidden_size")
    layer: Numbers = {
        "mixer": "mamba",
        "mlp": "none",
        "norms": 1,
        "inner_dim": config.get("intermediate_size") or pick(config, "expand") * hidden,
        "state_dim": pick(config, "state_size"),
        "conv_width": pick(config, "conv_kernel"),
        "dt_rank": _dt_rank(config, hidden),
    }
    return decoder(config, [layer], [0] * depth(config), tied=True)


def _dt_rank(config: Config, hidden: int) -> int:
    rank = config.get("time_step_rank", "auto")
    return math.ceil(hidden / 16) if rank == "auto" else int(rank)


def mamba2(config: Config) -> Numbers:
    """Mamba-2: the same in blocks, with heads; the norm inside is gated."""
    hidden = pick(config, "hidden_size")
    layer: Numbers = {
        "mixer": "mamba2",
        "mlp": "none",
        "norms": 1,
        "inner_dim": pick(config, "expand") * hidden,
        "state_dim": pick(config, "state_size"),
        "state_heads": pick(config, "num_heads"),
        "state_groups": pick(config, "n_groups"),
        "conv_width": pick(config, "conv_kernel"),
    }
    return decoder(config, [layer], [0] * depth(config), tied=False)


def jamba(config: Config) -> Numbers:
    """Jamba: Mamba with one layer of attention in a period, experts in every second layer."""
    scan = mamba({**config, **{new: config.get(old) for old, new in _JAMBA.items()}})
    linear = {**scan["decoder"]["kinds"][0], "norms": 2, "mlp": "dense"}
    # The step, B and C are normed.
    linear |= {"ffn": pick(config, "intermediate_size")}
    linear["extra"] = linear["dt_rank"] + 2 * linear["state_dim"]
    full = {**attention(config), "ffn": linear["ffn"]}
    kinds = [linear, moe(config, linear), full, moe(config, full)]

    def turn(i: int, name: str, offset: int, period: int) -> int:
        start = config.get(f"{name}_layer_offset", offset)
        return int(i % (config.get(f"{name}_layer_period") or period) == start)

    pattern = [
        2 * turn(i, "attn", 4, 8) + turn(i, "expert", 1, 2) for i in range(depth(config))
    ]
    return decoder(config, kinds, pattern, tied=False)


# Names that Jamba has for what Mamba's config names.
_JAMBA = {
    "mamba_d_state": "state_size",
    "mamba_d_conv": "conv_kernel",
    "mamba_expand": "expand",
    "mamba_dt_rank": "time_step_rank",
    "_": "intermediate_size",
}


def qwen3_next(config: Config) -> Numbers:
    """Qwen3-Next: three layers of the gated delta rule, then one of gated attention."""
    full = attention(config, qk_norm=1, query_gate=1)
    linear: Numbers = {
        "mixer": "delta",
        "state_dim": pick(config, "linear_key_head_dim"),
        "value_dim": pick(config, "linear_value_head_dim"),
        "state_groups": pick(config, "linear_num_key_heads"),
        "state_heads": pick(config, "linear_num_value_heads"),
        "conv_width": pick(config, "linear_conv_kernel_dim"),
    }
    shared = {"shared_ffn": pick(config, "shared_expert_intermediate_size"), "shared_gate": 1}
    kinds = [moe(config, linear, **shared), moe(config, full, **shared)]
    period = pick(config, "full_attention_interval", default=4)
    types = config.get("layer_types") or [
        "full_attention" if (i + 1) % period == 0 else "linear_attention"
        for i in range(depth(config))
    ]
    pattern = [int(kind == "full_attention") for kind in types]
    return decoder(config, kinds, pattern, tied=False)


def recurrent_gemma(config: Config) -> Numbers:
    """RecurrentGemma: two recurrent layers, then one of windowed attention."""
    hidden = pick(config, "hidden_size")
    half = pick(config, "intermediate_size") // 2  # the config counts gate and up
    width = config.get("lru_width") or hidden
    windowed = attention(config, window=pick(config, "attention_window_size"), out_bias=1)
    windowed |= {"ffn": half, "mlp_bias": 1}
    layer: Numbers = {
        "mixer": "recurrent",
        "heads": pick(config, "num_attention_heads"),
        "inner_dim": width,
        "conv_width": pick(config, "conv1d_width"),
        "ffn": half,
        "mlp_bias": 1,
    }
    types = pick(
        config, "block_types", "_block_types", default=("recurrent",) * 2 + ("attention",)
    )
    pattern = [int(types[i % len(types)] == "attention") for i in range(depth(config))]
    return decoder(config, [layer, windowed], pattern, tied=True)


HYBRIDS: dict[str, Callable[[Config], Numbers]] = {
    "jamba": jamba,
    "mamba": mamba,
    "mamba2": mamba2,
    "qwen3_next": qwen3_next,
    "recurrent_gemma": recurrent_gemma,
}
