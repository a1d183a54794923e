"""What the ledgers say a layer keeps, against what torch keeps: to the byte.

Tiny models with random weights, built from configs alone; one row of MODELS a family.  Sizes
are odd and drawn anew for each family (the seed is its name), so that no two terms of a formula
can stand in for each other.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import random
import warnings
from collections import Counter
from typing import Any

import pytest
from conftest import oracle

from tensorstream import _core
from tensorstream.estimator import architectures, core, models, modules, recording
from tensorstream.estimator.probe import Probe, _peak, probe

torch = oracle("torch")
transformers = oracle("transformers")
peft = oracle("peft")

if int(transformers.__version__.split(".")[0]) < 5:
    pytest.skip("layers are held as transformers 5 writes them", allow_module_level=True)
torch.set_num_threads(1)  # tiny products: threads only wait for each other

pytestmark = pytest.mark.filterwarnings("ignore")

LAYERS = 2
VOCAB = 97
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
ADAPTED = sum(core.TARGETS[name] for name in ("q", "k", "v", "o", "gate", "up", "down"))
MLA = ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]


class Sizes:
    """Odd sizes for one family; experts and hidden sizes are multiples of 8, as kernels ask."""

    def __init__(self, family: str, draw: int) -> None:
        pick = random.Random(f"{family} {draw}")
        self.kv = pick.choice([1, 2, 3])
        self.heads = self.kv * pick.choice([2, 3])
        self.head = pick.choice([6, 10, 14])
        self.hidden = self.heads * pick.choice([8, 16, 24])
        self.ffn = 8 * pick.choice([5, 7, 9, 11])
        self.batch = (2, 1, 3)[draw % 3]
        self.seq = pick.choice([5, 7, 9, 11])
        self.rank = pick.choice([2, 3, 5])
        self.pick = pick


def base(z: Sizes, **more: Any) -> dict[str, Any]:
    """The names that most configs share."""
    return {
        "hidden_size": z.hidden,
        "intermediate_size": z.ffn,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": z.heads,
        "num_key_value_heads": z.kv,
        "vocab_size": VOCAB,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


def plain(z: Sizes, **more: Any) -> dict[str, Any]:
    """As `base`, where keys have as many heads as queries."""
    return base(z, num_key_value_heads=z.heads, **more)


def gpt(z: Sizes, **more: Any) -> dict[str, Any]:
    """The names of GPT-2's config."""
    return {
        "n_embd": z.hidden,
        "n_layer": LAYERS,
        "n_head": z.heads,
        "n_inner": z.ffn,
        "vocab_size": VOCAB,
        "n_positions": 64,
        **more,
    }


def moe(z: Sizes, **more: Any) -> dict[str, Any]:
    return base(z, moe_intermediate_size=24, num_experts=5, num_experts_per_tok=2, **more)


def latent(z: Sizes, **more: Any) -> dict[str, Any]:
    return plain(
        z, q_lora_rank=z.pick.choice([8, 16]), kv_lora_rank=z.pick.choice([8, 24]),
        qk_rope_head_dim=4, qk_nope_head_dim=z.pick.choice([6, 10]), v_head_dim=8,
        moe_intermediate_size=24, n_routed_experts=6, num_experts_per_tok=2,
        n_shared_experts=z.pick.choice([1, 2]), first_k_dense_replace=1, n_group=2,
        topk_group=1, **more,
    )  # fmt: skip


