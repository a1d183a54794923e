"""``EstimatorConfig``: what is asked, in the words people use, and the run it becomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tensorstream.estimator import core, frameworks, gpus, images, models, names, plugins

GIB = 1 << 30

# Names of dtypes as people write them, and the core's.
DTYPES = {
    "fp32": "fp32", "float32": "fp32", "bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16",
    "float16": "fp16", "int8": "int8", "fp8": "fp8", "int4": "int4", "nf4": "nf4",
}  # fmt: skip


def dtype(word: str) -> str:
    """A number format of the core; ValueError with the near name otherwise."""
    found = DTYPES.get(word, word)
    return names.choose("dtype", found, core.formats())


@dataclasses.dataclass
class LoraConfig:
    """Adapters.

    Attributes:
        rank, alpha: r and its scale (which takes no memory).
        quantized: True is QLoRA: the frozen matrices are kept in `format`.
        format: of frozen matrices when quantized: ``nf4``, ``nf4_double``, ``int8``,
            ``gptq_int4`` ...
        target_modules: names of matrices (``q_proj``, ``w1``, ``c_attn`` ..., or one of
            ``all-linear``, ``attention``, ``mlp``).
        params_override: adapter parameters, when they are known better.
        dropout: above 0 the adapters' inputs are kept a second time.
        dora: a magnitude per output more (2402.09353).
        dtype: of the adapters.
        train_embeddings: embeddings and head train as well.
    """

    rank: int = 8
    alpha: float = 16.0
    quantized: bool = False
    format: str = "nf4"
    target_modules: tuple[str, ...] = ("all-linear",)
    params_override: int | None = None
    dropout: float = 0.0
    dora: bool = False
    dtype: str = "fp32"
    train_embeddings: bool = False


MOST_SIDE = 1 << 20  # of an image, a patch, a width: far above real ones


@dataclasses.dataclass
class VisionConfig:
    """Images of one sequence; the tower itself is part of the model.

    How a picture becomes patches and tokens is the model's own: one size for all, tiles, or as
    many as it has pixels (tensorstream/estimator/images.py).

    Attributes:
        image_size: side of square pictures, pixels; `height` and `width` say otherwise.
        patch_size, layers, hidden: a plain tower for models that have none.
        images: pictures of a sequence.
        frames: of a video, which each picture then is; 0: a picture.
        min_pixels, max_pixels: between which Qwen-VL scales; 0: as its processor does.
        max_tiles: InternVL's tiles, or Idefics3's along a side; 0: as their processors do.
        added: their tokens come on top of `seq_len`; they are within it by default.
        train, train_projector: those parts train; None: as the rest does in a full fine-tune,
            not beside adapters.
        recompute: the tower's layers keep their inputs only.
    """

    enabled: bool = True
    image_size: int = 448
    patch_size: int = 14
    layers: int = 24
    hidden: int = 1024
    images: int = 1
    frames: int = 0
    height: int = 0
    width: int = 0
    min_pixels: int = 0
    max_pixels: int = 0
    max_tiles: int = 0
    added: bool = False
    train: bool | None = None
    train_projector: bool | None = None
    recompute: bool = False

    def __post_init__(self) -> None:
        for name in ("image_size", "patch_size", "layers", "hidden"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 < value <= MOST_SIDE:
                raise ValueError(f"vision.{name} is {value!r}, not a whole number above 0")


@dataclasses.dataclass
class OffloadConfig:
    """What lives in host memory."""

    parameters: bool = False
    optimizer: bool = False
    activations: bool = False


@dataclasses.dataclass
class KvConfig:
    """The cache of keys and values.

    Attributes:
        format: number format of the cache.
        block: tokens a page holds.
        residual: latest tokens kept unquantised.
        tokens: room for so many tokens in all; 0: for those of the run.
    """

    format: str = "bf16"
    block: int = 1
    residual: int = 0
    tokens: int = 0


# Words for matrices, to bits of the run's targets.
_TARGET_WORDS = {
    "q": ("q_proj", "wq", "query", "to_q", "q", "q_a_proj", "q_b_proj"),
    "k": ("k_proj", "wk", "key", "to_k", "k", "kv_a_proj_with_mqa"),
    "v": ("v_proj", "wv", "value", "to_v", "v", "kv_b_proj"),
    "o": ("o_proj", "wo", "out_proj", "dense", "to_out", "o", "output_proj"),
    "gate": ("gate_proj", "w1", "gate"),
    "up": ("up_proj", "w3", "fc1", "dense_h_to_4h", "up"),
    "down": ("down_proj", "w2", "fc2", "dense_4h_to_h", "down"),
    "router": ("router",),
    "experts": ("experts",),
    "head": ("lm_head", "output", "head"),
    "embed": ("embed_tokens", "tok_embeddings", "wte", "embed"),
    "state": ("in_proj", "x_proj", "dt_proj"),
    "vision": ("vision",),
}  # fmt: skip
_TARGET_GROUPS = {
    "all-linear": ("q", "k", "v", "o", "gate", "up", "down", "experts"),
    "attention": ("q", "k", "v", "o"),
    "mlp": ("gate", "up", "down"),
    "qkv": ("q", "k", "v"),
    "c_attn": ("q", "k", "v"),
    "qkv_proj": ("q", "k", "v"),
    "query_key_value": ("q", "k", "v"),
    "w_pack": ("q", "k", "v"),
    "gate_up_proj": ("gate", "up"),
    "c_proj": ("o", "down"),
}


def target_groups() -> list[str]:
    """Words that a form may offer: the groups, then each matrix by its usual name."""
    plain = ("all-linear", "attention", "mlp", "qkv")
    return [*plain, *(spellings[0] for spellings in _TARGET_WORDS.values())]


def targets(words: tuple[str, ...] | list[str] | str) -> int:
    """The bits of run["targets"] that names of modules stand for.

    Raises:
        ValueError: no such module; the sentence names the near one.
    """
    given = [words] if isinstance(words, str) else list(words)
    by_word = {word: name for name, all_ in _TARGET_WORDS.items() for word in (*all_, name)}
    bits = 0
    for word in given:
        lower = word.lower()
        if lower not in _TARGET_GROUPS and lower not in by_word:
            names.choose("target_modules", lower, [*_TARGET_GROUPS, *by_word])
        for name in _TARGET_GROUPS.get(lower) or (by_word[lower],):
            bits |= core.TARGETS[name]
    return bits


@dataclasses.dataclass
class ProbeConfig:
    """A real run to compare with."""

    enabled: bool = True
    steps: int = 6
    warmup: int = 3
    device: str = "cuda"
    device_id: int = 0


@dataclasses.dataclass
class OverheadConfig:
    """Flat sums that the original asked for, GiB; None: the profile's own.

    With profile ``original`` they are its cushions (2.5, 3, 5, and by ZeRO stage); with the
    others `cuda_libs_gib` replaces the context, `fragmentation_gib` what is reserved beyond,
    and the other two are added.
    """

    cuda_libs_gib: float | None = None
    misc_overhead_gib: float | None = None
    fragmentation_gib: float | None = None
    deepspeed_overhead_gib: float | None = None


@dataclasses.dataclass
class FactorConfig:
    """The original's activation factors; they have a meaning with its profile only."""

    attn_act_factor_no_fa: float = 4.0
    attn_act_factor_fa: float = 0.8
    mlp_act_factor: float = 6.0
    logits_factor: float = 1.0
    grad_ckpt_reduction: float = 0.35


