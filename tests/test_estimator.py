"""The estimator: configurations in, parts that sum, errors that name the field."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from conftest import oracle

import tensorstream as ts
from tensorstream import _core
from tensorstream.estimator import architectures, core, frameworks, models

LLAMA = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 688,
    "vocab_size": 1000,
}


def test_importing_the_package_does_not_import_the_estimator() -> None:
    code = "import sys, tensorstream; print('tensorstream.estimator' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", sorted(models.catalogue()))
def test_known_models_have_numbers(name: str) -> None:
    assert models.known(name).parameters > 0
    assert models.known(name.rpartition("/")[2].upper()).name == name


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "qwen3_moe"])
def test_parameters_are_those_transformers_builds(kind: str) -> None:
    transformers = oracle("transformers")
    torch = oracle("torch")
    config = {**LLAMA, "model_type": kind, "head_dim": 32, "num_experts": 4}
    config |= {"num_experts_per_tok": 2, "moe_intermediate_size": 96}
    built = transformers.AutoConfig.for_model(**config)
    with torch.device("meta"):
        module = transformers.AutoModelForCausalLM.from_config(built)
    want = sum(p.numel() for p in module.parameters())
    assert models.model(built.to_dict()).parameters == want


REMEMBERING: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 16},
    "mamba2": {"state_size": 16, "num_heads": 8, "head_dim": 16, "n_groups": 2, "expand": 2},
    "recurrent_gemma": {"num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 192},
    "qwen3_next": {
        "head_dim": 32, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
        "linear_num_key_heads": 4, "linear_num_value_heads": 8, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 40,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", REMEMBERING)
def test_parameters_of_models_that_remember(kind: str) -> None:
    transformers, torch = oracle("transformers"), oracle("torch")
    small = {"hidden_size": 64, "num_hidden_layers": 8, "vocab_size": 100}
    small |= {"num_attention_heads": 4, **REMEMBERING[kind]}
    config = transformers.AutoConfig.for_model(kind, **small)
    with torch.device("meta"):
        module = transformers.AutoModelForCausalLM.from_config(config)
    want = sum(p.numel() for p in module.parameters())
    assert models.model(config.to_dict()).parameters == want


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("llava", "LlavaForConditionalGeneration"),
        ("qwen2_vl", "Qwen2VLForConditionalGeneration"),
        ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
        ("qwen3_vl", "Qwen3VLForConditionalGeneration"),
        ("qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration"),
    ],
)
def test_parameters_of_models_that_see(kind: str, name: str) -> None:
    transformers, torch = oracle("transformers"), oracle("torch")
    if not hasattr(transformers, name):
        pytest.skip(f"this transformers has no {name}")
    config = transformers.AutoConfig.for_model(kind)
    with torch.device("meta"):
        module = getattr(transformers, name)(config)
    want = sum(p.numel() for p in module.parameters())
    assert models.model(config.to_dict()).parameters == want


def test_names_are_known_whatever_they_add() -> None:
    for name, full in {
        "Qwen/Qwen2.5-7B-Instruct-AWQ": "Qwen/Qwen2.5-7B",
        "qwen3-30b-a3b-instruct-2507-fp8": "Qwen/Qwen3-30B-A3B",
        "deepseek-ai/DeepSeek-R1": "deepseek-ai/DeepSeek-V3",
    }.items():
        assert models.known(name).name == full


def test_there_are_forty_model_types() -> None:
    assert len(architectures.families()) >= 40


@pytest.mark.parametrize("profile", frameworks.known())
def test_profiles_say_where_their_constants_are_from(profile: str) -> None:
    found = frameworks.profile(profile)
    assert found.doc
    assert set(found.constants) - {"family"} <= set(found.sources)
    assert set(found.empirical) <= set(found.constants)


def test_parts_sum_to_the_total() -> None:
    found = ts.estimate(LLAMA, mode="generate", profile="transformers", new_tokens=100)
    assert sum(found.components().values()) == found.bytes("device")
    assert found.peak_total_gib == found.bytes() / 2**30
    assert found.to_dict()["peak_bytes"]["device"] == found.bytes()
    for name in found.components():
        assert name in found.summary_table()
        assert name in found.explain()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"seq_len": 0}, "seq_len is 0, not between 1 and"),
        ({"seq_len": -1}, "seq_len is -1, not between 1 and"),
        ({"per_device_batch": 10**30}, "batch is 1000000"),
        ({"tp": 3}, "tp 3 does not divide heads 8"),
        ({"pp": 9}, "pp 9 times vpp 1 exceeds the 4 layers"),
        ({"dtype": "bf61"}, "Did you mean 'bf16'"),
        ({"profile": "tranformers"}, "Did you mean 'transformers'"),
        ({"lora": {"rnk": 8}}, "lora has no 'rnk'. Did you mean 'rank'"),
        ({"run": {"sequence": 1}}, "run has no 'sequence'"),
        ({"lora": {"target_modules": ["q_porj"]}}, "Did you mean 'q_proj'"),
        ({"constants": {"all_logit": 1}}, "Did you mean 'all_logits'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        ts.estimate(LLAMA, **{"mode": "generate", "profile": "transformers", **fields})


def test_unknown_models_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="Did you mean 'qwen/qwen3-8b'"):
        ts.estimate("Qwen/Qwen3-8")
    with pytest.raises(ValueError, match=r"unknown model type 'lama'\. Did you mean 'llama'"):
        ts.estimate({**LLAMA, "model_type": "lama"})
    with pytest.raises(ValueError, match="lacks 'intermediate_size'"):
        ts.estimate({k: v for k, v in LLAMA.items() if k != "intermediate_size"})


def test_every_line_has_a_formula_with_a_source() -> None:
    for formula in core.formulas():
        assert formula.text and formula.source


def test_zero_stages_differ_and_combine_with_other_parallelism() -> None:
    def states(**fields: Any) -> int:
        found = ts.estimate(LLAMA, dp=4, **fields).worst
        return found.at[found.steady_instant] + found.components("optimizer step").get(
            "gradients", 0
        )

    sizes = [states(zero_stage=stage) for stage in range(4)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
    for stage in range(4):
        assert states(zero_stage=stage, tp=2) < sizes[stage]
        assert states(zero_stage=stage, pp=2) < sizes[stage]


def test_flash_attention_counts_once() -> None:
    long = {"seq_len": 4096, "dtype": "bf16"}
    eager, sdpa, flash = (
        ts.estimate(LLAMA, attention=kind, **long).bytes()
        for kind in ("eager", "sdpa", "flash")
    )
    scores = 4 * 8 * 4096 * 4096 * 6  # layers, heads, positions, fp32 and bf16
    assert sdpa == flash
    assert eager - sdpa > 0.9 * scores


def test_what_the_core_reads_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown stack field 'heads'"):
        _core.model_parameters({"decoder": {"heads": 1, "kinds": [], "pattern": b""}}, {})
    with pytest.raises(ValueError, match="mixer: unknown word 'conv'"):
        kinds = [{"mixer": "conv"}]
        _core.model_parameters({"decoder": {"kinds": kinds, "pattern": b"\0"}}, {})
    with pytest.raises(TypeError, match="seq: a whole number is wanted"):
        _core.model_parameters({}, {"seq": 1.5})