# model type, or a name for a variant: (class of the config, its fields).
MODELS: dict[str, tuple[str, Any]] = {
    "bert": ("BertConfig", plain),
    "bloom": ("BloomConfig", lambda z: {"hidden_size": z.hidden, "n_layer": LAYERS,
                                        "n_head": z.heads, "vocab_size": VOCAB}),
    "cohere": ("CohereConfig", base),
    "cohere2": ("Cohere2Config", base),
    "deepseek_v2": ("DeepseekV2Config", latent),
    "deepseek_v3": ("DeepseekV3Config", latent),
    "exaone4": ("Exaone4Config", lambda z: base(z, head_dim=z.head)),
    "falcon": ("FalconConfig", lambda z: plain(
        z, new_decoder_architecture=True, num_kv_heads=z.kv, ffn_hidden_size=z.ffn)),
    "falcon, one key head": ("FalconConfig", lambda z: plain(
        z, multi_query=True, ffn_hidden_size=z.ffn)),
    "gemma": ("GemmaConfig", lambda z: base(z, head_dim=z.head)),
    "gemma2": ("Gemma2Config", lambda z: base(z, head_dim=z.head)),
    "gemma3_text": ("Gemma3TextConfig", lambda z: base(z, head_dim=z.head)),
    "glm": ("GlmConfig", lambda z: base(z, head_dim=z.head)),
    "glm4": ("Glm4Config", lambda z: base(z, head_dim=z.head)),
    "gpt2": ("GPT2Config", gpt),
    "gpt2, no dropout": ("GPT2Config", lambda z: gpt(z, attn_pdrop=0.0, resid_pdrop=0.0)),
    "gpt_bigcode": ("GPTBigCodeConfig", gpt),
    "gpt_neox": ("GPTNeoXConfig", plain),
    "gpt_oss": ("GptOssConfig", lambda z: base(
        z, head_dim=z.head, num_local_experts=5, num_experts_per_tok=2)),
    "gptj": ("GPTJConfig", lambda z: gpt(z, rotary_dim=4)),
    "granite": ("GraniteConfig", base),
    "llama": ("LlamaConfig", lambda z: base(z, head_dim=z.head)),
    "ministral": ("MinistralConfig", lambda z: base(z, head_dim=z.head)),
    "mistral": ("MistralConfig", lambda z: base(z, head_dim=z.head, sliding_window=4)),
    "mistral, wide window": ("MistralConfig", lambda z: base(z, sliding_window=64)),
    "mixtral": ("MixtralConfig", lambda z: base(
        z, num_local_experts=5, num_experts_per_tok=2)),
    "mpt": ("MptConfig", lambda z: {"d_model": z.hidden, "n_layers": LAYERS,
                                    "n_heads": z.heads, "vocab_size": VOCAB,
                                    "max_seq_len": 64}),
    "nemotron": ("NemotronConfig", lambda z: base(z, head_dim=z.head)),
    "olmo": ("OlmoConfig", base),
    "olmo2": ("Olmo2Config", base),
    "olmoe": ("OlmoeConfig", lambda z: base(z, num_experts=5, num_experts_per_tok=2)),
    "opt": ("OPTConfig", lambda z: plain(z, ffn_dim=z.ffn, word_embed_proj_dim=z.hidden)),
    "phi": ("PhiConfig", base),
    "phi3": ("Phi3Config", base),
    "qwen2": ("Qwen2Config", base),
    "qwen2_moe": ("Qwen2MoeConfig", lambda z: moe(z, shared_expert_intermediate_size=40)),
    "qwen3": ("Qwen3Config", lambda z: base(z, head_dim=z.head)),
    "qwen3_moe": ("Qwen3MoeConfig", lambda z: moe(z, head_dim=z.head)),
    "qwen3_moe, divided": ("Qwen3MoeConfig", lambda z: moe(
        z, head_dim=z.head, norm_topk_prob=True)),
    "roberta": ("RobertaConfig", plain),
    "smollm3": ("SmolLM3Config", base),
    "stablelm": ("StableLmConfig", base),
    "starcoder2": ("Starcoder2Config", base),
}  # fmt: skip

# Where "all-linear" would reach experts, which PEFT adapts by other means.
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
TARGETS: dict[str, list[str]] = {
    "deepseek_v2": MLA,
    "deepseek_v3": MLA,
    "gpt_oss": ATTENTION,
    "mixtral": ATTENTION,
    "olmoe": ATTENTION,
    "qwen2_moe": ATTENTION,
    "qwen3_moe": ATTENTION,
}


def config_of(family: str, z: Sizes) -> Any:
    kind, fields = MODELS[family]
    config = getattr(transformers, kind)(**fields(z))
    config.use_cache = False
    if family in ("bert", "roberta"):
        config.architectures = ["ForMaskedLM"]
    return config


def build(config: Any, dtype: str) -> Any:
    masked = config.model_type in ("bert", "roberta")
    auto = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = auto.from_config(config, attn_implementation="eager", dtype=DTYPES[dtype])
    return model.train()


def adapted(model: Any, kind: str, rank: int) -> tuple[Any, int]:
    """The model under PEFT, and the bits of the matrices that have adapters."""
    targets = TARGETS.get(kind, "all-linear")
    bits = ADAPTED if targets == "all-linear" else sum(core.TARGETS[name] for name in "qkvo")
    return peft.get_peft_model(model, peft.LoraConfig(r=rank, target_modules=targets)), bits


def attentions(model: Any) -> list[str]:
    """Eager attention, and SDPA where the model has it."""
    return ["eager", "sdpa"] if inner(model)._supports_sdpa else ["eager"]


def inner(model: Any) -> Any:
    return model.get_base_model() if isinstance(model, peft.PeftModel) else model


def arrange(model: Any, attention: str, again: bool) -> None:
    """Which attention, and whether layers are recomputed: embeddings then need a gradient."""
    own = inner(model)
    for module in own.modules():  # Falcon does not let set_attn_implementation through
        if hasattr(module, "config"):
            module.config._attn_implementation = attention
    if again:
        own.gradient_checkpointing_enable()
        if own is not model:
            own.enable_input_require_grads()


