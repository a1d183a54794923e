"""The parameter streamer by its original names, one demonstration after another.

    python examples/streaming_processor_demo.py
    python examples/streaming_processor_demo.py --model model.safetensors --demo filtering
    python examples/streaming_processor_demo.py --demo adaptive --save-results results.json

Without --model a small transformer is made up.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

import tensorstream as ts
from tensorstream import hilbert

Results = dict[str, Any]


def tiny_model(layers: int = 6, width: int = 256) -> dict[str, np.ndarray]:
    """Names, shapes and dtypes of a small Llama."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        values = rng.standard_normal(shape, np.float32) * np.float32(0.02)
        return values.astype(ml_dtypes.bfloat16)

    model = {"model.embed_tokens.weight": normal(8000, width)}
    for i in range(layers):
        layer = f"model.layers.{i}."
        for name in "qkvo":
            model[f"{layer}self_attn.{name}_proj.weight"] = normal(width, width)
        model[layer + "mlp.gate_proj.weight"] = normal(4 * width, width)
        model[layer + "mlp.up_proj.weight"] = normal(4 * width, width)
        model[layer + "mlp.down_proj.weight"] = normal(width, 4 * width)
        model[layer + "input_layernorm.weight"] = normal(width)
        model[layer + "post_attention_layernorm.weight"] = normal(width)
    model["model.norm.weight"] = normal(width)
    model["lm_head.weight"] = normal(8000, width)
    return model


def config_of(options: argparse.Namespace, **changes: Any) -> ts.StreamingConfig:
    fields = {
        "chunk_size": options.chunk_size,
        "max_memory_mb": options.max_memory,
        "adaptive_chunk_sizing": options.adaptive_sizing,
        "enable_memory_monitoring": options.monitor_memory,
        "target_layers": options.layers,
    }
    return ts.StreamingConfig(**(fields | changes))


def walk(source: Any, config: ts.StreamingConfig) -> Results:
    """Stream once; what came, by kind and chunk size."""
    kinds: Counter[str] = Counter()
    sizes: list[int] = []
    total = 0.0
    with ts.MemoryEfficientParameterStreamer(config) as streamer:
        for chunk, metadata, _ in streamer.stream_model_parameters(source):
            kinds[metadata.layer_type] += metadata.parameter_count
            sizes.append(metadata.chunk_size)
            total += float(chunk.sum(dtype=np.float64))
        statistics = streamer.get_streaming_statistics()
        peak = streamer.memory_monitor.get_peak_memory()
    return {
        "statistics": statistics,
        "parameters_by_type": dict(kinds.most_common()),
        "chunk_sizes": {"first": sizes[0], "last": sizes[-1]} if sizes else {},
        "sum": total,
        "peak_memory_mb": peak,
    }


def tell(found: Results) -> None:
    statistics = found["statistics"]
    seconds = statistics["processed_parameters"] / max(statistics["processing_rate"], 1e-9)
    print(
        f"{statistics['processed_parameters']:,} parameters in "
        f"{statistics['chunks_encoded']:,} chunks, {seconds:.2f} s, "
        f"{statistics['processing_rate'] / 1e6:,.0f} million a second"
    )


def basic(source: Any, options: argparse.Namespace) -> Results:
    found = walk(source, config_of(options))
    tell(found)
    for kind, count in found["parameters_by_type"].items():
        print(f"  {kind:14}{count:14,}")
    return found


def adaptive(source: Any, options: argparse.Namespace) -> Results:
    results = {}
    print("mode          first    last    chunks   parameters")
    for name, changes in {
        "fixed": {"adaptive_chunk_sizing": False},
        "adaptive": {"adaptive_chunk_sizing": True},
        # Less than this process has: the rule goes down to the least.
        "under pressure": {"adaptive_chunk_sizing": True, "max_memory_mb": 2.0},
    }.items():
        found = results[name] = walk(source, config_of(options, **changes))
        sizes, statistics = found["chunk_sizes"], found["statistics"]
        print(
            f"{name:14}{sizes.get('first', 0):5}{sizes.get('last', 0):8}"
            f"{statistics['chunks_encoded']:10,}{statistics['processed_parameters']:13,}"
        )
    counts = {found["statistics"]["processed_parameters"] for found in results.values()}
    print(f"every parameter once, in each: {'yes' if len(counts) == 1 else 'NO'}")
    return results


def filtering(source: Any, options: argparse.Namespace) -> Results:
    choices: dict[str, dict[str, Any]] = {
        "everything": {"target_layers": None},
        "attention": {"target_layers": ["attention"]},
        "mlp": {"target_layers": ["mlp"]},
        "no embeddings": {"target_layers": None, "exclude_layers": ["embedding", "output"]},
    }
    if options.layers:
        choices = {"--layers": {}, **choices}
    results = {}
    print("filter          tensors   of all    parameters")
    for name, changes in choices.items():
        config = config_of(options, **changes)
        streamer = ts.MemoryEfficientParameterStreamer(config)
        found = streamer.get_layer_filtering_statistics(source)
        found["parameters"] = walk(source, config)["statistics"]["processed_parameters"]
        results[name] = found
        print(
            f"{name:14}{found['filtered_layers']:9}{found['filter_ratio']:9.1%}"
            f"{found['parameters']:14,}"
        )
    return results


def memory(source: Any, options: argparse.Namespace) -> Results:
    results = {}
    print("max_memory_mb   process before   at the peak")
    for limit in (options.max_memory, options.max_memory / 8):
        limit = max(limit, 8.0)
        before = (ts.memory().rss or 0) / 1024**2
        changes = {"max_memory_mb": limit, "enable_memory_monitoring": True}
        found = walk(source, config_of(options, **changes))
        results[f"{limit:g}"] = found
        print(f"{limit:13g}{before:14.1f} MB{found['peak_memory_mb']:11.1f} MB")
    return results


