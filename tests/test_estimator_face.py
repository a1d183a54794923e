"""Configurations, optimizations, what fits, the command line: each option has its effect."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import numpy as np
import pytest
from conftest import oracle

import tensorstream as ts
from tensorstream import cli
from tensorstream.estimator import (
    ConfigBuilder,
    Effect,
    EstimatorConfig,
    Optimization,
    Registry,
    core,
    drawing,
    estimate,
    fitting,
    gpus,
    load_config,
    validate_config,
)

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1376,
    "vocab_size": 32000,
}
SEVEN = {
    **LLAMA, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "intermediate_size": 11008,
}  # fmt: skip
GIB = 1 << 30


def peak(**fields: Any) -> int:
    return estimate(LLAMA, **fields).bytes()


@pytest.mark.parametrize(
    ("fields", "smaller"),
    [
        ({"seq_len": 1024}, True),
        ({"per_device_batch": 2}, False),
        ({"grad_accum": 4}, False),
        ({"dtype": "fp32"}, False),
        ({"tp": 2}, True),
        ({"pp": 2}, True),
        ({"dp": 4, "zero_stage": 3}, True),
        ({"dp": 4, "fsdp": 2}, True),
        ({"lora": {"rank": 8}}, True),
        ({"lora": True}, True),
        ({"optimizer": "sgd"}, True),
        ({"optimizer": "adamw_8bit"}, True),
        ({"optimizer_dtype": "bf16"}, True),
        ({"master_weights": True}, False),
        ({"recompute": "full"}, True),
        ({"attention": "eager"}, False),
        ({"loss": "liger"}, True),
        ({"loss": "chunked"}, True),
        ({"offload": {"optimizer": True}}, True),
        ({"vocab_size_override": 64000}, False),
        ({"optimizations": ["gradient_checkpointing"]}, True),
        ({"optimizations": {"liger": True}}, True),
        ({"overheads": {"misc_overhead_gib": 1.0}}, False),
        ({"overheads": {"cuda_libs_gib": 2.0}}, False),
        ({"gpu": "A100-80GB"}, False),
    ],
)
def test_every_option_has_its_effect(fields: dict[str, Any], smaller: bool) -> None:
    before, after = peak(), peak(**fields)
    assert after < before if smaller else after > before


@pytest.mark.parametrize("stage", range(4))
def test_the_original_is_reproduced(stage: int) -> None:
    """Llama-2-7B: figures that the original's own code printed, faults and all."""
    found = estimate(SEVEN, profile="original", per_device_batch=2, seq_len=4096, dp=8,
                     zero_stage=stage, tp=2 if stage else 1)  # fmt: skip
    parts = found.worst.components("between steps")
    parameters = found.model.parameters
    assert parts["weights"] == 2 * parameters // (8 if stage == 3 else 1)
    assert parts["optimizer_state"] == 8 * parameters // (8 if stage else 1)
    assert parts["attention"] == 8 * GIB
    assert parts["mlp"] == 12 * GIB
    assert parts["other"] == int((10.5 + (1.0, 1.5, 2.0, 3.0)[stage]) * GIB)
    assert found.bytes() == pytest.approx(1.1 * sum(parts.values()), rel=1e-9)


def test_the_original_counts_flash_attention_twice_and_forgets_gqa() -> None:
    flash = estimate(SEVEN, profile="original", per_device_batch=2, seq_len=4096,
                     optimizations=["flashattention"])  # fmt: skip
    assert flash.components()["attention"] / GIB == pytest.approx(0.32)
    grouped = {**SEVEN, "num_key_value_heads": 8}
    kept = {"per_device_batch": 1, "seq_len": 8192, "use_kv_cache": True}
    assert estimate(grouped, profile="original", **kept).components()["kv_cache"] == 4 * GIB
    ours = estimate(grouped, profile="transformers", mode="generate", **kept)
    assert ours.worst.at["generating a token"] < 4 * GIB + 2 * ours.model.parameters


def test_factors_belong_to_the_original() -> None:
    more = estimate(SEVEN, profile="original", factors={"mlp_act_factor": 12.0})
    less = estimate(SEVEN, profile="original")
    assert more.components()["mlp"] == 2 * less.components()["mlp"]
    with pytest.raises(ValueError, match="profile 'original' only"):
        estimate(SEVEN, factors={"mlp_act_factor": 12.0})