@dataclasses.dataclass
class EstimatorConfig:
    """What is to be estimated.  Sizes are in tokens and counts unless they say GiB.

    The first block has the original's names and defaults, the second what it lacked.

    Attributes:
        model: a known name, a path to a config.json or its folder, a dict, a Model.
        is_seq2seq: the model must have an encoder; it reads `seq_len` tokens too.
        vocab_size_override: rows of the embedding.
        optimizations: names (``flashattention``, ``gradient_checkpointing``, ``fused_loss``,
            ``liger`` ...) to their parameters, or a list of names.
        vision: images of a sequence; a tower of these sizes where the model has none.
        mode: ``"train"``, ``"generate"`` or ``"load"``.
        profile: a framework (``tensorstream.estimator.frameworks.known()``), or
            ``"original"``; None chooses by mode.
        gpu: a name of the catalogue: its context, its workspace, and whether it fits.
        new_tokens: generated after the prompt.
        use_kv_cache: keys and values are kept; None: as the profile does.
        hpz: ZeRO++'s hpZ: ranks of a node that keep a second copy of the sharded weights
            between them (DeepSpeed's zero_hpz_partition_size); True: 8.
        quantized_gather: ZeRO++'s qwZ: weights are gathered as int8.
        run: further fields of the core's run, by name (csrc/estimate/estimate.h).
        constants: fields of the profile to replace, by name.
        registry: optimizations that are known; a new one by default.

    Raises:
        ValueError: an unknown name or word; the sentence names the field and the near one.
    """

    model: Any
    is_seq2seq: bool = False
    vocab_size_override: int | None = None
    seq_len: int = 2048
    per_device_batch: int = 1
    grad_accum: int = 1
    dtype: str = "bf16"
    dp: int = 1
    tp: int = 1
    pp: int = 1
    zero_stage: int = 0
    lora: LoraConfig | Mapping[str, Any] | None = None
    optimizations: Mapping[str, Any] | Sequence[str] = dataclasses.field(default_factory=dict)
    use_kv_cache: bool | None = None
    vision: VisionConfig | Mapping[str, Any] | None = None
    overheads: OverheadConfig | Mapping[str, Any] | None = None
    factors: FactorConfig | Mapping[str, Any] | None = None
    probe: ProbeConfig | Mapping[str, Any] | None = None

    mode: str = "train"
    profile: str | None = None
    gpu: str | None = None
    new_tokens: int = 0
    source_seq: int = 0
    vpp: int = 1
    cp: int = 1
    sp: bool = False
    ulysses: int = 1
    ep: int = 1
    etp: int = 1
    fsdp: int = 0
    replicas: int = 1
    hpz: int = 0
    quantized_gather: bool = False
    optimizer: str = "adamw"
    optimizer_dtype: str = "fp32"
    master_weights: bool | None = None
    recompute: str = "none"
    recompute_layers: int = 0
    attention: str = "sdpa"
    loss: str = "eager"
    loss_chunk: int = 1024
    weight_format: str | None = None
    offload: OffloadConfig | Mapping[str, Any] | None = None
    kv: KvConfig | Mapping[str, Any] | None = None
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    registry: plugins.Registry = dataclasses.field(
        default_factory=plugins.Registry, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for name, kind in SECTIONS.items():
            setattr(self, name, _section(kind, name, getattr(self, name)))
        self.dtype = dtype(self.dtype)
        names.check("run", self.run, core.fields("run"))
        if self.factors is not None and self.profile != "original":
            raise ValueError("factors have a meaning with profile 'original' only")

    @property
    def switched(self) -> dict[str, Any]:
        """Optimizations by name, with their parameters, or True."""
        given = self.optimizations
        return dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, True)

    @property
    def total_batch_size(self) -> int:
        """Sequences of one optimizer step."""
        return self.per_device_batch * self.grad_accum * self.dp

    @property
    def has_lora(self) -> bool:
        return self.lora is not None

    lora_enabled = has_lora

    @property
    def qlora_enabled(self) -> bool:
        return isinstance(self.lora, LoraConfig) and self.lora.quantized

    @property
    def has_vision(self) -> bool:
        return isinstance(self.vision, VisionConfig) and self.vision.enabled

    def is_optimization_enabled(self, name: str) -> bool:
        return bool(self.switched.get(name, False))

    def get_optimization_params(self, name: str) -> dict[str, Any]:
        """The parameters given with an optimization; empty without."""
        given = self.switched.get(name)
        return dict(given) if isinstance(given, Mapping) else {}

    def effects(self) -> list[tuple[str, plugins.Effect]]:
        """What optimizations change of areas, by whose name, in order."""
        chosen = self.registry.chosen(self.switched)
        found = [(one.name, effect) for one, _ in chosen for effect in one.effects]
        given = self.overheads
        if self.profile != "original" and isinstance(given, OverheadConfig):
            for name in ("misc_overhead_gib", "deepspeed_overhead_gib"):
                size = getattr(given, name)
                if size:
                    found.append((name, plugins.Effect("other", "add", size * GIB)))
        return found

    def to_profile(self) -> frameworks.Profile:
        """The framework's profile, with this config's GPU, overheads and constants."""
        usual = "trainer" if self.mode == "train" else "transformers"
        found = frameworks.profile(self.profile or usual)
        constants: dict[str, Any] = {}
        if self.gpu is not None and self.profile != "original":
            constants |= gpus.gpu(self.gpu).constants()
        for one, _ in self.registry.chosen(self.switched):
            constants |= one.constants
        return found.replace(**constants, **self._overhead_constants()).replace(
            **self.constants
        )

    def _overhead_constants(self) -> dict[str, int]:
        if isinstance(self.factors, FactorConfig):
            f = self.factors
            return {
                "plain_factor": round(1000 * f.attn_act_factor_no_fa),
                "flash_factor": round(1000 * f.attn_act_factor_fa),
                "mlp_factor": round(1000 * f.mlp_act_factor),
                "logits_factor": round(1000 * f.logits_factor),
            }
        given = self.overheads
        if self.profile == "original" or not isinstance(given, OverheadConfig):
            return {}
        pairs = {
            "context_bytes": given.cuda_libs_gib,
            "fragment_bytes": given.fragmentation_gib,
        }
        return {name: int(size * GIB) for name, size in pairs.items() if size is not None}

    def to_model(self) -> models.Model:
        """The model, with this config's vocabulary and tower.

        Raises:
            ValueError: `is_seq2seq` of a model without an encoder.
        """
        found = models.model(self.model)
        if self.is_seq2seq and not found.numbers.get("encoder"):
            raise ValueError(f"is_seq2seq: {found.name} has no encoder")
        changed = dict(found.numbers)
        if self.weight_format is not None:  # not as the file has them
            changed = {k: v for k, v in changed.items() if not k.startswith("held_")}
        if self.vocab_size_override is not None:
            changed["vocab"] = self.vocab_size_override
        if self.has_vision and not changed.get("vision") and self.profile != "original":
            changed |= _tower(self.vision)
        if changed == found.numbers:
            return found
        return models.Model.from_numbers(found.name, changed)

    def to_run(self) -> dict[str, Any]:
        """The fields of the core's run."""
        asked: dict[str, Any] = {
            "mode": self.mode, "batch": self.per_device_batch, "seq": self.seq_len,
            "source_seq": self.source_seq or self.is_seq2seq * self.seq_len,
            "new_tokens": self.new_tokens,
            "micro_batches": self.grad_accum, "dp": self.dp, "replicas": self.replicas,
            "tp": self.tp, "sp": int(self.sp), "pp": self.pp, "vpp": self.vpp, "cp": self.cp,
            "ulysses": self.ulysses, "ep": self.ep, "etp": self.etp, "zero": self.zero_stage,
            "fsdp": self.fsdp, "hpz": 8 if self.hpz is True else int(self.hpz),
            "quantized_gather": int(self.quantized_gather), "dtype": self.dtype,
            "optimizer": self.optimizer,
            "state_dtype": dtype(self.optimizer_dtype), "recompute": self.recompute,
            "recompute_layers": self.recompute_layers, "attention": self.attention,
            "loss": self.loss, "loss_chunk": self.loss_chunk,
            "kv_cache": int(bool(self.use_kv_cache)), "weight_format": self.dtype,
            "param_dtype": self.dtype, "grad_dtype": self.dtype,
        }  # fmt: skip
        for one, given in self.registry.chosen(self.switched):
            asked |= one.fields(given)
        asked |= _lora_run(self.lora) | _kv_run(self.kv) | _offload_run(self.offload)
        if self.weight_format is not None:
            asked["weight_format"] = dtype(self.weight_format)
        # Checkpoints quantised beforehand leave towers as they were; bitsandbytes packs all.
        asked["pack_vision"] = int(
            asked["weight_format"] in ("nf4", "nf4_double", "fp4", "int8")
        )
        asked["train_vision"] = asked["train_projector"] = int(asked.get("method") is None)
        if isinstance(self.vision, VisionConfig) and self.vision.enabled:
            asked |= self._vision_run(self.vision)
        if self.profile == "original":
            asked |= self._original_run()
        elif self.gpu is not None:
            asked["device_bytes"] = gpus.gpu(self.gpu).memory
        if self.master_weights is not None:
            asked["master"] = int(self.master_weights)
        defaults = core.fields("run")
        usual = frameworks.profile(self.to_profile().name).run
        untouched = {k for k in usual if asked.get(k, defaults[k].fallback) in _fallbacks(k)}
        if self.use_kv_cache is not None:
            untouched.discard("kv_cache")
        run = {**asked, **{k: usual[k] for k in untouched}, **self.run}
        _check_run(run)
        return run

    def _vision_run(self, vision: VisionConfig) -> dict[str, Any]:
        """Images as the tower and the decoder get them.

        Raises:
            ValueError: more image tokens than `seq_len`; a picture that cannot be.
        """
        run = _trained(vision) | {"vision_recompute": int(vision.recompute)}
        found = None
        if self.profile != "original":
            sides = (vision.height or vision.image_size, vision.width or vision.image_size)
            limits = (vision.frames, vision.min_pixels, vision.max_pixels, vision.max_tiles)
            found = images.seen(models.model(self.model).config, images.Asked(*sides, *limits))
        if found is None:
            return run | _plain_images(vision)
        tokens = vision.images * found.tokens
        if not vision.added and tokens > self.seq_len:
            raise ValueError(
                f"vision: {tokens} image tokens do not fit seq_len {self.seq_len}; raise it, "
                "or say added: they then come on top"
            )
        return run | {
            "seq": self.seq_len + tokens * int(vision.added),
            "images": vision.images * found.sequences,
            "image_patches": found.patches,
            "image_tokens": tokens,
        }

    def _original_run(self) -> dict[str, Any]:
        """The original's flat sums: 2.5, 3 and 5 GiB, DeepSpeed's by stage."""
        given = (
            self.overheads if isinstance(self.overheads, OverheadConfig) else OverheadConfig()
        )
        usual = (
            (given.cuda_libs_gib, 2.5),
            (given.misc_overhead_gib, 3.0),
            (given.fragmentation_gib, 5.0),
            (given.deepspeed_overhead_gib, {1: 1.5, 2: 2.0, 3: 3.0}.get(self.zero_stage, 1.0)),
        )
        flat = sum(fallback if size is None else size for size, fallback in usual)
        run: dict[str, Any] = {"flat_bytes": int(flat * GIB)}
        if isinstance(self.factors, FactorConfig):
            run["reduction_permille"] = round(1000 * self.factors.grad_ckpt_reduction)
        return run


