"""Megatron-LM's functional tests: allocated bytes of the last rank, between steps and at peak.

A row's config is the test's arguments.  What the tests have in common and the rows leave out
is said here: world sizes, tokenizers, and which of them pin cuBLAS's workspaces.
"""

from __future__ import annotations

from typing import Any

from benchmarks.estimator_adapters import NotCovered, Query, Row, by, last, sees
from tensorstream.estimator import Estimate, core, frameworks, megatron, models

# CUBLAS_WORKSPACE_CONFIG=:4096:8, which the deterministic tests export.
PINNED = 8 * 4096 * 1024
# The tokenizers of the tests (--vocab-file, --tokenizer-model of their recipes).
GPT2, BERT_CASED, MULTILINGUAL = 50257, 28996, 131072


# Models that examples/mimo's providers build whatever the arguments say, and their vocabulary.
PROVIDERS = {"llava_vlm": ("llava-hf/llava-1.5-7b-hf", 32256)}
# Their recipe got --bf16 later (history of its model_config.yaml) than the figure without a
# machine's name was made: packed samples then had unfused attention, of lengths nobody noted.
IN_FP32 = "mimo_vlm_pretrain_convergence_tp1_pp1_cp1_dp8_seq_packing"


def claims(row: Row) -> bool:
    return by(row).startswith("megatron-lm")


def tier(row: Row) -> str:
    return "VLM" if sees(row) else "Megatron peak"


# ---- what the rows leave out -----------------------------------------------------------


def world_size(row: Row, model_parallel: int) -> int:
    """Nodes times GPUs; 8 is what the recipes of Megatron's continuous integration say."""
    nodes = row.get("nodes_gpus") or []
    if nodes and nodes[0] != [1, 1]:
        return int(nodes[0][0] * nodes[0][1])
    config = row["config"]
    if "release" in row["model"] and config.get("use-distributed-optimizer"):
        raise NotCovered("the world size is not public, and the optimizer is sharded over it")
    return max(8, model_parallel)


def vocabulary(row: Row) -> int:
    """The model's, where its widths are those of a known one; else the test's tokenizer's."""
    config = row["config"]
    if "vocab-size" in config:
        return int(config["vocab-size"])
    if row["model"].startswith("bert"):
        return BERT_CASED
    if row["model"].startswith("t5"):
        return BERT_CASED + int(config.get("vocab-extra-ids", 0))
    if "tiktoken-pattern" in config:
        return MULTILINGUAL
    return known_vocabulary(config) or GPT2


def known_vocabulary(config: Row) -> int | None:
    """Of a catalogue model with the same width, depth and heads."""
    for found in models.catalogue().values():
        same = (
            found.get("hidden_size") == config.get("hidden-size")
            and found.get("num_hidden_layers") == config.get("num-layers")
            and found.get("num_attention_heads") == config.get("num-attention-heads")
        )
        if same:
            return int(found["vocab_size"])
    return None


def pinned(row: Row) -> bool:
    """Whether the test is deterministic, and so exports CUBLAS_WORKSPACE_CONFIG.

    Not those that fuse the loss (deterministic mode refuses it), say so in their names, are
    releases, reshard checkpoints, or split the sequences of dense models.
    """
    config = row["config"]
    split = config.get("context-parallel-size", 1) > 1 and "num-experts" not in config
    return not (
        config.get("cross-entropy-loss-fusion")
        or ("nondeterministic" in row["model"] and "num-experts" not in config)
        or any(word in row["model"] for word in ("release", "reshard"))
        or (split and "fp8-format" not in config)
    )


