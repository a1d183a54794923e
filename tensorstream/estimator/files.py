"""An opened checkpoint becomes a model: its architecture, and the bytes that its file has.

What it computes comes from the ``config.json`` beside it, from a GGUF file's own metadata, or,
where there is neither, from the names and shapes of its tensors.  What its weights take is not
computed: it is what the file says, tensor by tensor, each in its own type.
"""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

from tensorstream import checkpoint
from tensorstream.estimator import models, names

Tensor = checkpoint.TensorInfo
Config = dict[str, Any]

_VISION = re.compile(r"(^|\.)(visual|vision|vision_\w+|v|mm|image_newline|\w*projector)\.")
_TABLES = re.compile(
    r"(^|\.)(embed_tokens|wte|wpe|tok_embeddings|word_embeddings|position_embeddings|token_embd"
    r"|position_embd|per_layer_token_embd|lm_head|embed_out|output|shared)\.weight$"
)


def model_of(opened: checkpoint.Checkpoint) -> models.Model:
    """The model that a checkpoint holds.

    Raises:
        ValueError: no tensors; no config.json beside it, and its names are no known family's;
            less than half of what its config builds: adapters, a part.
    """
    if len(opened) == 0:
        raise ValueError(f"{label(opened)} holds no tensors")
    config = beside(opened) or described(opened) or guessed(opened)
    made = models.Model(label(opened), config)
    held = groups(opened)
    if made.parameters > 2 * opened.num_parameters * _packing(opened):
        raise ValueError(
            f"{made.name} holds {opened.num_parameters:,} parameters, its config builds "
            f"{made.parameters:,}: adapters or a part of a model"
        )
    made.numbers |= {f"held_{name}": size for name, size in held.items()}
    return made


def label(opened: checkpoint.Checkpoint) -> str:
    """A name for tables: the folder's where the file's says nothing."""
    path = pathlib.Path(opened.files[0]) if opened.files else pathlib.Path("arrays")
    usual = path.stem in ("model", "pytorch_model") or re.search(r"-\d{5}-of-\d{5}$", path.stem)
    return path.resolve().parent.name if usual else path.stem


def _packing(opened: checkpoint.Checkpoint) -> int:
    """Elements that one element of a file may stand for: int32 words of GPTQ and AWQ hold 8."""
    words = any(each.dtype in ("I32", "U32", "U8") for each in opened.values())
    return 8 if words else 1


def groups(opened: checkpoint.Checkpoint) -> dict[str, int]:
    """Bytes of the tables, of what sees, and of all the rest; together the whole file's."""
    held = {"layers": 0, "tables": 0, "vision": 0}
    for name, each in opened.items():
        if each.alias_of is None:
            held[group(name)] += each.nbytes
    return held


def group(name: str) -> str:
    if _VISION.search(name):
        return "vision"
    return "tables" if _TABLES.search(name) else "layers"


# ---- config.json ----------------------------------------------------------------------


def beside(opened: checkpoint.Checkpoint) -> Config | None:
    """The ``config.json`` in the folder of the file, where it names a model type."""
    for path in opened.files[:1]:
        config = pathlib.Path(path).parent / "config.json"
        if config.is_file():
            found: Any = json.loads(config.read_text("utf-8"))
            if isinstance(found, dict) and "model_type" in found:
                return found
    return None


# ---- GGUF -----------------------------------------------------------------------------

# general.architecture to a model type (llama.cpp's gguf-py, constants.py: MODEL_ARCH_NAMES).
_ARCHITECTURES = {
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen2moe": "qwen2_moe",
    "qwen3moe": "qwen3_moe", "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3_text",
    "phi2": "phi", "phi3": "phi3", "gpt2": "gpt2", "gptneox": "gpt_neox", "falcon": "falcon",
    "starcoder2": "starcoder2", "stablelm": "stablelm", "olmo2": "olmo2", "bert": "bert",
    "qwen2vl": "qwen2", "qwen3vl": "qwen3", "mistral": "mistral", "smollm3": "smollm3",
    "glm4": "glm4", "command-r": "cohere", "exaone4": "exaone4", "granite": "granite",
}  # fmt: skip
# Names of a config, to keys of the metadata below the architecture's.
_KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "sliding_window": "attention.sliding_window",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
    "vocab_size": "vocab_size",
}


def described(opened: checkpoint.Checkpoint) -> Config | None:
    """A config from a GGUF file's metadata.

    Raises:
        ValueError: an architecture that is not known; a size that differs between layers.
    """
    if opened.format != "gguf":
        return None
    data = opened.metadata
    kind = str(data.get("general.architecture"))
    if kind not in _ARCHITECTURES:
        raise ValueError(
            f"GGUF architecture {kind!r} is not known.{names.near(kind, _ARCHITECTURES)} "
            f"Known: {', '.join(sorted(_ARCHITECTURES))}"
        )
    config: Config = {"model_type": _ARCHITECTURES[kind]}
    for field, key in _KEYS.items():
        value = data.get(f"{kind}.{key}")
        if value is not None:
            config[field] = _same(value, f"{kind}.{key}")
    words = opened.get("token_embd.weight")
    if words is not None:
        config["vocab_size"] = words.shape[0]
    config["tie_word_embeddings"] = "output.weight" not in opened
    return config