def ledger(model: Any, run: dict[str, Any], layer: int, grad: bool) -> Counter[int]:
    """How many tensors of each size the core says a layer keeps."""
    return Counter(size for _, size, _ in _core.saved_tensors(model, run, 0, layer, grad))


def difference(ours: Counter[int], torchs: Counter[int], report: Any, layer: int) -> str:
    return (
        f"layer {layer}: ours {ours.total()} tensors, torch {torchs.total()}; "
        f"only ours {dict(ours - torchs)}, only torch {dict(torchs - ours)}\n"
        + report.table(layer)
    )


def compare(model: Any, numbers: Any, run: dict[str, Any], first_has_grad: bool) -> None:
    ids = torch.randint(3, VOCAB, (run["batch"], run["seq"]))
    report = recording.record(model, {"input_ids": ids, "labels": ids})
    assert len(report.layer_names) == LAYERS
    for layer in range(LAYERS):
        ours = ledger(numbers, run, layer, grad=layer > 0 or first_has_grad)
        torchs = report.sizes(layer)
        assert ours == torchs, difference(ours, torchs, report, layer)


@pytest.mark.parametrize("family", MODELS)
def test_layers_keep_what_torch_keeps(family: str) -> None:
    """Full and LoRA, eager and SDPA, with and without checkpointing: tensor by tensor."""
    for draw, dtype in enumerate(("bf16", "fp32")):
        sizes = Sizes(family, draw)
        config = config_of(family, sizes)
        numbers = architectures.numbers(config.to_dict())
        run = {"batch": sizes.batch, "seq": sizes.seq, "dtype": dtype, "host": 1,
               "rank": sizes.rank, "adapter_dtype": "fp32"}  # fmt: skip
        for method in ("full", "lora"):
            run["method"] = method
            model = build(config, dtype)  # anew: hooks of checkpointing outlive it
            if method == "lora":
                model, run["targets"] = adapted(model, config.model_type, sizes.rank)
            for again, attention in itertools.product(("none", "full"), attentions(model)):
                run |= {"recompute": again, "attention": attention}
                arrange(model, attention, again == "full")
                compare(model, numbers, run, method == "full" or again == "full")


@pytest.mark.parametrize("family", MODELS)
def test_parameters_are_those_transformers_builds(family: str) -> None:
    config = config_of(family, Sizes(family, 2))
    with torch.device("meta"):
        model = build(config, "bf16")
    count, _ = _core.model_parameters(architectures.numbers(config.to_dict()), {})
    assert count == model.num_parameters()


@pytest.mark.parametrize("dropout", [0.1, 0.0])
@pytest.mark.parametrize("projection", ["relu", "gated-gelu"])
def test_an_encoder_and_its_decoder_keep_what_torch_keeps(
    projection: str, dropout: float
) -> None:
    """T5, whose sequences have two lengths; checkpointed layers hold the bias of others too."""
    config = transformers.T5Config(
        d_model=48, d_kv=10, d_ff=56, num_layers=LAYERS, num_decoder_layers=LAYERS, num_heads=6,
        vocab_size=VOCAB, pad_token_id=0, decoder_start_token_id=0, dropout_rate=dropout,
        feed_forward_proj=projection, use_cache=False,
    )  # fmt: skip
    numbers = architectures.numbers(config.to_dict())
    batch = {
        "input_ids": torch.randint(3, VOCAB, (2, 9)),
        "labels": torch.randint(3, 97, (2, 7)),
    }
    for dtype, attention in itertools.product(DTYPES, ("eager", "sdpa")):
        model = transformers.AutoModelForSeq2SeqLM.from_config(
            config, attn_implementation=attention, dtype=DTYPES[dtype]
        ).train()
        assert _core.model_parameters(numbers, {})[0] == model.num_parameters()
        record = recording.record(model, batch)
        run = {"batch": 2, "seq": 7, "source_seq": 9, "host": 1, "dtype": dtype,
               "attention": attention}  # fmt: skip
        for index in range(2 * LAYERS):
            stack, layer = (1, index) if index < LAYERS else (0, index - LAYERS)
            rows = _core.saved_tensors(numbers, run, stack, layer, True)
            ours = Counter(size for _, size, _ in rows)
            theirs = record.sizes(index)
            assert ours == theirs, difference(ours, theirs, record, index)


# ---- probe: the same, of a module that somebody has in hand ----


def ids(batch: int = 2, seq: int = 7) -> dict[str, Any]:
    tokens = torch.randint(3, VOCAB, (batch, seq))
    return {"input_ids": tokens, "labels": tokens}


