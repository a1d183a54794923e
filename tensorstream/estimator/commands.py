"""``tensorstream estimate | fit | ui``: the original's flags, and the rest."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from tensorstream.estimator import estimate, fitting, frameworks, gpus, loader
from tensorstream.estimator.config import EstimatorConfig, ProbeConfig
from tensorstream.tables import print_json, table
from tensorstream.units import format_size

if TYPE_CHECKING:
    from tensorstream.estimator.probe import Probe

FITS, FITS_NOT = 0, 1

# Flags that are a field of the config each: flag, field, type.
_FIELDS: tuple[tuple[str, str, type[Any]], ...] = (
    ("--seq-len", "seq_len", int),
    ("--per-device-batch", "per_device_batch", int),
    ("--grad-accum", "grad_accum", int),
    ("--dtype", "dtype", str),
    ("--dp", "dp", int),
    ("--tp", "tp", int),
    ("--pp", "pp", int),
    ("--vpp", "vpp", int),
    ("--cp", "cp", int),
    ("--ep", "ep", int),
    ("--etp", "etp", int),
    ("--zero", "zero_stage", int),
    ("--fsdp", "fsdp", int),
    ("--optimizer", "optimizer", str),
    ("--optimizer-dtype", "optimizer_dtype", str),
    ("--recompute", "recompute", str),
    ("--attention", "attention", str),
    ("--loss", "loss", str),
    ("--weight-format", "weight_format", str),
    ("--mode", "mode", str),
    ("--profile", "profile", str),
    ("--new-tokens", "new_tokens", int),
    ("--vocab-size-override", "vocab_size_override", int),
    ("--gpu", "gpu", str),
)
# Flags of sections: flag, section, field, type.
_SECTIONS: tuple[tuple[str, str, str, type[Any]], ...] = (
    ("--lora-rank", "lora", "rank", int),
    ("--lora-alpha", "lora", "alpha", float),
    ("--lora-params-override", "lora", "params_override", int),
    ("--cuda-libs-gib", "overheads", "cuda_libs_gib", float),
    ("--misc-overhead-gib", "overheads", "misc_overhead_gib", float),
    ("--fragmentation-gib", "overheads", "fragmentation_gib", float),
    ("--deepspeed-overhead-gib", "overheads", "deepspeed_overhead_gib", float),
    ("--attn-act-factor-no-fa", "factors", "attn_act_factor_no_fa", float),
    ("--attn-act-factor-fa", "factors", "attn_act_factor_fa", float),
    ("--mlp-act-factor", "factors", "mlp_act_factor", float),
    ("--logits-factor", "factors", "logits_factor", float),
    ("--grad-ckpt-reduction", "factors", "grad_ckpt_reduction", float),
    ("--vision-image-size", "vision", "image_size", int),
    ("--vision-patch", "vision", "patch_size", int),
    ("--vision-layers", "vision", "layers", int),
    ("--vision-hidden", "vision", "hidden", int),
    ("--kv-format", "kv", "format", str),
    ("--kv-block", "kv", "block", int),
    ("--probe-steps", "probe", "steps", int),
    ("--probe-warmup", "probe", "warmup", int),
    ("--probe-device", "probe", "device", str),
    ("--probe-device-id", "probe", "device_id", int),
)
# Switches: flag, optimization.
_OPTIMIZATIONS = (
    ("--flashattn", "flashattention"),
    ("--grad-checkpoint", "gradient_checkpointing"),
    ("--fused-loss", "fused_loss"),
    ("--liger", "liger"),
    ("--dp-offload-optimizer", "cpu_offload"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What both commands take."""
    parser.add_argument("model", nargs="?", help="a known name, a config.json or its folder")
    parser.add_argument("--model", dest="model_flag", metavar="MODEL", help="the same")
    parser.add_argument("--config", metavar="FILE", help="a JSON or YAML file to begin with")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    what = parser.add_argument_group("what is run")
    for flag, field, kind in _FIELDS:
        what.add_argument(flag, dest=field, type=kind, metavar=kind.__name__.upper())
    for flag, section, field, kind in _SECTIONS:
        name = f"{section}.{field}"
        what.add_argument(flag, dest=name, type=kind, metavar=kind.__name__.upper())
    for flag, name in _OPTIMIZATIONS:
        what.add_argument(flag, dest=f"optimizations.{name}", action="store_true")
    what.add_argument(
        "--optimizer-bits", type=int, choices=(8, 32), help="of AdamW's states: 8 is adamw_8bit"
    )
    what.add_argument("--is-seq2seq", action="store_true", help="there is an encoder")
    what.add_argument("--kv-cache", action="store_true", help="keys and values are kept")
    what.add_argument("--master-weights", action="store_true", help="F32 copies of weights")
    what.add_argument("--lora", action="store_true", help="adapters")
    what.add_argument("--qlora", action="store_true", help="adapters over nf4 weights")
    what.add_argument("--dora", action="store_true", help="adapters with magnitudes")
    what.add_argument("--lora-target-modules", metavar="NAME,...", help="default: all linears")
    what.add_argument("--use-vision", action="store_true", help="images")


def add_estimate(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser)
    parser.add_argument("--explain", action="store_true", help="every live tensor at the peak")
    parser.add_argument(
        "--probe", action="store_true", help="run the step as well, with random weights"
    )
    parser.add_argument(
        "--estimate-only", action="store_true", help="run nothing, whatever the file asks for"
    )
    parser.add_argument(
        "--list-profiles", action="store_true", help="frameworks that are known"
    )
    parser.add_argument("--list-gpus", action="store_true", help="GPUs that are known")