def _same(value: Any, key: str) -> int:
    """One number; of a list its only value."""
    if isinstance(value, (str, bytes)):
        raise ValueError(f"{key} is {value!r}, not a number")
    several = {int(one) for one in value} if hasattr(value, "__iter__") else {int(value)}
    if len(several) != 1:
        raise ValueError(f"{key} differs between layers: {sorted(several)}")
    return several.pop()


# ---- names and shapes -----------------------------------------------------------------


class Shapes:
    """Tensors by name, without what wrappers put before them; shapes as torch has them."""

    def __init__(self, opened: checkpoint.Checkpoint) -> None:
        self.by_name = {re.sub(r"^(model|transformer)\.", "", n): t for n, t in opened.items()}

    def rows(self, name: str) -> int:
        """Outputs of a matrix; 0 where there is none."""
        found = self.by_name.get(name)
        return found.shape[0] if found is not None and found.shape else 0

    def has(self, name: str) -> bool:
        return name in self.by_name

    def layers(self, stack: str) -> int:
        """How many numbers follow a name."""
        pattern = re.compile(rf"^{re.escape(stack)}\.(\d+)\.")
        found = {int(m[1]) for n in self.by_name if (m := pattern.match(n))}
        return len(found)


def guessed(opened: checkpoint.Checkpoint) -> Config:
    """A config from names and shapes alone, of decoders that are named as Llama's.

    The width of a head is that of the norms over heads where there are any; else heads are
    taken to be 128 wide, or 64 in models narrower than 2048, which changes no size but that of
    attention's row sums.

    Raises:
        ValueError: its names are not those of such a decoder.
    """
    shapes = Shapes(opened)
    words = shapes.by_name.get("embed_tokens.weight")
    first = "layers.0."
    if (
        words is None
        or len(words.shape) != 2
        or not shapes.has(first + "self_attn.q_proj.weight")
    ):
        some = next(iter(opened), "none")
        raise ValueError(
            f"{label(opened)} has no config.json beside it, and its tensors ({some} ...) are "
            "not named as a known decoder's: put the config.json there, or estimate from a name"
        )
    vocab, hidden = words.shape
    normed = shapes.rows(first + "self_attn.q_norm.weight")
    queries = shapes.rows(first + "self_attn.q_proj.weight")
    keys = shapes.rows(first + "self_attn.k_proj.weight")
    head = _head(queries, keys, normed, hidden)
    config: Config = {
        "model_type": _family(shapes, first, normed),
        "hidden_size": hidden,
        "vocab_size": vocab,
        "num_hidden_layers": shapes.layers("layers"),
        "num_attention_heads": queries // head,
        "num_key_value_heads": keys // head,
        "head_dim": head,
        "intermediate_size": shapes.rows(first + "mlp.gate_proj.weight"),
        "tie_word_embeddings": not shapes.has("lm_head.weight"),
        "attention_bias": shapes.has(first + "self_attn.o_proj.bias"),
        "mlp_bias": shapes.has(first + "mlp.gate_proj.bias"),
    }
    return {**config, **_experts(shapes, first)}


def _head(queries: int, keys: int, normed: int, hidden: int) -> int:
    for width in (normed, 128 if hidden >= 2048 else 64, 64, 32, 16, 8, 4, 2, 1):
        if width and queries % width == 0 and keys and keys % width == 0:
            return width
    raise ValueError(f"no head has {queries} queries and {keys} keys")


def _family(shapes: Shapes, first: str, normed: int) -> str:
    moe = shapes.has(first + "mlp.gate.weight")
    if normed:
        return "qwen3_moe" if moe else "qwen3"
    if moe:
        return "qwen2_moe"
    biased = shapes.has(first + "self_attn.q_proj.bias")
    return "qwen2" if biased and not shapes.has(first + "self_attn.o_proj.bias") else "llama"


def _experts(shapes: Shapes, first: str) -> Config:
    """Experts by their router; how many a token visits no file says: 8, or all there are."""
    count = shapes.rows(first + "mlp.gate.weight")
    if not count:
        return {}
    return {
        "num_experts": count,
        "num_experts_per_tok": min(8, count),
        "moe_intermediate_size": shapes.rows(first + "mlp.experts.0.gate_proj.weight"),
        "shared_expert_intermediate_size": shapes.rows(
            first + "mlp.shared_expert.gate_proj.weight"
        ),
    }
