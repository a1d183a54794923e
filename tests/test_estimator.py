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


# Billions of parameters as the Hub's pages count them (of safetensors' headers), towers and
# layers that predict further tokens left out.
PUBLISHED = {
    "Qwen1.5-0.5B": 0.464, "Qwen1.5-1.8B": 1.8368, "Qwen1.5-4B": 3.9504, "Qwen1.5-7B": 7.7213,
    "Qwen1.5-14B": 14.1673, "Qwen1.5-32B": 32.5122, "Qwen1.5-72B": 72.2879,
    "Qwen1.5-110B": 111.21, "DeepSeek-R1-Distill-Qwen-1.5B": 1.7771,
    "Qwen3-Coder-480B-A35B-Instruct": 480.155, "Mistral-7B-v0.3": 7.248,
    "Ministral-8B-Instruct-2410": 8.0198, "Codestral-22B-v0.1": 22.2472,
    "Mistral-Large-Instruct-2407": 122.61, "gemma-3-270m": 0.2681, "gemma-3-1b-pt": 0.9999,
    "Phi-4-mini-instruct": 3.836, "granite-3.1-2b-base": 2.5335, "granite-3.1-8b-base": 8.1708,
    "Yi-9B": 8.8294, "internlm2-1_8b": 1.8891, "internlm2-7b": 7.7377, "internlm2-20b": 19.8611,
    "internlm3-8b-instruct": 8.8041, "Baichuan-7B": 7.0006, "chatglm2-6b": 6.2436,
    "glm-4-9b": 9.3999, "GLM-4-9B-0414": 9.4001, "GLM-4-32B-0414": 32.5659,
    "GLM-4.5-Air": 106.852, "GLM-4.5": 352.798, "falcon-180B": 179.522, "falcon-rw-1b": 1.3116,
    "Falcon3-1B-Base": 1.6694, "Falcon3-3B-Base": 3.2278, "Falcon3-7B-Base": 7.4557,
    "Falcon3-10B-Base": 10.3057, "mpt-7b": 6.6493, "mpt-30b": 29.9573, "OLMo-1B-hf": 1.1768,
    "OLMo-7B-hf": 6.8881, "OLMo-2-0425-1B": 1.4849, "OLMo-2-1124-7B": 7.2987,
    "OLMo-2-1124-13B": 13.7162, "OLMo-2-0325-32B": 32.2343, "Olmo-3-1025-7B": 7.298,
    "Olmo-3-1125-32B": 32.2335, "starcoder2-3b": 3.0304, "starcoder2-7b": 7.1739,
    "starcoder2-15b": 15.9575, "starcoder": 15.5175, "starcoderbase-1b": 1.1372,
    "starcoderbase-3b": 3.0438, "starcoderbase-7b": 7.3274, "opt-350m": 0.3312,
    "gpt-neox-20b": 20.5546, "RedPajama-INCITE-Base-3B-v1": 2.7759,
    "RedPajama-INCITE-7B-Base": 6.8572, "gpt2-medium": 0.3548, "gpt2-large": 0.774,
    "distilgpt2": 0.0819, "t5-small": 0.0605, "t5-base": 0.2229, "flan-t5-small": 0.077,
    "flan-t5-base": 0.2476, "flan-t5-large": 0.7832, "flan-t5-xl": 2.8498,
    "flan-t5-xxl": 11.1353, "bert-base-cased": 0.1083, "roberta-base": 0.1246,
    "roberta-large": 0.3554, "xlm-roberta-base": 0.278, "xlm-roberta-large": 0.5599,
    "all-MiniLM-L6-v2": 0.0227, "vit-base-patch16-224": 0.0866, "vit-large-patch16-224": 0.3043,
    "Minitron-4B-Base": 4.1911, "Nemotron-4-340B-Base": 341.021, "mamba-130m-hf": 0.1291,
    "mamba-370m-hf": 0.3715, "mamba-790m-hf": 0.7932, "mamba-1.4b-hf": 1.3722,
    "Mamba-Codestral-7B-v0.1": 7.2854, "c4ai-command-r-v01": 34.9808,
    "c4ai-command-r-plus": 103.811, "aya-expanse-8b": 8.0281, "stablelm-2-1_6b": 1.6445,
    "stablelm-3b-4e1t": 2.7954, "EXAONE-4.0-1.2B": 1.2794, "EXAONE-4.0-32B": 32.0033,
    "deepseek-llm-67b-base": 67.4248, "deepseek-coder-1.3b-base": 1.3465,
    "deepseek-coder-6.7b-base": 6.7405, "deepseek-coder-33b-base": 33.343,
    "DeepSeek-V2": 235.742, "Kimi-K2-Instruct": 1026.41, "CodeLlama-7b-hf": 6.7386,
    "CodeLlama-13b-hf": 13.016, "CodeLlama-70b-hf": 68.9769, "SOLAR-10.7B-v1.0": 10.7315,
    "h2o-danube2-1.8b-base": 1.8312, "h2o-danube3-4b-base": 3.9621, "salamandra-2b": 2.2535,
    "salamandra-7b": 7.7681, "Llama-4-Scout-17B-16E": 107.77,
    "Llama-4-Maverick-17B-128E": 400.713, "MiniMax-M2": 228.69, "Jamba-v0.1": 51.5703,
    "llava-v1.6-mistral-7b-hf": 7.5667, "llava-v1.6-vicuna-7b-hf": 7.0634,
    "llava-onevision-qwen2-7b-ov-hf": 8.0303, "llava-onevision-qwen2-0.5b-ov-hf": 0.8938,
    "paligemma-3b-mix-224": 2.9235, "gemma-3-4b-it": 4.3001, "gemma-3-12b-it": 12.1873,
    "gemma-3-27b-it": 27.4324, "Idefics3-8B-Llama3": 8.4621, "SmolVLM-Instruct": 2.2463,
    "SmolVLM-256M-Instruct": 0.2565, "SmolVLM-500M-Instruct": 0.5075, "InternVL3-1B": 0.9382,
    "InternVL3-2B": 2.0890, "InternVL3-8B": 7.9444, "InternVL3-38B": 38.3882,
    "InternVL3_5-8B": 8.5283, "Mistral-Small-3.1-24B-Instruct-2503": 24.0114,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_known_models_have_the_published_parameters(name: str) -> None:
    # Vision transformers and BERT count their classifier; the pages' digits end at 1e5.
    want = PUBLISHED[name]
    assert models.known(name).parameters / 1e9 == pytest.approx(want, rel=6e-4, abs=6e-5)


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
    "jamba": {"num_key_value_heads": 2, "num_experts": 4, "intermediate_size": 96,
              "mamba_dt_rank": 4, "attn_layer_period": 4, "attn_layer_offset": 2},
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


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("glm4_moe", {"n_routed_experts": 4, "n_shared_experts": 1, "use_qk_norm": True}),
        ("llama4_text", {"intermediate_size_mlp": 160, "interleave_moe_layer_step": 2}),
        ("minimax_m2", {}),
        ("olmo3", {"layer_types": ["sliding_attention", "full_attention"] * 2}),
        ("falcon", {"multi_query": False, "parallel_attn": False, "bias": True, "alibi": True}),
    ],
)
def test_parameters_of_further_families(kind: str, more: dict[str, Any]) -> None:
    transformers, torch = oracle("transformers"), oracle("torch")
    small: dict[str, Any] = {**LLAMA, "head_dim": 32, "num_local_experts": 4, **more}
    small |= {"num_experts_per_tok": 1, "moe_intermediate_size": 96, "model_type": kind}
    if kind == "falcon":  # computes it
        del small["head_dim"]
    try:
        config = transformers.AutoConfig.for_model(**small)
    except ValueError:
        pytest.skip(f"this transformers has no {kind}")
    with torch.device("meta"):
        module = transformers.AutoModelForCausalLM.from_config(config)
    want = sum(p.numel() for p in module.parameters())
    assert models.model(config.to_dict()).parameters == want


