"""Megatron-LM's own arguments become a model and a run.

Names are those of ``megatron/training/arguments.py``, with hyphens or underscores and without
the leading dashes; what is not said has Megatron's default.

>>> from tensorstream.estimator import megatron
>>> arguments = {"num-layers": 12, "hidden-size": 512, "num-attention-heads": 8,
...              "vocab-size": 50257, "seq-length": 1024, "micro-batch-size": 4, "bf16": True}
>>> model, run = megatron.read(arguments, world_size=8)
>>> model.parameters
64055808
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

from tensorstream.estimator import models

Numbers = dict[str, Any]

# A layer that a pipeline layout leaves out: an embedding or a loss has its place.
EMPTY: Numbers = {"mixer": "none", "mlp": "none", "norms": 0}

# Bits of run["recompute_parts"] (csrc/estimate/megatron.h, TS_PART_...).
PARTS = {
    "core_attn": 1, "layernorm": 2, "mla_up_proj": 4, "mlp": 8, "moe_act": 16, "moe": 32,
}  # fmt: skip
OPTIMIZERS = {"adam": "adamw", "sgd": "momentum", "muon": "muon", "dist_muon": "muon",
              "lion": "lion"}  # fmt: skip
SHARDING = {"no_shard": 0, "optim": 1, "optim_grads": 2, "optim_grads_params": 3}
DISPATCHERS = {"allgather": 0, "alltoall": 1, "flex": 2}
GIB = 1 << 30
MAX_TOKENS = 16384  # DynamicInferenceContext.DEFAULT_MAX_TOKENS


# Layers of a stack, and so stages of a pipeline (csrc/estimate/estimate.h).
MOST_LAYERS = 1024


class Arguments:
    """Megatron's arguments by name, spelled either way.

    Raises:
        ValueError: a number that is needed is not there.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = {key.replace("_", "-").lstrip("-"): value for key, value in given.items()}

    def __contains__(self, name: str) -> bool:
        return self._given.get(name) not in (None, False)

    def text(self, name: str, fallback: str) -> str:
        return str(self._given.get(name, fallback))

    def number(self, name: str, fallback: int | None = None) -> int:
        found = self._given.get(name, fallback)
        if found is None:
            raise ValueError(f"Megatron's arguments lack {name!r}")
        try:
            made = int(found)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{name} is {found!r}, not a whole number") from None
        most = MOST_LAYERS if "layers" in name or "pipeline" in name else 1 << 40
        if not -1 <= made <= most:
            raise ValueError(f"{name} is {made}, more than {most} or negative")
        return made

    def real(self, name: str, fallback: float) -> float:
        return float(self._given.get(name, fallback))

    def words(self, name: str) -> list[str]:
        """A list, written as one or as ``[a b c]``."""
        found = self._given.get(name, ())
        return found.strip("[]").replace(",", " ").split() if isinstance(found, str) else found


# ---- one layer -----------------------------------------------------------------------