def comprehensive(source: Any, options: argparse.Namespace) -> Results:
    results = {}
    for name in ("basic", "adaptive", "filtering", "memory", "encoding"):
        print(f"\n-- {name} --")
        results[name] = DEMOS[name](source, options)
    print("\n-- two threads, then a stop in the middle and on from there --")
    config = config_of(options, parallel_processing=True)
    streamer = ts.MemoryEfficientParameterStreamer(config)
    for _, _, progress in streamer.stream_model_parameters(source):
        if progress.progress_percent > 40:
            break
    saved = streamer.create_progress_checkpoint()
    print(f"stopped at {saved['processed_parameters']:,} in {saved['current_layer']}")
    rest = sum(chunk.size for chunk, _, _ in streamer.resume_from_checkpoint(saved, source))
    print(f"went on with the other {rest:,}")
    results["resumed"] = {"before": saved["processed_parameters"], "after": rest}
    return results


def tell_encoding(name: str, found: ts.EncodingStatistics, lost: float) -> None:
    rate = found.rate / 1e9
    print(f"{name:8}{found.chunks:9,}{found.ratio:14.1%}{rate:10.2f}{lost:12.2%}")


def encoding(source: Any, options: argparse.Namespace) -> Results:
    """What few bits cost: each scheme on the way, then without any loss."""
    results: Results = {}
    ckpt = source if isinstance(source, ts.Checkpoint) else ts.open(source)
    names = [name for name, info in ckpt.items() if len(info.shape) == 2]
    first = ckpt.read(names[0], dtype="float32")
    print("scheme     chunks    of the size     GB/s   error, rms")
    for scheme in ("q8_0", "q4_k", "nf4", "int8", "e4m3"):
        try:
            with ckpt.stream(names=names) as stream:
                found = stream.encode(scheme, lambda piece: None)
        except (ValueError, ts.UnsupportedError) as error:
            print(f"{scheme:8} {error}")  # rows that are no whole blocks
            continue
        lost = ts.quantize(first, scheme).error(first).rmse / float(first.std())
        results[scheme] = {
            "chunks": found.chunks, "ratio": found.ratio, "rate": found.rate,
            "relative_error": lost,
        }  # fmt: skip
        tell_encoding(scheme, found, lost)
    encoder = ts.RealTimeEncoder(ts.compress, lambda frame, chunk: None)
    with ckpt.stream(names=names) as stream:
        found = encoder.run(stream)
    results["lossless"] = {"chunks": found.chunks, "ratio": found.ratio, "rate": found.rate}
    tell_encoding("lossless", found, 0.0)
    results["videos"] = videos(source, options)
    return results


def videos(source: Any, options: argparse.Namespace) -> Results:
    """Each chunk as a frame of a lossless video, and the values out of the frames again."""
    try:
        config = config_of(options, enable_chunk_encoding=True)
        streamer = ts.MemoryEfficientParameterStreamer(config)
    except ImportError as error:
        print(f"\n{error}")
        return {}
    most = lost = 0.0
    with tempfile.TemporaryDirectory() as folder:
        streamer.config.chunk_video_storage_dir = folder
        chunks = {}
        for chunk, about, _ in streamer.stream_model_parameters(source, 1_000_000):
            if about.video_path is not None:  # integers make no frames
                chunks[about.video_path, about.frame_index] = chunk.copy()
        for path in sorted(pathlib.Path(folder).iterdir()):
            for number, frame in enumerate(hilbert.load_chunks(path)):
                chunk = chunks.pop((str(path), number))
                most = max(most, float(np.abs(chunk).max()))
                lost = max(lost, float(np.abs(frame.image.decode() - chunk).max()))
    found = streamer.get_streaming_statistics()["chunk_encoding_stats"]
    print(
        f"\nas videos: {found['total_chunks_encoded']:,} chunks, {found['failed_chunks']} "
        f"failed, {found['compression_ratio']:.1%} of the size, "
        f"{found['bytes_per_second'] / 1e6:,.0f} MB/s; "
        f"off by at most {lost / max(most, 1e-30):.2%} of the largest value"
    )
    return {**found, "worst_error": lost / max(most, 1e-30), "not_in_a_video": len(chunks)}


DEMOS: dict[str, Callable[[Any, argparse.Namespace], Results]] = {
    "basic": basic,
    "adaptive": adaptive,
    "filtering": filtering,
    "memory": memory,
    "comprehensive": comprehensive,
    "encoding": encoding,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory-efficient parameter streaming.")
    parser.add_argument("--model", help="a file, a folder or a Hub id in the local cache")
    parser.add_argument("--demo", choices=DEMOS, default="comprehensive")
    parser.add_argument("--chunk-size", type=int, default=1024, help="parameters (1024)")
    parser.add_argument("--max-memory", type=float, default=512.0, help="MB (512)")
    parser.add_argument("--layers", nargs="+", help="kinds, or parts of names")
    parser.add_argument("--adaptive-sizing", action="store_true")
    parser.add_argument("--monitor-memory", action="store_true")
    parser.add_argument("--save-results", type=pathlib.Path, metavar="FILE", help="as JSON")
    options = parser.parse_args()
    try:
        source = tiny_model() if options.model is None else ts.open(options.model)
        results = DEMOS[options.demo](source, options)
    except (ts.Error, OSError, ValueError) as error:
        sys.exit(f"streaming_processor_demo: {error}")
    if options.save_results:
        options.save_results.write_text(json.dumps(results, indent=2) + "\n")
        print(f"\nresults are in {options.save_results}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