def test_a_config_comes_from_json_and_yaml(tmp_path: pathlib.Path) -> None:
    data = {
        "model": LLAMA,
        "training": {"seq_len": 512, "per_device_batch": 3},
        "parallelism": {"dp": 2, "zero_stage": 1},
        "optimizations": ["fused_loss"],
        "lora": {"rank": 8},
        "probe": True,
    }
    plain = tmp_path / "a.json"
    plain.write_text(json.dumps(data))
    config = load_config(plain)
    assert (config.seq_len, config.dp, config.zero_stage) == (512, 2, 1)
    assert config.is_optimization_enabled("fused_loss")
    assert config.has_lora and not config.qlora_enabled
    assert config.total_batch_size == 6
    assert validate_config(config) == [
        "probe: one process on one device, so no zero_stage, dp, tp or pp"
    ]
    yaml = pytest.importorskip("yaml")
    other = tmp_path / "a.yaml"
    other.write_text(yaml.safe_dump(data))
    assert load_config(other) == config


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"model": LLAMA, "trainig": {}}, "Did you mean 'training'"),
        ({"model": LLAMA, "training": {"seqlen": 1}}, "Did you mean 'seq_len'"),
        ({"model": LLAMA, "lora": {"rnak": 1}}, "Did you mean 'rank'"),
        ({"model": LLAMA, "optimizations": ["flash"]}, "Unknown optimization 'flash'"),
        ({"training": {}}, "has no 'model'"),
    ],
)
def test_unknown_keys_are_errors_that_help(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        estimate(ts.estimator.loader.from_dict(data))


def test_the_builder_builds_what_it_was_told() -> None:
    config = (
        ConfigBuilder()
        .for_model(LLAMA)
        .with_training(seq_len=256, grad_accum=2)
        .with_dtype("bf16")
        .with_parallelism(tp=2)
        .with_zero(0)
        .with_lora(rank=4, quantized=True)
        .enable_optimization("gradient_checkpointing", reduction=0.5)
        .override(optimizer="lion")
        .build()
    )
    assert config.get_optimization_params("gradient_checkpointing") == {"reduction": 0.5}
    assert config.qlora_enabled and config.optimizer == "lion"
    with pytest.raises(ValueError, match="tp 3 does not divide"):
        ConfigBuilder().for_model(LLAMA).with_parallelism(tp=3).build()
    with pytest.raises(ValueError, match="Did you mean 'seq_len'"):
        ConfigBuilder().with_training(seq_lne=1)


def halved() -> Optimization:
    effect = Effect("logits", "multiply", 0.5, when=lambda run: run["seq"] > 100)
    return Optimization("half_logits", "Logits by half.", effects=(effect,),
                        conflicts_with=("liger",))  # fmt: skip


def test_a_plugin_changes_an_area_and_nothing_leaks() -> None:
    registry = Registry()
    registry.register(halved())
    before = estimate(LLAMA)
    after = estimate(LLAMA, optimizations=["half_logits"], registry=registry)
    instant = "gradient of the logits"
    was, now = (e.worst.components(instant)["logits"] for e in (before, after))
    assert now == was // 2
    assert sum(after.components().values()) == after.bytes()
    assert "half_logits" in {line.formula.name for line in after.worst.lines}
    with pytest.raises(ValueError, match="Unknown optimization 'half_logits'"):
        estimate(LLAMA, optimizations=["half_logits"])
    with pytest.raises(ValueError, match="exclude each other"):
        estimate(LLAMA, optimizations=["half_logits", "liger"], registry=registry)
    with pytest.raises(ValueError, match="registered already"):
        registry.register(halved())
    with pytest.raises(ValueError, match="Did you mean 'logits'"):
        Effect("logit", "add", 1)
    assert "half_logits: Logits by half." in registry.documentation()


def test_what_fits_is_the_edge() -> None:
    config = EstimatorConfig(LLAMA, seq_len=512)
    found = ts.fit(config, "4GiB")
    assert found.fits and found.batch > 1
    room = fitting.memory_of("4GiB")
    scale = found.estimate.profile.constants["high_permille"]

    def upper(**fields: Any) -> int:
        return estimate(LLAMA, **{"seq_len": 512, **fields}).bytes() * scale // 1000

    assert upper(per_device_batch=found.batch) <= room < upper(per_device_batch=found.batch + 1)
    assert upper(seq_len=found.seq) <= room < upper(seq_len=found.seq + 1)
    for plan in found.pareto:
        assert plan.peak * scale // 1000 <= room
        beaten = [
            other for other in found.pareto
            if other is not plan and other.gpus <= plan.gpus and other.tokens >= plan.tokens
            and other.recomputed <= plan.recomputed
        ]  # fmt: skip
        assert not beaten


def test_what_does_not_fit_is_told_what_would() -> None:
    found = ts.fit(SEVEN, "80GiB")
    assert not found.fits and found.batch == 0
    assert found.gpus is not None and found.gpus.gpus > 1
    assert found.knobs and found.knobs[0].fits
    assert found.to_dict()["fewest_gpus"]["gpus"] == found.gpus.gpus
    with pytest.raises(ValueError, match="name the memory"):
        ts.fit(SEVEN)


def test_the_largest_model_that_fits() -> None:
    config = EstimatorConfig(LLAMA, mode="generate", profile="transformers", seq_len=128)
    names = ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B", "Qwen/Qwen3-32B")
    assert fitting.largest_model(config, "24GiB", names) == "Qwen/Qwen3-8B"
    assert fitting.largest_model(config, "100MiB", names) is None


def test_a_grid_is_its_points() -> None:
    config = EstimatorConfig(LLAMA)
    axes, peaks = fitting.grid(config, batch=[1, 2], seq=[64, 128, 256], tp=[1, 3])
    assert axes == ["batch", "seq", "tp"] and peaks.shape == (2, 3, 2)
    assert (peaks[..., 1] == fitting.REFUSED).all()  # 8 heads over 3 ranks
    want = [[peak(per_device_batch=b, seq_len=s) for s in (64, 128, 256)] for b in (1, 2)]
    assert np.array_equal(peaks[..., 0], want)


def test_gpus_are_known_by_name() -> None:
    assert gpus.gpu("a100-80gb").memory > 79 * GIB
    assert gpus.smallest(30 * GIB) == gpus.gpu("RTX5090")
    assert gpus.smallest(1 << 50) is None
    with pytest.raises(ValueError, match="Did you mean 'H100-80GB'"):
        gpus.gpu("H100-80G")


def test_an_estimate_shows_itself() -> None:
    found = estimate(LLAMA, gpu="L4")
    assert found.fits("L4") and not found.fits("1GiB")
    assert "recompute all layers" in " ".join(found.advice())
    page = found._repr_html_()
    assert found.draw() in page
    assert all(drawing.spoken(name) in page for name in found.components())
    assert found.not_modelled
    low, high = found.interval()
    assert low <= found.bytes() <= high


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = cli.main(words)
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_the_command_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--qlora --lora-rank 8 --grad-checkpoint --seq-len 1024 --gpu RTX4090"
    status, text = run(capsys, "estimate", "Qwen/Qwen3-8B", *flags.split())
    assert status == 0 and "fits RTX4090" in text and "weights" in text
    status, text = run(capsys, "estimate", "--model", "Qwen/Qwen3-8B", "--json", "--explain")
    found = json.loads(text)
    assert sum(found["components"].values()) == found["peak_bytes"]["device"]
    status, text = run(capsys, "estimate", "Qwen/Qwen3-8B", "--gpu", "L4")
    assert status == 1 and "does not fit L4" in text
    status, text = run(capsys, "estimate", "Qwen/Qwen3-8B", "--explain")
    assert status == 0 and "peak:" in text
    status, text = run(capsys, "estimate", "Qwen/Qwen3-8", "--json")
    assert status == 2 and "Did you mean" in text
    assert run(capsys, "estimate")[0] == 2
    assert "transformers" in run(capsys, "estimate", "--list-profiles")[1]
    assert "H100-80GB" in run(capsys, "estimate", "--list-gpus")[1]


def test_a_bare_switch_is_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    def parts(*flags: str) -> dict[str, int]:
        status, text = run(capsys, "estimate", "Qwen/Qwen3-8B", "--json", *flags)
        assert status == 0
        found: dict[str, int] = json.loads(text)["components"]
        return found

    plain = parts()
    assert "adapters" in parts("--lora") and "adapters" not in plain
    assert parts("--use-vision", "--mode", "load")["weights"] > plain["weights"]
    eight = parts("--optimizer-bits", "8")
    assert eight == parts("--optimizer", "adamw_8bit") != parts("--optimizer-bits", "32")
    flags = ("--optimizer-bits", "8", "--optimizer", "lion")
    status, text = run(capsys, "estimate", "Qwen/Qwen3-8B", *flags, "--json")
    assert status == 2 and "AdamW's, not lion's" in text


def test_the_command_probes(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    oracle("torch"), oracle("transformers")
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "num_hidden_layers": 2}))
    common = ("estimate", str(tmp_path), "--seq-len", "16")
    cpu = (*common, "--probe-device", "cpu", "--probe-steps", "1")
    status, text = run(capsys, *cpu, "--probe")
    assert status == 0 and "probe: exact" in text
    assert "probe:" not in run(capsys, *cpu, "--estimate-only")[1]
    status, text = run(capsys, *cpu, "--json")
    assert json.loads(text)["probe"]["error"] == 0.0
    status, text = run(capsys, *common, "--probe", "--probe-device-id", "99", "--json")
    assert status == 2 and "device_id is 99" in text
    status, text = run(capsys, *cpu, "--tp", "2", "--json")
    assert status == 2 and "one process on one device" in text


