"""Towers for images: parameters, and what each layer keeps for backward, held against torch."""

from __future__ import annotations

import itertools
import types
from typing import Any

import pytest
from conftest import oracle

from tensorstream import _core
from tensorstream.estimator import architectures, recording

torch = oracle("torch")
transformers = oracle("transformers")

if int(transformers.__version__.split(".")[0]) < 5:
    pytest.skip("layers are held as transformers 5 writes them", allow_module_level=True)
torch.set_num_threads(1)

pytestmark = pytest.mark.filterwarnings("ignore")

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
TEXT = {
    "hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 2, "head_dim": 12,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 97,
}  # fmt: skip
PLAIN = {
    "hidden_size": 40, "intermediate_size": 56, "num_hidden_layers": 3, "image_size": 56,
    "num_attention_heads": 5, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
QWEN = {
    "hidden_size": 32, "out_hidden_size": 48, "depth": 3, "num_heads": 4, "patch_size": 14,
    "intermediate_size": 40, "window_size": 56, "fullatt_block_indexes": [1],
    "deepstack_visual_indexes": [2], "num_position_embeddings": 64, "spatial_merge_size": 2,
}  # fmt: skip
# model type: (class without its ending, vision config, more of the config).
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gemma3": ("Gemma3", PLAIN, {"mm_tokens_per_image": 4}),
    "idefics3": ("Idefics3", PLAIN, {}),
    "internvl": (
        "InternVL",
        {**PLAIN, "image_size": [56, 56], "patch_size": [14, 14], "attention_bias": True},
        {},
    ),
    "llava": ("Llava", PLAIN, {}),
    "llava_next": ("LlavaNext", PLAIN, {}),
    "llava_onevision": ("LlavaOnevision", PLAIN, {}),
    "mistral3": ("Mistral3", PLAIN, {}),
    "paligemma": ("PaliGemma", PLAIN, {}),
    "qwen2_5_vl": ("Qwen2_5_VL", QWEN, {}),
    "qwen2_vl": ("Qwen2VL", {**QWEN, "embed_dim": 32, "hidden_size": 48, "mlp_ratio": 3}, {}),
    "qwen3_vl": ("Qwen3VL", QWEN, {}),
    "smolvlm": ("SmolVLM", PLAIN, {}),
}


class Seeing(torch.nn.Module):  # type: ignore[misc]
    """A tower whose output sums to a loss."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, **batch: Any) -> Any:
        out = self.tower(**batch).last_hidden_state
        return types.SimpleNamespace(loss=out.float().sum())


def build(kind: str, dtype: str, attention: str) -> tuple[Any, Any]:
    """The config and a model of random weights."""
    name, vision, more = MODELS[kind]
    usual = transformers.AutoConfig.for_model(kind)
    types_ = {"model_type": usual.vision_config.model_type}
    inner = {**TEXT, "model_type": usual.text_config.model_type}
    config = transformers.AutoConfig.for_model(
        kind, vision_config={**vision, **types_}, text_config=inner, **more
    )
    torch.manual_seed(0)
    model = getattr(transformers, name + "ForConditionalGeneration")._from_config(
        config, attn_implementation=attention, dtype=DTYPES[dtype]
    )
    return config, model.train()


def tower_of(model: Any) -> Any:
    inner = model.model
    return next(
        getattr(inner, name)
        for name in ("visual", "vision_tower", "vision_model")
        if hasattr(inner, name)
    )


def pictures(kind: str, count: int, dtype: str) -> tuple[dict[str, Any], int]:
    """Pixels of `count` images, as the tower asks for them, and patches of one."""
    if kind.startswith("qwen"):
        grid = torch.tensor([[1, 8, 8]] * count)
        pixels = torch.randn(count * 64, 3 * 2 * 14 * 14)
        return {"hidden_states": pixels, "grid_thw": grid}, 64
    batch: dict[str, Any] = {"pixel_values": torch.randn(count, 3, 56, 56, dtype=DTYPES[dtype])}
    if kind == "mistral3":  # one sequence of all patches, each image seeing itself
        batch["image_sizes"] = torch.tensor([[56, 56]] * count)
    return batch, 16 + int(kind.startswith(("llava", "internvl")) and kind != "llava_onevision")


@pytest.mark.parametrize("kind", MODELS)
def test_parameters_are_those_transformers_builds(kind: str) -> None:
    config, model = build(kind, "fp32", "eager")
    count, _ = _core.model_parameters(architectures.numbers(config.to_dict()), {})
    assert count == model.num_parameters()


@pytest.mark.parametrize("kind", MODELS)
def test_a_towers_layers_keep_what_torch_keeps(kind: str) -> None:
    """Trained, eager and SDPA, with and without checkpointing: bytes of every layer."""
    for (draw, dtype), attention in itertools.product(enumerate(DTYPES), ("eager", "sdpa")):
        count = (2, 1)[draw] if kind != "mistral3" else 1
        batch, patches = pictures(kind, count, dtype)
        for again in ("none", "full"):
            config, model = build(kind, dtype, attention)
            numbers = architectures.numbers(config.to_dict())
            if again == "full":
                model.gradient_checkpointing_enable()
            seeing = Seeing(tower_of(model)).train()
            record = recording.record(seeing, batch)
            run = {"batch": 1, "images": count, "image_patches": patches, "dtype": dtype}
            run |= {"host": 1, "attention": attention, "recompute": again, "method": "full"}
            for layer in range(len(numbers["vision"]["pattern"])):
                rows = _core.saved_tensors(numbers, run, 2, layer, True)
                ours, theirs = sum(size for _, size, _ in rows), record.bytes(layer)
                where = f"{dtype} {attention} {again} layer {layer}"
                assert ours == theirs, f"{where}: {ours} and {theirs}\n{record.table(layer)}"