def add_fit(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser)
    parser.add_argument("--memory", metavar="SIZE", help="of one GPU; default: that of --gpu")


def add_ui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=int, metavar="N", help="0: any free one (default: 7860, or any free one)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 lets other machines in"
    )
    parser.add_argument("--no-browser", action="store_true", help="open no window")


def run_ui(args: argparse.Namespace) -> int:
    """Serve the estimator's page until Ctrl-C."""
    from tensorstream.ui import server

    server.serve(args.host, args.port, not args.no_browser)
    return FITS


def config_of(args: argparse.Namespace) -> EstimatorConfig:
    """The configuration that the command line describes.

    Raises:
        ValueError: no model, or an unknown word.
    """
    given = vars(args)
    fields: dict[str, Any] = {}
    if args.config:
        base = loader.load_config(args.config)
        fields = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    model = args.model or args.model_flag
    if model is not None:
        fields["model"] = model
    fields |= {field: given[field] for _, field, _ in _FIELDS if given[field] is not None}
    if args.optimizer_bits == 8:
        if fields.get("optimizer", "adamw") not in ("adamw", "adamw_8bit"):
            raise ValueError(f"--optimizer-bits 8 is AdamW's, not {fields['optimizer']}'s")
        fields["optimizer"] = "adamw_8bit"
    if args.kv_cache:
        fields["use_kv_cache"] = True
    if args.is_seq2seq:
        fields["is_seq2seq"] = True
    if args.master_weights:
        fields["master_weights"] = True
    for name in ("lora", "overheads", "factors", "vision", "kv", "probe"):
        section = _section(name, given, fields.get(name))
        if section is not None:
            fields[name] = section
    on = [name for _, name in _OPTIMIZATIONS if given[f"optimizations.{name}"]]
    if on:
        before = fields.get("optimizations") or {}
        before = before if isinstance(before, dict) else dict.fromkeys(before, True)
        fields["optimizations"] = {**before, **dict.fromkeys(on, True)}
    return loader.from_dict({k: v for k, v in fields.items() if v is not None})


def _section(name: str, given: dict[str, Any], before: Any) -> dict[str, Any] | None:
    """A section's fields: those of the file, those of flags, and what a switch says."""
    fields = dataclasses.asdict(before) if dataclasses.is_dataclass(before) else {}  # type: ignore[arg-type]
    flags = {
        field: given[f"{section}.{field}"]
        for _, section, field, _ in _SECTIONS
        if section == name and given[f"{section}.{field}"] is not None
    }
    on = bool(flags)
    if name == "lora":
        on |= bool(given["lora"] or given["qlora"] or given["dora"])
        if given["qlora"]:
            flags["quantized"] = True
        if given["dora"]:
            flags["dora"] = True
        if given["lora_target_modules"]:
            flags["target_modules"] = tuple(given["lora_target_modules"].split(","))
            on = True
    if name == "vision":
        on |= bool(given["use_vision"])
    if name == "probe":
        on |= bool(given.get("probe"))
    return {**fields, **flags} if on or fields else None


def run_estimate(args: argparse.Namespace) -> int:
    """Print an estimate; 1 when a GPU was named and it does not fit."""
    if args.list_profiles:
        rows = [(name, frameworks.profile(name).doc) for name in frameworks.known()]
        print(table(("profile", "what it is"), rows, left=2))
        return FITS
    if args.list_gpus:
        rows = [(gpu.name, format_size(gpu.memory)) for gpu in gpus.catalogue().values()]
        print(table(("GPU", "memory"), rows))
        return FITS
    config = config_of(args)
    found = estimate(config)
    room = gpus.gpu(config.gpu) if config.gpu else None
    fits = room is None or found.fits(room.memory)
    probed = _probed(config, args)
    if args.json:
        more: dict[str, Any] = {"fits": fits if room else None}
        if probed is not None:
            more["probe"] = {**probed.to_row(), "error": probed.error}
        print_json({**found.to_dict(), **more})
        return FITS if fits else FITS_NOT
    print(f"{found.model!r}, {found.profile.name}: {found.profile.doc}")
    print(found.explain() if args.explain else found.summary_table())
    if room is not None:
        verdict = "fits" if fits else "does not fit"
        print(f"{verdict} {room.name} ({format_size(room.memory)})")
    else:
        smallest = gpus.smallest(found.interval()[1])
        print(f"smallest GPU that has room: {smallest.name if smallest else 'none'}")
    for sentence in found.advice():
        print(f"- {sentence}")
    if found.not_modelled:
        print(f"not modelled: {'; '.join(found.not_modelled)}")
    if probed is not None:
        print(f"\nprobe: {'exact' if probed.exact else f'{probed.error:+.1%}'}")
        print(probed.summary_table())
    return FITS if fits else FITS_NOT


def _probed(config: EstimatorConfig, args: argparse.Namespace) -> Probe | None:
    """A probe where the command line or the file asks for one."""
    wanted = config.probe
    if args.estimate_only or not isinstance(wanted, ProbeConfig) or not wanted.enabled:
        return None
    from tensorstream.estimator.probe import probe_config

    return probe_config(config)


def run_fit(args: argparse.Namespace) -> int:
    """Print what fits; 1 when the configuration as asked does not."""
    found = fitting.fit(config_of(args), args.memory)
    if args.json:
        print_json(found.to_dict())
        return FITS if found.fits else FITS_NOT
    print(found.summary_table())
    return FITS if found.fits else FITS_NOT