def test_the_command_fit(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"model": LLAMA, "training": {"seq_len": 256}}))
    status, text = run(capsys, "fit", "--config", str(file), "--memory", "8GiB")
    assert status == 0 and "largest batch" in text and "GPUs" in text
    status, text = run(capsys, "fit", "--config", str(file), "--gpu", "L4", "--json")
    assert status == 0 and json.loads(text)["fits"] is True


def test_every_field_of_the_core_has_words() -> None:
    for table in ("layer", "stack", "model", "run", "profile"):
        for field in core.fields(table).values():
            assert field.text and field.least <= field.fallback <= field.most


def test_a_dict_of_fields_is_a_configuration_everywhere() -> None:
    fields = {"model": "Qwen/Qwen2.5-0.5B", "seq_len": 512, "lora": {"rank": 8}}
    alone = ts.estimate("Qwen/Qwen2.5-0.5B", seq_len=512, lora={"rank": 8})
    assert ts.estimate(fields).bytes() == alone.bytes()
    assert (
        ts.fit(fields, "24GiB").batch
        == ts.fit(fields["model"], "24GiB", **dict(list(fields.items())[1:])).batch
    )
    with pytest.raises(ValueError, match="seq_len"):
        ts.estimate({"model": "Qwen/Qwen2.5-0.5B", "seq_leng": 512})
    with pytest.raises(TypeError, match="one or the other"):
        ts.fit(EstimatorConfig("Qwen/Qwen2.5-0.5B"), "24GiB", seq_len=512)


