"""Models that see, on figures that no list of ours holds: the README of Qwen-VL.

https://github.com/QwenLM/Qwen-VL, "Profiling of Memory and Speed" and "GPU Memory Usage": GB
(1e9) of one A100-SXM4-80GB, each sample with one image.  No constant was fitted to them.
"""

from __future__ import annotations

import pathlib
import statistics
import sys
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from benchmarks import score_estimator as scorer

LENGTHS = (384, 512, 1024, 2048)
TRAINED = {
    ("LoRA (Base)", "Qwen-VL"): (37.1, 37.3, 38.7, 38.7),
    ("LoRA (Chat)", "Qwen-VL-Chat"): (23.3, 23.6, 25.1, 27.3),
    ("Q-LoRA", "Qwen-VL-Chat-Int4"): (17.0, 17.2, 18.2, 19.3),
}
# Tokens of the prompt and after it: figures of bf16 and of GPTQ's 4 bits.
GENERATED = {(2050, 1): (22.60, 11.82), (258, 7934): (28.01, 17.23)}


def row(name: str, model: str, measured: float, **more: Any) -> dict[str, Any]:
    return {
        "id": name, "model": f"Qwen/{model}", "modality": "vlm", "n_gpus": 1, "quality": "B",
        "hardware": "A100-SXM4-80GB", "metric": "GPU memory", "representative": True,
        "measured_bytes": round(measured * 1e9), **more,
    }  # fmt: skip


def rows() -> list[dict[str, Any]]:
    found = []
    for (method, model), figures in TRAINED.items():
        for length, measured in zip(LENGTHS, figures):
            config = {"method": method, "seq_len": length, "batch_size": 1, "grad_accum": 8}
            config |= {"lora_r": 64, "lora_targets": "c_attn,attn.c_proj,w1,w2"}
            more = {
                "framework": "HF Trainer + DeepSpeed (Qwen finetune.py)",
                "kind": "training",
            }
            name = f"{method} {length}"
            found.append(row(name, model, measured, config=config, **more))
    for (prompt, after), both in GENERATED.items():
        for word, model, measured in zip(("BF16", "Int4"), ("Chat", "Chat-Int4"), both):
            config = {"quantization": word, "context_tokens": prompt, "generate_tokens": after}
            more = {"framework": "transformers", "kind": "inference", "config": config}
            found.append(row(f"{word} {prompt} {after}", f"Qwen-VL-{model}", measured, **more))
    return found


@pytest.fixture(scope="module")
def scored() -> list[scorer.Scored]:
    good, missing = scorer.score(filter(scorer.scorable, rows()))
    assert not missing
    return good


def test_they_are_a_tier_of_their_own(scored: list[scorer.Scored]) -> None:
    assert len(scored) == 16 and {one.tier for one in scored} == {"VLM"}


def test_the_mean_error_is_below_the_target(scored: list[scorer.Scored]) -> None:
    """The target is 10 %, what was measured 4.6 %."""
    errors = [abs(one.error) for one in scored]
    assert statistics.fmean(errors) < 0.06
    assert max(errors) < 0.15, {one.id: round(one.error, 3) for one in scored}