def attention(args: Arguments) -> Numbers:
    """The mixer of a transformer layer, alone (norms: 1)."""
    heads = args.number("num-attention-heads")
    biased = int("disable-bias-linear" not in args)
    if "multi-latent-attention" in args:
        rope = args.number("qk-pos-emb-head-dim", 64)
        return {
            "mixer": "latent", "heads": heads, "kv_heads": heads,
            "head_dim": args.number("qk-head-dim", 128) + rope, "rope_dim": rope,
            "value_dim": args.number("v-head-dim", 128),
            "q_rank": args.number("q-lora-rank", 0), "kv_rank": args.number("kv-lora-rank", 32),
            "out_bias": biased, "mlp": "none", "norms": 1, **_indexer(args),
        }  # fmt: skip
    grouped = "group-query-attention" in args
    hidden = args.number("hidden-size")
    if "kv-channels" not in args and hidden % heads:
        raise ValueError(f"num-attention-heads {heads} does not divide hidden-size {hidden}")
    return {
        "heads": heads,
        "kv_heads": args.number("num-query-groups", 1) if grouped else heads,
        "head_dim": args.number("kv-channels", hidden // heads),
        "fused_qkv": 1, "qkv_bias": int(biased or "add-qkv-bias" in args), "out_bias": biased,
        "qk_norm": int("qk-layernorm" in args), "mlp": "none", "norms": 1,
    }  # fmt: skip


def _indexer(args: Arguments) -> Numbers:
    """--experimental-attention-variant dsa: what chooses the keys."""
    if args.text("experimental-attention-variant", "") != "dsa":
        return {}
    return {
        "index_heads": args.number("dsa-indexer-n-heads", 64),
        "index_dim": args.number("dsa-indexer-head-dim", 128),
    }


def delta(args: Arguments) -> Numbers:
    """--experimental-attention-variant gated_delta_net, alone."""
    return {
        "mixer": "delta", "conv_width": args.number("linear-conv-kernel-dim", 4),
        "state_dim": args.number("linear-key-head-dim", 128),
        "value_dim": args.number("linear-value-head-dim", 128),
        "state_groups": args.number("linear-num-key-heads", 16),
        "state_heads": args.number("linear-num-value-heads", 32), "mlp": "none", "norms": 1,
    }  # fmt: skip


def _ffn(args: Arguments) -> int:
    """The default is 4 h, and with SwiGLU two thirds of it in multiples of 64."""
    hidden = args.number("hidden-size")
    usual = hidden * 8 // 3 // 64 * 64 if "swiglu" in args else 4 * hidden
    return args.number("ffn-hidden-size", usual)


def mlp(args: Arguments) -> Numbers:
    return {
        "mlp": "dense", "ffn": _ffn(args), "gated": int("swiglu" in args), "fused_gate": 1,
        "mlp_bias": int("disable-bias-linear" not in args),
    }  # fmt: skip


def experts(args: Arguments) -> Numbers:
    return {
        **mlp(args),
        "mlp": "moe", "ffn": 0,
        "experts": args.number("num-experts"),
        "active_experts": args.number("moe-router-topk", 2),
        "expert_ffn": args.number("moe-ffn-hidden-size", _ffn(args)),
        "shared_ffn": args.number("moe-shared-expert-intermediate-size", 0),
    }  # fmt: skip


def mamba(args: Arguments) -> Numbers:
    dim = args.number("mamba-head-dim", 64)
    heads = args.number("mamba-num-heads", 2 * args.number("hidden-size") // dim)
    return {
        "mixer": "mamba2", "inner_dim": heads * dim, "state_heads": heads, "conv_width": 4,
        "state_dim": args.number("mamba-state-dim", 128),
        "state_groups": args.number("mamba-num-groups", 8), "mlp": "none", "norms": 1,
    }  # fmt: skip


def layer(args: Arguments, moe: bool) -> Numbers:
    return {**attention(args), **(experts(args) if moe else mlp(args)), "norms": 2}


# ---- which layers a stage has ---------------------------------------------------------


def frequency(text: str, layers: int) -> list[int]:
    """--moe-layer-freq: of each layer whether it has experts.

    A number n stands for every n-th layer; else a list, or ``([0]*1+[1]*15)``.
    """
    if re.fullmatch(r"[1-9]\d*", text):
        return [int(i % int(text) == 0) for i in range(layers)]
    if not re.fullmatch(r"[\[\]()*+,\s\d]+", text):
        raise ValueError(f"moe-layer-freq {text!r} is no list of zeros and ones")
    pattern = [
        int(one)
        for part, times in re.findall(r"\[([\d,\s]+)\](?:\s*\*\s*(\d+))?", text)
        for one in [*ast.literal_eval(f"({part},)")] * min(int(times or 1), layers + 1)
    ]
    if len(pattern) != layers:
        raise ValueError(f"moe-layer-freq {text!r} tells of {len(pattern)} of {layers} layers")
    return pattern


def unroll(layout: str) -> list[str]:
    """--pipeline-model-parallel-layout: ``Et*3|(tt|)*6mL`` as its stages."""

    def repeat(part: str, times: str) -> str:
        if len(part) * int(times) > 4 * MOST_LAYERS:
            raise ValueError(f"pipeline-model-parallel-layout repeats {part!r} {times} times")
        return part * int(times)

    while found := re.search(r"\(([^()]*)\)\*(\d+)", layout):
        layout = layout.replace(found[0], repeat(found[1], found[2]), 1)
    return re.sub(r"(\w)\*(\d+)", lambda m: repeat(m[1], m[2]), layout).split("|")


def chunks(args: Arguments, pattern: list[int]) -> list[list[int | None]]:
    """Layers of each model chunk, in order; None where an embedding or a loss stands.

    All chunks are of one length, as the core deals layers evenly.
    """
    pp = args.number("pipeline-model-parallel-size", 1)
    layers: list[int | None] = list(pattern)
    if "pipeline-model-parallel-layout" in args:
        at = iter(layers)
        parts = [
            [next(at) for one in stage if one == "t"]
            for stage in unroll(args.text("pipeline-model-parallel-layout", ""))
        ]
        return _even(parts)
    first = args.number("decoder-first-pipeline-num-layers", 0)
    last = args.number("decoder-last-pipeline-num-layers", 0)
    if first or last:
        return _even(_uneven(layers, pp, first, last))
    if "account-for-embedding-in-pipeline-split" in args:
        layers = [None, *layers]
    if "account-for-loss-in-pipeline-split" in args:
        layers = [*layers, None]
    count = pp * virtual(args, len(layers))
    each = -(-len(layers) // count)
    return _even([layers[i * each : (i + 1) * each] for i in range(count)])


def _uneven(layers: list[int | None], pp: int, first: int, last: int) -> list[list[int | None]]:
    """First and last stage as told, the rest dealt evenly to those between."""
    middle = pp - (first > 0) - (last > 0)
    each = (len(layers) - first - last) // max(middle, 1)
    sizes = [first] * (first > 0) + [each] * middle + [last] * (last > 0)
    if sum(sizes) != len(layers):
        raise ValueError(f"{len(layers)} layers do not make stages of {sizes}")
    starts = [sum(sizes[:i]) for i in range(pp)]
    return [layers[start : start + size] for start, size in zip(starts, sizes)]


def _even(parts: list[list[int | None]]) -> list[list[int | None]]:
    most = max(map(len, parts))
    return [[*part, *[None] * (most - len(part))] for part in parts]


def virtual(args: Arguments, layers: int) -> int:
    """Model chunks of a stage."""
    pp = args.number("pipeline-model-parallel-size", 1)
    if "pipeline-model-parallel-layout" in args:
        return len(unroll(args.text("pipeline-model-parallel-layout", ""))) // pp
    if "num-virtual-stages-per-pipeline-rank" in args:
        return args.number("num-virtual-stages-per-pipeline-rank")
    if "num-layers-per-virtual-pipeline-stage" in args and pp > 1:
        return layers // pp // args.number("num-layers-per-virtual-pipeline-stage")
    return 1


# ---- models ---------------------------------------------------------------------------


def _stack(args: Arguments, kinds: list[Numbers], parts: list[list[int | None]]) -> Numbers:
    """Layers of all chunks; an EMPTY kind for those that are None."""
    flat = [len(kinds) if one is None else one for part in parts for one in part]
    rms = args.text("normalization", "LayerNorm") == "RMSNorm"
    learned = args.text("position-embedding-type", "learned_absolute") == "learned_absolute"
    return {
        "hidden": args.number("hidden-size"),
        "norm": "rms" if rms else "layer",
        "norm_bias": int(not rms),
        "positions": args.number("max-position-embeddings") if learned else 0,
        "kinds": [*kinds, EMPTY],
        "pattern": bytes(flat),
    }


def _heads(args: Arguments) -> Numbers:
    return {
        "vocab": args.number("vocab-size"),
        "tied": int("untie-embeddings-and-output-weights" not in args),
    }


def gpt(args: Arguments) -> Numbers:
    layers = args.number("num-layers")
    moe = "num-experts" in args
    pattern = frequency(args.text("moe-layer-freq", "1"), layers) if moe else [0] * layers
    kinds = [layer(args, False), layer(args, True)] if moe else [layer(args, False)]
    if args.text("experimental-attention-variant", "") == "gated_delta_net":
        # Every n-th layer has full attention, the others the delta rule.
        every = args.number("linear-attention-freq", 4)
        kinds += [{**kind, **delta(args), "mlp": kind["mlp"], "norms": 2} for kind in kinds]
        linear = len(kinds) // 2
        pattern = [k + linear * int((i + 1) % every > 0) for i, k in enumerate(pattern)]
    return {**_heads(args), "decoder": _stack(args, kinds, chunks(args, pattern))}


def bert(args: Arguments) -> Numbers:
    """Token types, a dense layer and norm before the head, a pooler and its two classes."""
    numbers = gpt(args)
    hidden = args.number("hidden-size")
    numbers["decoder"]["positions"] += 2
    numbers["decoder"]["extra"] = 2 * (hidden * hidden + hidden) + 2 * hidden + 2 * hidden + 2
    return {**numbers, "head_bias": 1}


def t5(args: Arguments) -> Numbers:
    """Encoder and decoder with one embedding and one table of positions."""
    plain = layer(args, False)
    across = {**plain, "cross": 1, "norms": 3}
    depth = args.number("decoder-num-layers", args.number("encoder-num-layers"))
    encoder = _stack(args, [plain], [[0] * args.number("encoder-num-layers")])
    decoder = _stack(args, [across], [[0] * depth])
    return {
        **_heads(args),
        "head_bias": 1,
        "decoder": decoder,
        "encoder": {**encoder, "positions": 0},
    }


def _alone(part: Numbers) -> Numbers:
    """An MLP as a layer of its own."""
    return {**EMPTY, **part, "norms": 1}


HYBRID: dict[str, Callable[[Arguments], Numbers]] = {
    "M": mamba,
    "*": attention,
    "-": lambda args: _alone(mlp(args)),
    "E": lambda args: _alone(experts(args)),
}


def _pattern(args: Arguments) -> str:
    return args.text("hybrid-layer-pattern", args.text("hybrid-override-pattern", ""))


def hybrid(args: Arguments) -> Numbers:
    """--hybrid-layer-pattern: M Mamba, * attention, - MLP, E experts, | a chunk's end."""
    letters = "".join(letter for letter in HYBRID if letter in _pattern(args))
    main = _pattern(args).split("/")[0].split("|")
    if strange := set("".join(main)) - set(HYBRID):
        raise ValueError(f"hybrid-layer-pattern has layers {sorted(strange)}")
    kinds = [HYBRID[letter](args) for letter in letters]
    parts: list[list[int | None]] = [[letters.index(one) for one in part] for part in main]
    return {**_heads(args), "decoder": _stack(args, kinds, _even(parts))}


def image_tokens(args: Arguments) -> int:
    """Patches of an image and the class token: clip_vit_model.get_num_image_embeddings."""
    if "img-h" not in args:
        return 0
    side = args.number("patch-dim", 16)
    rows, columns = args.number("img-h") // side, args.number("img-w") // side
    return rows * columns + int("disable-vision-class-token" not in args)


def llava(args: Arguments) -> Numbers:
    """pretrain_vlm: the decoder's layers once more as a tower, and an MLP between them.

    The tower has a convolution and a norm before its layers, a class token, learned positions,
    and no norm behind; the projector is the decoder's MLP.
    """
    plain = layer(args, False)
    model = gpt(args)
    hidden, side = args.number("hidden-size"), args.number("patch-dim", 16)
    tokens = image_tokens(args)
    depth = args.number("encoder-num-layers", args.number("num-layers"))
    tower = {**_stack(args, [plain], [[0] * depth]), "positions": tokens, "final_norms": 1}
    tower["extra"] = 3 * side * side * hidden + hidden
    biases = int("disable-bias-linear" not in args) * (_ffn(args) + hidden)
    rows = max(args.number("max-position-embeddings"), args.number("seq-length") + tokens)
    if model["decoder"]["positions"]:
        model["decoder"]["positions"] = rows
    projector = (2 + plain["gated"]) * hidden * _ffn(args) + biases
    # LLaVAModel's head is never the embedding, whatever the arguments say.
    return {**model, "tied": 0, "vision": tower, "patch": side, "projector": projector}


def numbers(args: Arguments) -> Numbers:
    """The architecture that the arguments of pretrain_gpt, _bert, _t5, _mamba or _vlm build."""
    if "img-h" in args:
        return llava(args)
    if "encoder-num-layers" in args:
        return t5(args)
    if _pattern(args):
        return hybrid(args)
    return bert(args) if "bert-binary-head" in args else gpt(args)


# ---- runs -----------------------------------------------------------------------------


def _length(args: Arguments) -> int:
    """Tokens of a sample, the image's among them."""
    text = args.number("seq-length", args.number("decoder-seq-length", 0) or None)
    return text + image_tokens(args)


def _predicting(args: Arguments, model: Numbers) -> Numbers:
    """Multi-token prediction: its layers are of one more kind, with attention and MLP."""
    further = _pattern(args).split("/")[1:]
    heads = args.number("mtp-num-layers", len(further))
    if heads == 0:
        return {}
    kinds = model["decoder"]["kinds"]
    kinds.append(layer(args, "num-experts" in args))
    shared = "mtp-use-repeated-layer" in args
    return {
        "mtp_layers": 1 if shared else heads,
        "mtp_heads": heads,
        "mtp_kind": len(kinds) - 1,
    }


def _ranks(args: Arguments, world_size: int) -> Numbers:
    tp = args.number("tensor-model-parallel-size", 1)
    pp = args.number("pipeline-model-parallel-size", 1)
    cp = args.number("context-parallel-size", 1)
    if world_size % (tp * pp * cp):
        raise ValueError(f"{world_size} ranks are no multiple of tp {tp} x pp {pp} x cp {cp}")
    dp = world_size // (tp * pp * cp)
    batch = args.number("micro-batch-size")
    return {
        "tp": tp, "pp": pp, "cp": cp, "dp": dp, "batch": batch,
        "sp": int("sequence-parallel" in args and tp > 1),
        "ep": args.number("expert-model-parallel-size", 1),
        "etp": args.number("expert-tensor-parallel-size", tp if "num-experts" in args else 1),
        "replicas": args.number("num-distributed-optimizer-instances", 1),
        "micro_batches": max(1, args.number("global-batch-size", batch * dp) // (batch * dp)),
        "chunk_group": args.number("microbatch-group-size-per-virtual-pipeline-stage", 0),
    }  # fmt: skip


def _precision(args: Arguments) -> Numbers:
    fp8 = "fp8-format" in args or "fp8" in args
    dtype = "fp16" if "fp16" in args else "bf16" if fp8 or "bf16" in args else "fp32"
    in_fp32 = "accumulate-allreduce-grads-in-fp32" in args or dtype == "bf16"
    if "grad-reduce-in-bf16" in args:
        in_fp32 = False
    return {
        "dtype": dtype, "param_dtype": dtype, "weight_format": dtype,
        "grad_dtype": "fp32" if in_fp32 else dtype, "master": int(dtype != "fp32"),
        "state_dtype": args.text("exp-avg-dtype", "fp32"),
        "fp8_compute": (2 if "block" in args.text("fp8-recipe", "") else 1) if fp8 else 0,
        "fp8_params": int("fp8-param-gather" in args),
    }  # fmt: skip


def _sharding(args: Arguments) -> Numbers:
    stage = int("use-distributed-optimizer" in args)
    if "use-megatron-fsdp" in args:
        stage = SHARDING[args.text("data-parallel-sharding-strategy", "no_shard")]
    optimizer = OPTIMIZERS[args.text("optimizer", "adam")]
    offloaded = args.real("optimizer-offload-fraction", 1.0)
    return {
        "zero": stage,
        "optimizer": optimizer,
        # The layer-wise optimizer that Muon has, where parameters are not laid out for it.
        "layer_wise": int(
            stage == 1 and optimizer == "muon" and "no-use-layer-wise-param-layout" in args
        ),
        "offload_permille": round(1000 * offloaded) if "optimizer-cpu-offload" in args else 0,
    }


def _recompute(args: Arguments) -> Numbers:
    how = args.text("recompute-granularity", "none")
    if "recompute-activations" in args:
        how = "selective"
    if how == "selective":
        parts = args.words("recompute-modules") or ["core_attn"]
        bits = sum({PARTS[part] for part in parts if part in PARTS})
        return {"recompute": "selective", "recompute_parts": bits}
    if how == "full":
        block = args.text("recompute-method", "uniform") == "block"
        return {
            "recompute": "blocks" if block else "full",
            "recompute_layers": args.number("recompute-num-layers", 1),
        }
    return {"recompute": "none"}


def _vision(args: Arguments) -> Numbers:
    """An image a sample; --freeze-ViT leaves its tower alone, the projector always trains."""
    return {
        "images": 1,
        "image_patches": image_tokens(args),
        "train_vision": int("freeze-ViT" not in args),
        "train_projector": 1,
    }


def _unfused(args: Arguments) -> bool:
    """Transformer Engine's flash and cuDNN kernels take heads of multiples of 8 only
    (get_attention_backend)."""
    heads = args.number("num-attention-heads", 1)
    return args.number("kv-channels", args.number("hidden-size", heads) // heads) % 8 != 0


def _activations(args: Arguments) -> Numbers:
    backend = args.text("attention-backend", "auto")
    unfused = backend in ("unfused", "local") or _unfused(args)
    return {
        "attention": "eager" if unfused else "flash",
        "hidden_dropout": int(args.real("hidden-dropout", 0.1) > 0),
        "attention_dropout": int(args.real("attention-dropout", 0.1) > 0),
        "attention_mask": int("no-create-attention-mask-in-dataloader" not in args),
        # FusedScaleMaskSoftmax takes lengths of multiples of 8 only.
        "softmax_unfused": int(
            "no-masked-softmax-fusion" in args
            or _length(args) % 8 != 0
            or image_tokens(args) % 8
        ),
        "loss": "fused" if "cross-entropy-loss-fusion" in args else "eager",
        "offload_activations": int("fine-grained-activation-offloading" in args),
        "grouped_experts": int("moe-grouped-gemm" in args),
        "expert_dispatch": DISPATCHERS[args.text("moe-token-dispatcher-type", "allgather")],
        "tp_overlap": int("tp-comm-overlap" in args),
        "wgrad_deferral": (
            args.number("wgrad-deferral-limit", 0)
            if "defer-embedding-wgrad-compute" in args
            else 0
        ),
    }


def inference(given: Mapping[str, Any]) -> Numbers:
    """The dynamic engine's cache, and a copy of the weights that another layout asks for."""
    args = Arguments(given)
    buffer = args.real("inference-dynamic-batching-buffer-size-gb", 40.0)
    run: Numbers = {"engine_cache_bytes": int(buffer * GIB), "engine_tokens": 0}
    graphs = "enable-cuda-graph" in args or "cuda-graph-impl" in args
    # Steps that mix prefill and decoding are captured whole, or of dense models layer by layer.
    mixed = "num-experts" not in args or args.text("inference-cuda-graph-scope", "") == "block"
    if graphs and mixed and "decode-only-cuda-graphs" not in args:
        run["engine_tokens"] = args.number("inference-dynamic-batching-max-tokens", MAX_TOKENS)
    if "rl-inference-tensor-model-parallel-size" in args:
        run["engine_tp"] = args.number("rl-inference-tensor-model-parallel-size")
        run["engine_ep"] = args.number(
            "rl-inference-expert-model-parallel-size",
            args.number("expert-model-parallel-size", 1),
        )
    return run


def read(given: Mapping[str, Any], world_size: int) -> tuple[models.Model, Numbers]:
    """A model and the fields of the core's run, from Megatron's arguments.

    Args:
        given: arguments; ``vocab-size`` is the tokenizer's, before padding.
        world_size: GPUs of the whole run.

    Raises:
        ValueError: an argument is missing or contradicts another.
    """
    args = Arguments(given)
    built = numbers(args)
    run = {
        "mode": "train",
        "seq": _length(args),
        "source_seq": args.number("encoder-seq-length", 0) if "encoder" in built else 0,
        "vocab_multiple": args.number("make-vocab-size-divisible-by", 128),
        "vpp": virtual(args, len(built["decoder"]["pattern"])),
        **_ranks(args, world_size),
        **_precision(args),
        **_sharding(args),
        **_recompute(args),
        **_activations(args),
        **_predicting(args, built),
        **(_vision(args) if "img-h" in args else {}),
        "norm_copies": int("log-params-norm" in args),
    }
    if _pattern(args):
        run["vpp"] = len(_pattern(args).split("/")[0].split("|")) // run["pp"] or 1
    return models.Model.from_numbers("megatron", built), run