def test_a_gpu_is_named_as_people_do() -> None:
    assert gpus.gpu("h100") == gpus.gpu("H100-80GB")
    assert ts.fit("Qwen/Qwen2.5-0.5B", "H100").memory == gpus.gpu("H100-80GB").memory
    with pytest.raises(ValueError, match="A100-40GB or A100-80GB"):
        gpus.gpu("A100")
    with pytest.raises(ValueError, match="Known: T4"):
        gpus.gpu("H1")
    with pytest.raises(ValueError):
        ts.fit("Qwen/Qwen2.5-0.5B", "H1")


def test_what_fits_can_be_read() -> None:
    found = ts.fit("Qwen/Qwen2.5-0.5B", "24GiB")
    assert repr(found).endswith("fits in 24.0 GiB)")
    text = found.summary_table()
    assert f"largest batch: {found.batch}" in text and "tokens a step" in text
    assert text.count("\n") >= len(found.pareto) + len(found.knobs)
    assert "largest batch" in found._repr_html_()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"optimizer": "adamww"}, "optimizer is 'adamww'. Did you mean 'adamw'"),
        ({"seq_len": -4}, "seq_len is -4, not between 1"),
        ({"per_device_batch": 0}, "per_device_batch is 0"),
        ({"seq_len": 2.5}, "seq_len: a whole number"),
    ],
)
def test_a_wrong_value_is_named_as_it_was_written(fields: Any, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(sentence)):
        ts.estimate("Qwen/Qwen2.5-0.5B", **fields)


def test_what_fits_knows_of_declared_effects() -> None:
    registry = Registry()
    registry.register(
        Optimization("half_cache", "half", effects=(Effect("kv_cache", "multiply", 0.5),))
    )
    fields = {"mode": "generate", "seq_len": 16384, "use_kv_cache": True}
    whole = ts.fit("Qwen/Qwen2.5-7B", "A100-80GB", **fields)
    half = ts.fit(
        "Qwen/Qwen2.5-7B", "A100-80GB", **fields,
        optimizations=["half_cache"], registry=registry,
    )  # fmt: skip
    assert half.batch > whole.batch
    assert half.pareto[0].peak < whole.pareto[0].peak