def small(family: str = "llama", dtype: str = "bf16") -> Any:
    return build(config_of(family, Sizes(family, 0)), dtype)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "deepseek_v3", "gptj", "bloom"])
def test_a_probe_reads_a_live_module_and_finds_the_ledger_exact(family: str) -> None:
    model = small(family)
    assert probe(model, ids()).exact
    model, bits = adapted(model, modules.base(model).config.model_type, rank=3)
    found = probe(model, ids())
    assert found.exact, found.summary_table()
    gate = core.TARGETS["gate"]  # "all-linear" has one only where the MLP has
    assert (found.run["rank"], found.run["targets"] | gate) == (3, bits | gate)
    inner(model).gradient_checkpointing_enable()
    inner(model).enable_input_require_grads()
    again = probe(model, ids())
    assert again.exact and again.run["recompute"] == "full"


def test_a_probe_sees_what_the_module_is_set_to() -> None:
    model = small("gpt2", "fp32")
    assert probe(model, ids()).run["dtype"] == "fp32"
    quiet = probe(model.eval(), ids())
    assert quiet.exact, "nothing drops out of a module in eval mode"
    frozen = probe(model.requires_grad_(False), ids())
    assert frozen.run["method"] == "frozen"
    assert sum(layer.measured_bytes for layer in frozen.layers) == 0
    assert models.model(model).numbers["decoder"]["positions"] == 64


def test_what_a_probe_cannot_describe_it_says() -> None:
    model = small()
    with pytest.raises(TypeError, match="live torch module"):
        probe("llama", ids())
    with pytest.raises(TypeError, match="no transformers config"):
        probe(torch.nn.Linear(2, 2), ids())
    with pytest.raises(ValueError, match="no input_ids"):
        probe(model, {"labels": ids()["labels"]})
    with pytest.raises(ValueError, match="needs labels"):
        probe(model, {"input_ids": ids()["input_ids"]})
    model.lm_head.weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"1 of \d+ parameters are frozen \(lm_head"):
        probe(model, ids())


def test_a_probe_is_a_row_of_a_measured_list(tmp_path: pathlib.Path) -> None:
    found = probe(small(), ids())
    for _ in range(2):
        found.append(tmp_path / "measured.jsonl")
    first, second = (tmp_path / "measured.jsonl").read_text().splitlines()
    row = json.loads(first)
    assert first == second
    assert row["measured_bytes"] == sum(layer.measured_bytes for layer in found.layers) > 0
    assert row["config"]["run"]["seq"] == 7 and row["config"]["model"]["model_type"] == "llama"
    assert found.error == 0 and "exact" in repr(found)


def test_a_layer_that_keeps_more_is_not_exact() -> None:
    model = small()
    forward = model.model.layers[1].mlp.forward
    model.model.layers[1].mlp.forward = lambda x: forward(x) * x.exp()
    found = probe(model, ids())
    assert [layer.exact for layer in found.layers] == [True, False]
    assert not found.exact and found.error < 0


def test_on_a_gpu_whole_steps_are_measured() -> None:
    """The allocator stands in for itself: no GPU is here, the order of calls is what counts."""
    calls: list[str] = []

    class Cuda:
        def synchronize(self) -> None:
            calls.append("wait")

        def reset_peak_memory_stats(self) -> None:
            calls.append("reset")

        def max_memory_allocated(self) -> int:
            return 5

        def max_memory_reserved(self) -> int:
            return 8

    peak = _peak(Cuda(), lambda: calls.append("step"), 2, 1)
    assert peak == {"allocated": 5, "reserved": 8}
    assert calls == ["step", "wait", "reset", "step", "step", "wait"]
    whole = probe(small(), ids())
    shown = Probe(whole.model, whole.run, [], peak, whole.estimate)
    assert "allocated" in shown.summary_table() and shown.error > 0


@pytest.mark.parametrize(
    "family", ["llama", "gemma2", "gpt2", "opt", "cohere", "olmo", "qwen3_moe"]
)
def test_after_the_last_layer_torch_keeps_norm_logits_and_loss(family: str) -> None:
    """Outside of layers lie rotary tables and indices as well: ours are among them."""
    for draw, dtype in enumerate(DTYPES):
        sizes = Sizes(family, draw)
        config = config_of(family, sizes)
        model = build(config, dtype)
        numbers = architectures.numbers(config.to_dict())
        record = recording.record(model, ids(sizes.batch, sizes.seq))
        run = {"batch": sizes.batch, "seq": sizes.seq, "dtype": dtype, "host": 1}
        ours, theirs = ledger(numbers, run, LAYERS, grad=True), record.sizes(-1)
        assert ours <= theirs, difference(ours, theirs, record, -1)