def test_names_are_known_whatever_they_add() -> None:
    for name, full in {
        "Qwen/Qwen2.5-7B-Instruct-AWQ": "Qwen/Qwen2.5-7B",
        "qwen3-30b-a3b-instruct-2507-fp8": "Qwen/Qwen3-30B-A3B",
        "deepseek-ai/DeepSeek-R1": "deepseek-ai/DeepSeek-V3",
        "llama3_8b": "meta-llama/Meta-Llama-3-8B",
        "Llama 3.1 70B": "meta-llama/Llama-3.1-70B",
        "qwen-1_8b": "Qwen/Qwen-1_8B",
        "unsloth/llama-3-8b-bnb-4bit": "meta-llama/Meta-Llama-3-8B",
        "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16": "meta-llama/Meta-Llama-3-8B",
        "NousResearch/Hermes-3-Llama-3.1-8B": "meta-llama/Meta-Llama-3-8B",
        "EleutherAI/pythia-6.9b-deduped": "EleutherAI/pythia-6.9b",
    }.items():
        assert models.known(name).name == full


@pytest.mark.parametrize(
    "name",
    ["a/llama-3.1-8b-vision", "b/llama-3.1-8b-draft-1b", "c/llama", "d/7b", "e/eagle-7b"],
)
def test_a_name_within_another_model_is_not_taken_for_it(name: str) -> None:
    with pytest.raises(ValueError, match="no model is known as"):
        models.known(name)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("num_hidden_layers", 10**9, "num_hidden_layers is 1000000000, not between 0 and 1024"),
        ("num_hidden_layers", "32", "num_hidden_layers is '32', not a whole number"),
        ("hidden_size", -4096, "hidden_size is -4096, not between"),
        ("hidden_size", 4096.5, "hidden_size is 4096.5, not a whole number"),
        ("vocab_size", 1 << 60, "vocab_size is 1152921504606846976, not between"),
        ("num_key_value_heads", True, "num_key_value_heads is True, not a whole number"),
    ],
)
def test_absurd_configs_name_the_field(field: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        models.model({**LLAMA, field: value})


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


EXPERTS = {
    **LLAMA, "model_type": "qwen3_moe", "num_experts": 6, "num_experts_per_tok": 2,
    "moe_intermediate_size": 96,
}  # fmt: skip


def cache(model: Any, profile: str = "vllm", **fields: Any) -> int:
    """Bytes of a cache of 1000 tokens while a token is generated."""
    fields = {"kv": {"tokens": 1000}, "mode": "generate", "profile": profile, **fields}
    ledger = ts.estimate(model, **fields).ledgers[0]
    return ledger.components("generating a token")["kv_cache"]


def test_caches_hold_what_engines_hold() -> None:
    """Groups of heads, latents that no rank splits, an indexer's keys (estimator.md 2.11)."""
    grouped, latent = "meta-llama/Meta-Llama-3-8B", "deepseek-ai/DeepSeek-V3"
    token = 2 * 32 * 8 * 128 * 2
    assert cache(grouped) == 1008 * token  # pages of 16 tokens
    assert cache(grouped, tp=4) == 1008 * token // 4
    assert cache(grouped, "transformers") == 1000 * token
    assert cache(latent) == cache(latent, tp=8) == 1008 * 70_272
    sparse = {"format": "fp8", "tokens": 1024}
    nsa = cache("deepseek-ai/DeepSeek-V3.2-Exp", "sglang", kv=sparse)
    assert nsa == 1024 * 61 * (656 + 132)


def test_all_experts_weigh_not_those_a_token_visits() -> None:
    whole = ts.estimate("mistralai/Mixtral-8x7B-v0.1", mode="load").components()["weights"]
    assert whole == 2 * models.known("mistralai/Mixtral-8x7B-v0.1").parameters
    assert models.known("mistralai/Mixtral-8x7B-v0.1").parameters == 46_702_792_704


def test_experts_are_dealt_whole() -> None:
    dealt = ts.estimate(EXPERTS, mode="load", ep=3).components()["weights"]
    assert dealt < ts.estimate(EXPERTS, mode="load").components()["weights"]
    with pytest.raises(ValueError, match="ep 4 does not divide experts 6"):
        ts.estimate(EXPERTS, ep=4)
    with pytest.raises(ValueError, match="ep is 2, and no layer has experts"):
        ts.estimate(LLAMA, ep=2)


def test_logits_are_kept_as_the_loss_copies_them() -> None:
    """bf16 logits, their float32 copy and log_softmax: 10 bytes each, 14 in backward."""
    config = {**LLAMA, "vocab_size": 100_000}
    at = ts.estimate(config, seq_len=512).ledgers[0]
    logits = 512 * 100_000
    assert at.components("logits and loss")["logits"] == 10 * logits
    assert at.components("gradient of the logits")["logits"] == 14 * logits


def test_what_bitsandbytes_leaves_is_float32_and_so_is_the_stream() -> None:
    """prepare_model_for_kbit_training; GPTQ's rest stays as it is."""

    def checkpoints(form: str | None) -> int:
        fields = {"lora": {"rank": 4}, "weight_format": form, "recompute": "full"}
        lines = ts.estimate(LLAMA, seq_len=512, **fields).ledgers[0].lines
        return sum(one.bytes for one in lines if one.formula.name == "checkpoints")

    stream = LLAMA["num_hidden_layers"] * 512 * LLAMA["hidden_size"]
    assert checkpoints(None) == checkpoints("gptq_int4") == 2 * stream
    assert checkpoints("nf4") == checkpoints("int8") == 4 * stream


def test_a_wide_head_alone_has_plain_scores() -> None:
    """One unpadded sequence has no mask: no fused kernel repeats keys of 512 elements."""
    wide = {**LLAMA, "head_dim": 512}
    common = {"profile": "agilerl", "lora": {"rank": 4}, "seq_len": 4096, "recompute": "full"}
    alone = ts.estimate(wide, **common).bytes("allocated")
    split = ts.estimate(wide, **common, attention="flash").bytes("allocated")
    assert alone - split == 3 * 4 * 8 * 4096**2
    narrow = {**LLAMA, "head_dim": 256}
    same = [ts.estimate(narrow, **common, attention=a).bytes("allocated")
            for a in ("sdpa", "flash")]  # fmt: skip
    assert same[0] == same[1]


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
