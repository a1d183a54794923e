"""transformers' performance guide of 2021: BERT on a V100, what NVML shows at the end."""

from __future__ import annotations

from benchmarks.estimator_adapters import Query, Row, ask, by, model_of, worst


def claims(row: Row) -> bool:
    return "trainer" in by(row) and by(row).startswith("transformers 4.2")


def tier(row: Row) -> str:
    return "single-GPU fine-tuning"


def queries(row: Row) -> list[Query]:
    config = row["config"]
    mixed = "amp" in config.get("precision", "fp32")
    what = config.get("what", "")
    constants = {}
    if mixed:
        # The softmax is float32 in autocast; its product with values is kept in float16.
        constants = {"autocast": 1, "score_kept": 7}
    model = {**TINY} if what.startswith("CUDA context") else model_of(row)
    estimate = ask(
        model,
        profile="trainer-2021",
        mode="load" if what else "train",
        dtype="fp16" if mixed else "fp32",
        seq_len=config.get("seq_len", 512),
        per_device_batch=config.get("batch", 1),
        grad_accum=config.get("grad_accum", 1),
        recompute="full" if config.get("gradient_checkpointing") else "none",
        attention="eager",
        optimizer=config.get("optimizer", "adamw"),
        run={"param_dtype": "fp32", "grad_dtype": "fp32"},
        constants=constants,
    )
    return [Query(tier(row), row["measured_bytes"], estimate, worst("device"))]


# A 1 x 1 tensor: what is left is the context.
TINY = {
    "model_type": "bert", "hidden_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1,
    "intermediate_size": 1, "vocab_size": 1, "max_position_embeddings": 1,
}  # fmt: skip
