"""Single kernels: Liger's benchmark table, and logits held by a loss alone."""

from __future__ import annotations

import re

from benchmarks.estimator_adapters import NotCovered, Query, Row, ask, by, workspace, worst
from tensorstream.estimator import Model

# The table's names of kernels that are the core's under another name.  GeGLU keeps what SwiGLU
# keeps (liger_kernel/ops: the two factors, in place of which gradients are written).
KERNELS = {
    "fused_linear_grpo_loss_token": "fused_linear_grpo_loss",
    "fused_linear_kto_loss": "kto_loss",
    "cpo_loss": "fused_linear_cpo_loss",
    "orpo_loss": "fused_linear_orpo_loss",
    "simpo_loss": "fused_linear_simpo_loss",
    "tiled_geglu": "tiled_swiglu",
}
PROVIDERS = {"huggingface": "torch"}
PIECES = {"softmax", "layer_norm", "rms_norm"}


def claims(row: Row) -> bool:
    return bool(row["kind"] == "kernel")


def tier(row: Row) -> str:
    return "loss and MLP kernels"


def version(row: Row) -> int:
    """Liger's, as 1000 * major + 100 * minor; 0 when the row names none."""
    found = re.search(r"\(v(\d+)\.(\d+)\.", row["source"])
    return (int(found[1]) * 10 + int(found[2])) * 100 if found else 0


def shape(row: Row) -> dict[str, int]:
    """Every size that the row names, whatever it calls it."""
    config = row["config"]
    sizes = {**config.get("extra", {}), **config}
    named = {k: int(v) for k, v in sizes.items() if isinstance(v, (int, float))}
    batch = named.get("B", named.get("bsz", 1))
    length = named.get("T", named.get("S", named.get("seq_len", 1)))
    if "BT" in named:
        batch, length = 1, named["BT"]
    return {**named, "batch": batch, "length": length}


def model(row: Row, sizes: dict[str, int]) -> Model:
    """A model of the one layer that the kernel is part of."""
    kernel = row["model"].lower()
    hidden = sizes.get("hidden_size", sizes.get("H", 0))
    vocab = sizes.get("vocab_size", sizes.get("V", 0))
    layer: dict[str, object] = {"mixer": "none", "mlp": "dense"}
    layer["ffn"] = sizes.get("intermediate_size", 0)
    if kernel in PIECES:
        hidden = sizes.get("N", sizes.get("H", 0))
    if kernel == "rope":
        heads, kv_heads = sizes["num_q_heads"], sizes["num_kv_heads"]
        hidden, vocab = sizes.get("hidden_size", sizes.get("H", 0)), 0
        vocab = hidden // heads
        layer["ffn"] = vocab * kv_heads
    if kernel == "fused_moe":
        layer |= {"mlp": "moe", "experts": sizes["E"], "active_experts": sizes["K"]}
        layer |= {"expert_ffn": sizes["intermediate_dim"], "ffn": 0}
    stack = {"hidden": max(hidden, 1), "kinds": [layer], "pattern": b"\0"}
    return Model.from_numbers(kernel, {"vocab": vocab, "decoder": stack})


def queries(row: Row) -> list[Query]:
    if row["model"].lower() == "embedding":
        raise NotCovered("the figure holds what earlier runs of the same process left")
    sizes = shape(row)
    kernel = KERNELS.get(row["model"].lower(), row["model"].lower())
    if by(row) == "allocator snapshot":
        kernel, sizes = "logit_tiles", {**sizes, "V": sizes["vocab"], "length": sizes["rows"]}
    elif "liger" not in by(row):
        raise NotCovered(f"no law for {row['framework']}: {row['config'].get('mode')}")
    config = row["config"]
    provider = config.get("provider", "torch")
    length = sizes["M"] if kernel in ("layer_norm", "rms_norm") else sizes["length"]
    kind = str(config.get("extra", {}).get("dtype", "float32")).removeprefix("torch.")
    estimate = ask(
        model(row, sizes),
        mode="measure",
        profile="kernels",
        dtype=kind,
        per_device_batch=sizes["batch"],
        seq_len=length,
        run={
            "kernel": kernel,
            "provider": PROVIDERS.get(provider, provider),
            "shards": sizes.get("num_shards", 1),
            "kernel_version": version(row),
        },
        constants={"workspace_bytes": workspace(row)},
    )
    return [Query(tier(row), row["measured_bytes"], estimate, worst("allocated"))]