SECTIONS: dict[str, type[Any]] = {
    "lora": LoraConfig,
    "vision": VisionConfig,
    "offload": OffloadConfig,
    "kv": KvConfig,
    "overheads": OverheadConfig,
    "factors": FactorConfig,
    "probe": ProbeConfig,
}


def _tower(vision: Any) -> dict[str, Any]:
    """A plain vision transformer of these sizes."""
    if vision.image_size % vision.patch_size:
        raise ValueError(
            f"vision: patch_size {vision.patch_size} does not divide image_size"
            f" {vision.image_size}"
        )
    heads = max(1, vision.hidden // 64)
    layer = {"heads": heads, "kv_heads": heads, "head_dim": vision.hidden // heads}
    layer |= {"ffn": 4 * vision.hidden, "gated": 0, "mlp_bias": 1, "qkv_bias": 1, "out_bias": 1}
    stack = {"hidden": vision.hidden, "norm": "layer", "norm_bias": 1, "kinds": [layer]}
    return {"vision": {**stack, "pattern": bytes(vision.layers)}, "patch": vision.patch_size}


def _trained(vision: VisionConfig) -> dict[str, Any]:
    """What the section says about training, where it says anything."""
    said = {"train_vision": vision.train, "train_projector": vision.train_projector}
    return {name: int(value) for name, value in said.items() if value is not None}


def _plain_images(vision: VisionConfig) -> dict[str, Any]:
    """Of models whose processor is not known: every patch of a square picture is a token."""
    side = vision.image_size // vision.patch_size
    return {
        "images": vision.images * max(1, -(-vision.frames // 2)),
        "image_patches": side * side,
        "image_cells": side * side * vision.layers,
        "image_width": vision.hidden,
    }


# The run's names where a configuration says otherwise.
_SPOKEN = {
    "seq": "seq_len", "batch": "per_device_batch", "micro_batches": "grad_accum",
    "zero": "zero_stage", "state_dtype": "optimizer_dtype", "kv_cache": "use_kv_cache",
}  # fmt: skip


def _check_run(run: Mapping[str, Any]) -> None:
    """The core checks again; here a field is named as the user wrote it."""
    names.check("run", run, core.fields("run"))
    for name, value in run.items():
        field, spoken = core.fields("run")[name], _SPOKEN.get(name, name)
        if field.words is not None and isinstance(value, str):
            names.choose(spoken, value, field.words)
        elif isinstance(value, int) and not field.least <= value <= field.most:
            raise ValueError(f"{spoken} is {value}, not between {field.least} and {field.most}")
        elif not isinstance(value, int):
            raise TypeError(f"{spoken}: a whole number is wanted, not {value!r}")


def _fallbacks(field: str) -> tuple[Any, ...]:
    """A run field's fallback, as the number and as the word."""
    found = core.fields("run")[field]
    if found.words is None:
        return (found.fallback,)
    return (found.fallback, found.words[found.fallback])


def _section(kind: type[Any], name: str, given: Any) -> Any:
    """A dict, True or an instance as the section's dataclass; unknown keys are errors."""
    if given is None or given is False:
        return None
    if isinstance(given, kind):
        return given
    if given is True:
        return kind()
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} is a dict, true or false, not {given!r}")
    known = [field.name for field in dataclasses.fields(kind)]
    names.check(name, given, known)
    return kind(**given)


def _lora_run(lora: Any) -> dict[str, Any]:
    if lora is None:
        return {}
    run: dict[str, Any] = {
        "method": "dora" if lora.dora else "lora",
        "rank": lora.rank,
        "targets": targets(lora.target_modules),
        "adapter_dtype": dtype(lora.dtype),
        "adapter_dropout": int(lora.dropout > 0),
        "train_embeddings": int(lora.train_embeddings),
        "adapter_count": lora.params_override or 0,
    }
    if lora.quantized:
        run["weight_format"] = dtype(lora.format)
    return run


def _kv_run(kv: Any) -> dict[str, Any]:
    if kv is None:
        return {}
    return {
        "kv_cache": 1,
        "kv_format": dtype(kv.format),
        "kv_block": kv.block,
        "kv_residual": kv.residual,
        "kv_tokens": kv.tokens,
    }


def _offload_run(offload: Any) -> dict[str, Any]:
    if offload is None:
        return {}
    return {
        "offload_params": int(offload.parameters),
        "offload_optimizer": int(offload.optimizer),
        "offload_activations": int(offload.activations),
    }