def arguments(row: Row) -> dict[str, Any]:
    """The test's, with those that the row dropped and its name still tells."""
    # All of the tests' recipes log the norm of their parameters.
    given = {"log-params-norm": True, **row["config"], "vocab-size": vocabulary(row)}
    name = row["model"]
    if name.startswith("bert"):
        given["bert-binary-head"] = True
    if "account_for_embedding_loss_in_pipeline_split" in name:
        given["account-for-embedding-in-pipeline-split"] = True
        given["account-for-loss-in-pipeline-split"] = True
    if "fine_grained_offloading" in name:
        given["fine-grained-activation-offloading"] = True
    if given.get("use-megatron-fsdp"):
        given["data-parallel-sharding-strategy"] = "optim_grads_params"
    # The recipes of DeepSeek's and Nemotron's proxies make no mask in the data loader.
    latent = given.get("multi-latent-attention") and "num-experts" in given
    if latent or "hybrid-layer-pattern" in given:
        given["no-create-attention-mask-in-dataloader"] = True
    return given


def provided(row: Row, given: Row, run: dict[str, Any]) -> tuple[models.Model, dict[str, Any]]:
    """A model that a provider of examples/mimo builds: only its projector trains."""
    if "total-seq-length" not in given:
        raise NotCovered("how long the samples are is not in the row")
    if row["model"].endswith(IN_FP32) and row["hardware"] == "unknown":
        raise NotCovered("the figure is of an older recipe, in float32, the arguments are not")
    name, vocab = PROVIDERS[given["model-provider"]]
    known = models.known(name)
    model = models.Model.from_numbers(known.name, {**known.numbers, "vocab": vocab})
    return model, {
        **run,
        "seq": int(given["total-seq-length"]),
        "method": "frozen",
        "train_vision": 0,
        "train_projector": 1,
    }


# ---- the question ------------------------------------------------------------------------


def profile(row: Row, given: Row) -> frameworks.Profile:
    hardware = str(row["hardware"])
    # Tests of the long-term support branch without a name are the A100's.
    older = hardware.startswith("A100") or (hardware == "unknown" and row.get("env") == "lts")
    name = "megatron-ampere" if older else "megatron"
    if hardware.startswith("GB200"):
        name = "megatron-blackwell"
    constants: dict[str, Any] = {}
    if pinned(row):
        constants["blas_bytes"] = PINNED
    if given.get("transformer-impl") == "local" or given.get("spec") == "local":
        constants["engine"] = 0
    return frameworks.profile(name).replace(**constants)


def estimate(row: Row) -> Estimate:
    given = arguments(row)
    if given.get("model-provider", "hybrid") not in ("hybrid", *PROVIDERS):
        raise NotCovered(f"the widths of {given['model-provider']}'s models are not in the row")
    if "hidden-size" not in given:
        raise NotCovered("the row holds no arguments of Megatron's")
    parallel = 1
    for name in ("tensor", "pipeline", "context"):
        key = "context-parallel-size" if name == "context" else f"{name}-model-parallel-size"
        parallel *= int(given.get(key, 1))
    size = world_size(row, parallel)
    try:
        model, run = megatron.read(given, max(size, parallel))
        if given.get("model-provider") in PROVIDERS:
            model, run = provided(row, given, run)
        usual = {k: v for k, v in profile(row, given).run.items() if k not in run}
        if row["kind"] == "inference" or given.get("perform-rl-step"):
            run |= megatron.inference(given)
        if row["kind"] == "inference":
            run["mode"] = "generate"
        run["layer_rank"] = run["dp"] * run["cp"] // run["replicas"]  # the last rank
        return Estimate(model, {**usual, **run}, profile(row, given))
    except ValueError as error:
        raise NotCovered(str(error)) from None


def after_step(found: Estimate) -> int:
    """What is allocated between steps on the last stage."""
    ledger: core.Ledger = found.ledgers[-1]
    return ledger.at[ledger.steady_instant]


def queries(row: Row) -> list[Query]:
    found = estimate(row)
    asked = [Query(tier(row), row["measured_bytes"], found, last("allocated"))]
    if row.get("static_bytes") and row["kind"] == "training":
        states = "VLM" if sees(row) else "Megatron states"
        asked.append(Query(states, row["static_bytes"], found, after_step))
    return asked
