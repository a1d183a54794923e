"""The command line: ``tensorstream info | stream | stats | verify | plan | convert ...``.

Each command prints a table or, with ``--json``, one JSON object, and tells by its exit status
how it went.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from tensorstream import _core, registry
from tensorstream._version import __version__
from tensorstream.checkpoint import Checkpoint, TensorInfo
from tensorstream.converting import Conversion, convert
from tensorstream.salvaging import FILLS, Salvage, salvage
from tensorstream.selection import KINDS, MARKS, Selection
from tensorstream.streaming import DEFAULT_BUDGET, Stream, TensorStats
from tensorstream.tables import facts, number, plural, print_json, rate_text, shown, table
from tensorstream.units import format_size, parse_size

OK, PROBLEMS, UNUSABLE = 0, 1, 2
INTERRUPTED, TERMINATED, PIPE_CLOSED = 130, 143, 141  # 128 + the signal, as shells say

EXIT_CODES = """\
exit status:
  0    all went well
  1    verify: the checkpoint has problems; salvage: something is lost;
       stats --fail-on-nan: there are NaNs
  2    wrong usage, or the source cannot be opened or read
  130  stopped by Ctrl-C (143 by SIGTERM)

TENSORSTREAM_DEBUG=1 shows where an error came from."""

ESTIMATOR_CODES = """\
exit status:
  0    it fits, or no GPU was named
  1    it does not fit
  2    wrong usage, or a word that is not known"""

UI_CODES = """\
exit status:
  2    wrong usage, the extra `ui` is missing, or the port is taken
  130  stopped by Ctrl-C"""

ENGINES = ("auto", "pread", "direct", "mmap", "io_uring")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status.

    Args:
        argv: words after the program's name; those of the process by default.
    """
    _print_anything()
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said why
        return stop.code if isinstance(stop.code, int) else UNUSABLE
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read has seen enough.  Python flushes again at exit: into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except _Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("TENSORSTREAM_DEBUG") == "1":
            raise
        print(f"tensorstream: {_sentence(error)}", file=sys.stderr)
        return UNUSABLE


def _print_anything() -> None:
    """Names may hold what the terminal's encoding has not."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _sentence(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        name, why = os.fsdecode(error.filename), error.strerror
        return shown(why if why.startswith(name) else f"{name}: {why}")
    known = isinstance(error, (_core.Error, OSError, ValueError, ImportError, MemoryError))
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if known or isinstance(error, KeyError):
        return shown(text or type(error).__name__)
    return shown(f"{type(error).__name__}: {text}")


# -- words on the command line ---------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tensorstream",
        description="Look into, stream and check model files that are bigger than memory.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tensorstream {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    info = _command(commands, "info", run_info, "what a checkpoint holds")
    info.add_argument("--tensors", action="store_true", help="list every tensor")
    info.add_argument("--by-layer", action="store_true", help="list every layer")
    info.add_argument("--metadata", action="store_true", help="print metadata in full")

    stream = _command(commands, "stream", run_stream, "read all of it through a small budget")
    _add_streaming(stream)
    stream.add_argument("--checksum", choices=("crc32c", "crc32"), help="of each tensor")
    stream.add_argument("--state", metavar="FILE", help="written when it stops early")
    stream.add_argument("--resume", metavar="FILE", help="go on from such a file")
    _add_progress(stream)

    stats = _command(commands, "stats", run_stats, "minimum, maximum, mean and NaNs by tensor")
    stats.add_argument("--nan-only", action="store_true", help="list only tensors with a NaN")
    stats.add_argument("--fail-on-nan", action="store_true", help="exit 1 if there is a NaN")
    stats.add_argument("--budget", default="8MiB", metavar="SIZE", help="default: 8MiB")
    _add_reading(stats)
    _add_progress(stats)

    verify = _command(
        commands,
        "verify",
        run_verify,
        "structure, and the checksums it carries",
        filters=False,
    )
    verify.add_argument("--threads", type=int, metavar="N", help="that read")
    _add_progress(verify)

    plan = _command(commands, "plan", run_plan, "what stream would do, without reading")
    _add_streaming(plan)
    plan.add_argument("--tensors", action="store_true", help="list the tensors in order")

    convert = _command(
        commands, "convert", run_convert, "write it in another format, in constant memory"
    )
    convert.add_argument(
        "target", help="a path ending in .safetensors, .gguf or .npz, or a folder"
    )
    _add_converting(convert)
    _add_progress(convert)

    salvage = _command(
        commands, "salvage", run_salvage, "write what is sound of a damaged file", filters=False
    )
    salvage.add_argument("target", help="another path; as for convert")
    salvage.add_argument(
        "--fill", choices=FILLS, default="nan",
        help="what stands for lost elements; drop: tensors with a loss are left out "
        "(default: nan)",
    )  # fmt: skip
    salvage.add_argument(
        "--compression", choices=("fast", "portable", "small", "raw"),
        help="default: fast if the source is compressed",
    )  # fmt: skip
    salvage.add_argument("--report", metavar="FILE", help="what is lost, as JSON")
    salvage.add_argument("--budget", default="64MiB", metavar="SIZE", help="default: 64MiB")
    salvage.add_argument("--threads", type=int, metavar="N", help="that read and check")

    _add_estimator(commands, "estimate", "how much memory a run will need")
    _add_estimator(commands, "fit", "what fits in so much memory, and how")
    _add_estimator(commands, "ui", "both as a page in the browser", UI_CODES)

    listed = commands.add_parser(
        "registry",
        help="what was converted here",
        description="What `convert` did: source, encoder, sizes, digest, rate and time.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listed.set_defaults(run=run_registry)
    listed.add_argument("--path", metavar="FILE", help=f"default: {registry.default_path()}")
    listed.add_argument(
        "--json", action="store_true", help="one JSON object instead of a table"
    )
    return parser


class _Estimator(argparse.ArgumentParser):
    """`estimate`, `fit` and `ui`: their arguments are made when they are chosen."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        from tensorstream.estimator import commands

        name = self.prog.split()[-1]
        if self.get_default("run") is None:
            getattr(commands, f"add_{name}")(self)
            self.set_defaults(run=getattr(commands, f"run_{name}"))
        return super().parse_known_args(args, namespace)


def _add_estimator(
    commands: Any, name: str, summary: str, codes: str = ESTIMATOR_CODES
) -> None:
    commands._parser_class = _Estimator
    commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands._parser_class = argparse.ArgumentParser


def _command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    *,
    filters: bool = True,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("source", help="file, index json, folder, or Hub id in the cache")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    if filters:
        _add_filters(parser)
    return parser


def _add_filters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which tensors (all of these must hold)")
    group.add_argument(
        "--kinds", action="extend", type=_words, metavar="KIND,...",
        help=f"any of {', '.join(KINDS)}, or marked {', '.join(MARKS)}",
    )  # fmt: skip
    group.add_argument(
        "--layers",
        type=parse_layers,
        metavar="8:16",
        help="by number: 3 or 8:16 or 0,2,30:",
    )
    group.add_argument(
        "--include", action="append", metavar="GLOB", help="the name matches one: '*.mlp.*'"
    )
    group.add_argument("--exclude", action="append", metavar="GLOB", help="and none of these")
    group.add_argument("--regex", type=_regex, metavar="REGEX", help="found in the name")


def _add_streaming(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how to stream")
    group.add_argument(
        "--budget", default=DEFAULT_BUDGET, metavar="SIZE",
        help=f"memory for all bulk data, never exceeded (default: {DEFAULT_BUDGET})",
    )  # fmt: skip
    group.add_argument(
        "--order", choices=("layer", "file"), default="layer",
        help="as a forward pass meets them, or as the bytes lie (default: layer)",
    )  # fmt: skip
    group.add_argument("--dtype", help="of floats: float32, float16, bfloat16, float64; or raw")
    group.add_argument("--chunk", metavar="SIZE", help="fixed; measured and adapted by default")
    _add_reading(group)


def _add_reading(group: Any) -> None:
    group.add_argument("--threads", type=int, metavar="N", help="that read (default: 2 to 4)")
    group.add_argument(
        "--engine", choices=ENGINES, default="auto", help="how to read (default: auto)"
    )


def _add_converting(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what becomes of it")
    group.add_argument(
        "--format",
        choices=("safetensors", "gguf", "npz"),
        help="where the suffix does not tell",
    )
    group.add_argument("--dtype", help="of floats: bfloat16, float16, float8_e4m3fn ...")
    group.add_argument(
        "--quantize", action="append", metavar="[PATTERN=]SCHEME",
        help="of matrices: q8_0, q4_k, e4m3 ...; with a pattern of names, the first that "
        "matches counts, and PATTERN=none leaves those alone",
    )  # fmt: skip
    group.add_argument(
        "--compression", choices=("fast", "portable", "small", "raw"),
        help="without loss, in safetensors",
    )  # fmt: skip
    group.add_argument(
        "--base", metavar="CHECKPOINT",
        help="what it differs little from: with --compression only the difference is written, "
        "where that is smaller",
    )  # fmt: skip
    group.add_argument("--shard-size", metavar="SIZE", help="several files and an index")
    group.add_argument(
        "--metadata", action="append", type=_pair, metavar="KEY=TEXT", help="more metadata"
    )
    group.add_argument(
        "--budget", default="256MiB", metavar="SIZE",
        help="memory for everything on the way (default: 256MiB)",
    )  # fmt: skip
    group.add_argument(
        "--registry", metavar="FILE", help="note it there instead of in the user's registry"
    )
    group.add_argument("--no-registry", action="store_true", help="note it nowhere")
    _add_reading(group)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: metadata is given as KEY=TEXT")
    return key, value


def _quantize_rules(words: list[str] | None) -> dict[str, str | None] | None:
    """{pattern: scheme} in the order given; a scheme alone is for all."""
    if words is None:
        return None
    rules: dict[str, str | None] = {}
    for word in words:
        pattern, _, scheme = word.rpartition("=")
        rules[pattern or "*"] = None if scheme.lower() == "none" else scheme
    return rules


def _add_progress(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--progress", action=argparse.BooleanOptionalAction,
        help="draw a bar (default: on a terminal)",
    )  # fmt: skip


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


class LayerRanges:
    """Layer numbers in any of some ranges."""

    def __init__(self, ranges: list[range]) -> None:
        self.ranges = ranges

    def __contains__(self, number: object) -> bool:
        return any(number in one for one in self.ranges)


def parse_layers(text: str) -> LayerRanges:
    """Layers from "3", "8:16", ":4", "0:32:2" or several of these with commas.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d*)(?:(:)(\d*)(?::(\d+))?)?\s*", part, re.ASCII)
        if match is None or not part.strip() or match[4] == "0" or len(part) > 30:
            raise argparse.ArgumentTypeError(
                f"{text!r}: layers are numbers and ranges, such as 3 or 8:16 or 0,2,30:"
            )
        first, colon, last, step = match.groups()
        start = int(first or 0)
        stop = int(last) if last else (1 << 31) if colon else start + 1
        ranges.append(range(start, stop, int(step or 1)))
    return LayerRanges(ranges)


def _filters(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "kinds": args.kinds,
        "layers": args.layers,
        "include": args.include,
        "exclude": args.exclude,
        "regex": args.regex,
    }


def _streaming(args: argparse.Namespace) -> dict[str, Any]:
    return {
        **_filters(args),
        "budget": args.budget,
        "order": args.order,
        "dtype": args.dtype,
        "chunk": args.chunk,
        "threads": args.threads,
        "engine": args.engine,
    }


def _progress(args: argparse.Namespace) -> bool:
    """Unasked, a bar is only drawn where somebody sees it and tqdm is there."""
    if args.progress is not None:
        return bool(args.progress)
    return sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None


# -- info ------------------------------------------------------------------------------------


class Sum(NamedTuple):
    """Tensors of one kind or dtype."""

    tensors: int
    parameters: int
    nbytes: int


def run_info(args: argparse.Namespace) -> int:
    with Checkpoint(args.source) as checkpoint:
        chosen = _chosen(checkpoint, args)
        if args.json:
            print_json(_info_object(checkpoint, chosen, args))
        else:
            _print_info(checkpoint, chosen, args)
    return OK


def _chosen(checkpoint: Checkpoint, args: argparse.Namespace) -> list[TensorInfo]:
    rows = Selection(**_filters(args)).rows(checkpoint, checkpoint.catalog)
    return [checkpoint.tensor(row) for row in rows]


def summed(tensors: Iterable[TensorInfo], key: Callable[[TensorInfo], str]) -> dict[str, Sum]:
    """Sums by key, the largest first; tensors on the memory of another weigh nothing."""
    sums: dict[str, Sum] = {}
    for one in tensors:
        count, parameters, nbytes = sums.get(key(one), (0, 0, 0))
        weighs = one.alias_of is None
        sums[key(one)] = Sum(
            count + 1, parameters + weighs * one.num_elements, nbytes + weighs * one.nbytes
        )
    return dict(sorted(sums.items(), key=lambda item: -item[1].nbytes))


def _total(sums: dict[str, Sum]) -> Sum:
    return Sum(*(sum(one[i] for one in sums.values()) for i in range(3)))


def _layer_key(one: TensorInfo) -> str:
    return f"{one.stack}.{one.layer}" if one.layer is not None else ""


def _layer_sums(tensors: Iterable[TensorInfo]) -> dict[str, Sum]:
    found = [one for one in tensors if one.layer is not None]
    sums = summed(found, _layer_key)
    # In the order of the layers, not by size.
    order = sorted({(one.stack, one.layer or 0): _layer_key(one) for one in found}.items())
    return {key: sums[key] for _, key in order}


def _info_object(
    checkpoint: Checkpoint, chosen: list[TensorInfo], args: argparse.Namespace
) -> dict[str, Any]:
    kinds = summed(chosen, lambda one: one.kind)
    total = _total(kinds)
    found: dict[str, Any] = {
        "source": args.source,
        "format": checkpoint.format,
        "files": [
            {"path": one["path"], "size": one["size"]} for one in checkpoint.catalog.files()
        ],
        "tensors": total.tensors,
        "parameters": total.parameters,
        "bytes": total.nbytes,
        "layers": len({_layer_key(one) for one in chosen if one.layer is not None}),
        "kinds": {key: _sum_object(one) for key, one in kinds.items()},
        "dtypes": {k: _sum_object(v) for k, v in summed(chosen, lambda t: t.dtype).items()},
        "metadata": {
            key: value if args.metadata else _shortened(value)
            for key, value in checkpoint.metadata.items()
        },
    }
    if args.by_layer:
        sums = _layer_sums(chosen)
        found["layer_list"] = [{"name": key, **_sum_object(one)} for key, one in sums.items()]
    if args.tensors:
        found["tensor_list"] = [one._asdict() for one in chosen]
    return found


def _sum_object(one: Sum) -> dict[str, int]:
    return {"tensors": one.tensors, "parameters": one.parameters, "bytes": one.nbytes}


def _shortened(value: Any) -> Any:
    """A vocabulary of 150,000 words is only counted."""
    if isinstance(value, (list, np.ndarray)) and len(value) > 16:
        return {"length": len(value), "first": list(value[:4])}
    return value


def _print_info(
    checkpoint: Checkpoint, chosen: list[TensorInfo], args: argparse.Namespace
) -> None:
    kinds = summed(chosen, lambda one: one.kind)
    total = _total(kinds)
    files = checkpoint.catalog.files()
    layers = len({_layer_key(one) for one in chosen if one.layer is not None})
    of_all = "" if len(chosen) == len(checkpoint) else f" of {len(checkpoint):,}"
    size = format_size(sum(one["size"] for one in files))
    print(shown(args.source))
    lines = {
        "format": checkpoint.format,
        "files": f"{len(files)}, {size}",
        "tensors": f"{total.tensors:,}{of_all}",
        "parameters": f"{total.parameters:,} in {format_size(total.nbytes)}",
        "layers": str(layers),
    }
    print(facts(lines.items()))
    if chosen:
        print(f"\n{_sum_table('kind', kinds, total)}")
        print(f"\n{_sum_table('dtype', summed(chosen, lambda one: one.dtype), total)}")
    if args.by_layer and layers:
        print(f"\n{_sum_table('layer', _layer_sums(chosen), total)}")
    if args.tensors and chosen:
        print(f"\n{_tensor_table(chosen)}")
    if checkpoint.metadata:
        print("\nmetadata")
        for name, value in checkpoint.metadata.items():
            print(f"  {shown(name)} = {_metadata_text(value, full=args.metadata)}")


def _sum_table(name: str, sums: dict[str, Sum], total: Sum) -> str:
    rows = [
        (
            shown(key),
            f"{one.tensors:,}",
            f"{one.parameters:,}",
            format_size(one.nbytes),
            f"{one.nbytes / total.nbytes:.1%}" if total.nbytes else "-",
        )
        for key, one in sums.items()
    ]
    return table((name, "tensors", "parameters", "size", "share"), rows)


def _tensor_table(tensors: Iterable[TensorInfo]) -> str:
    rows = [
        (
            shown(one.name),
            one.dtype,
            " ".join((one.kind, *one.marks)),
            "-" if one.layer is None else str(one.layer),
            "x".join(map(str, one.shape)) or "scalar",
            format_size(one.nbytes),
        )
        for one in tensors
    ]
    return table(("name", "dtype", "kind", "layer", "shape", "size"), rows, left=3)


def _metadata_text(value: Any, *, full: bool) -> str:
    if isinstance(value, (list, np.ndarray)):
        listed = list(value if full else value[:4])
        text = ", ".join(repr(one) if isinstance(one, str) else str(one) for one in listed)
        more = f", ... {len(value):,} in all" if len(value) > len(listed) else ""
        return f"[{shown(text)}{more}]"
    text = shown(str(value))
    return text if full or len(text) <= 72 else f"{text[:60]}... {len(text):,} characters"


# -- stream ----------------------------------------------------------------------------------


class _Terminated(KeyboardInterrupt):
    """SIGTERM: stop as at Ctrl-C."""


def _terminate(*_: Any) -> NoReturn:
    raise _Terminated


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Inside, SIGTERM stops in order; only the main thread may arrange that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_stream(args: argparse.Namespace) -> int:
    resume = _read_state(args.resume) if args.resume else None
    rss_before = _core.resident()[0]
    with (
        _terminable(),
        Checkpoint(args.source) as checkpoint,
        checkpoint.stream(
            **_streaming(args),
            checksum=args.checksum,
            progress=_progress(args),
            resume=resume,
        ) as stream,
    ):
        with _state_kept(stream, args.state):
            kinds = _consume(checkpoint, stream)
        found = _stream_object(stream, kinds, rss_before)
        if args.checksum:
            found["checksums"] = stream.checksums
    if args.json:
        print_json(found)
    else:
        _print_stream(found, args)
    return OK


def _read_state(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        try:
            state = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is no state of a stream: {error}") from None
    if not isinstance(state, dict) or not {"files", "selection", "item"} <= state.keys():
        raise ValueError(f"{path} is no state of a stream")
    return state


@contextlib.contextmanager
def _state_kept(stream: Stream, path: str | None) -> Iterator[None]:
    """When what is inside stops early, write where it was."""
    try:
        yield
    except BaseException:
        if path is not None:
            _write_whole(path, json.dumps(stream.state()))
            done = stream.progress.fraction
            print(
                f"tensorstream: stopped at {done:.1%}; go on with --resume {shown(path)}",
                file=sys.stderr,
            )
        raise


def _write_whole(path: str, text: str) -> None:
    """A file that is all there or not at all."""
    folder, name = os.path.split(os.path.abspath(path))
    handle, part = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def _consume(checkpoint: Checkpoint, stream: Stream) -> dict[str, Sum]:
    """Let all chunks come past; what came, by kind."""
    catalog = checkpoint.catalog
    sums: dict[str, Sum] = {}
    row, kind = -1, ""
    for chunk in stream:
        if chunk.row != row:
            row = chunk.row
            kind = catalog.role(row)[0]
        tensors, parameters, nbytes = sums.get(kind, (0, 0, 0))
        sums[kind] = Sum(
            tensors + chunk.is_last,
            parameters + chunk.stop - chunk.start,
            nbytes + chunk.nbytes,
        )
    return dict(sorted(sums.items(), key=lambda item: -item[1].nbytes))


def _stream_object(stream: Stream, kinds: dict[str, Sum], rss_before: int) -> dict[str, Any]:
    now = stream.progress
    total = _total(kinds)
    return {
        "bytes": now.bytes,
        "delivered_bytes": total.nbytes,
        "parameters": now.parameters,
        "tensors": now.tensors,
        "layers": now.layers,
        "chunks": now.chunks,
        "seconds": now.seconds,
        "bytes_per_second": now.bytes / now.seconds if now.seconds > 0 else None,
        "memory_peak": now.memory_peak,
        "rss_peak": now.rss_peak,
        "rss_extra": max(now.rss_peak - rss_before, 0),
        "engine": stream.engine,
        "kinds": {key: _sum_object(one) for key, one in kinds.items()},
    }


def _print_stream(found: dict[str, Any], args: argparse.Namespace) -> None:
    print(shown(args.source))
    nbytes, seconds = found["bytes"], found["seconds"]
    peak, budget = format_size(found["memory_peak"]), format_size(parse_size(args.budget))
    rss, extra = format_size(found["rss_peak"]), format_size(found["rss_extra"])
    tensors, layers = plural(found["tensors"], "tensor"), plural(found["layers"], "layer")
    size, chunks = format_size(found["delivered_bytes"]), plural(found["chunks"], "chunk")
    lines = {
        "read": f"{format_size(nbytes)} in {seconds:.2f} s, {rate_text(nbytes, seconds)}",
        "delivered": f"{size} in {chunks}",
        "holding": f"{tensors}, {layers}, {found['parameters']:,} parameters",
        "memory": f"{peak} at most, of a budget of {budget}",
        "process": f"{rss} at most, {extra} more than before",
        "engine": found["engine"],
    }
    print(facts(lines.items()))
    sums = {
        key: Sum(one["tensors"], one["parameters"], one["bytes"])
        for key, one in found["kinds"].items()
    }
    if sums:
        print(f"\n{_sum_table('kind', sums, _total(sums))}")
    if "checksums" in found:
        rows = [(shown(name), value) for name, value in found["checksums"].items()]
        print(f"\n{table(('name', args.checksum), rows)}")


# -- stats, verify, plan -----------------------------------------------------------------------


def run_stats(args: argparse.Namespace) -> int:
    with Checkpoint(args.source) as checkpoint:
        found = checkpoint.stats(
            **_filters(args), budget=args.budget, threads=args.threads,
            engine=args.engine, progress=_progress(args),
        )  # fmt: skip
    bad = {name: one for name, one in found.items() if one.nan_count}
    listed = bad if args.nan_only else found
    if args.json:
        print_json(
            {
                "source": args.source,
                "tensors": len(found),
                "tensors_with_nan": len(bad),
                "stats": {name: dataclasses.asdict(one) for name, one in listed.items()},
            }
        )
    else:
        _print_stats(listed)
        print(f"{plural(len(found), 'tensor')}, {len(bad):,} with NaNs")
    return PROBLEMS if args.fail_on_nan and bad else OK


def _print_stats(found: dict[str, TensorStats]) -> None:
    if not found:
        return
    heads = ("name", "count", "min", "max", "mean", "absmax", "NaN", "Inf")
    rows = [
        (
            shown(name),
            f"{one.count:,}",
            *map(number, (one.min, one.max, one.mean, one.absmax)),
            f"{one.nan_count:,}",
            f"{one.inf_count:,}",
        )
        for name, one in found.items()
    ]
    print(f"{table(heads, rows)}\n")


def run_verify(args: argparse.Namespace) -> int:
    try:
        with Checkpoint(args.source) as checkpoint:
            found = checkpoint.verify(progress=_progress(args), threads=args.threads)
            count = len(checkpoint)
    except (_core.FormatError, _core.ChangedError) as error:
        return _print_verification(args, [str(error)], {"tensors": None})
    details = {
        "tensors": count,
        "checked": found.checked,
        "unchecked": found.unchecked,
        "bytes": found.nbytes,
    }
    return _print_verification(args, found.problems, details)


def _print_verification(
    args: argparse.Namespace, problems: list[str], details: dict[str, Any]
) -> int:
    if args.json:
        found = {"source": args.source, "ok": not problems, "problems": problems, **details}
        print_json(found)
    elif problems:
        for problem in problems:
            print(shown(problem))
    else:
        sums, size = plural(details["checked"], "checksum"), format_size(details["bytes"])
        checked = f"{sums} compared over {size}"
        if not details["checked"]:
            checked = "its format carries no checksums of the values"
        tensors = plural(details["tensors"], "tensor")
        print(f"{shown(args.source)}: sound; {tensors}, {checked}")
    return PROBLEMS if problems else OK


def run_plan(args: argparse.Namespace) -> int:
    with Checkpoint(args.source) as checkpoint:
        plan = checkpoint.plan(**_streaming(args))
        if args.json:
            found = {"source": args.source, **plan._asdict()}
            if not args.tensors:
                del found["names"]
            print_json(found)
            return OK
        print(shown(args.source))
        print(plan)
        if args.tensors and plan.names:
            print(f"\n{_tensor_table(checkpoint[name] for name in plan.names)}")
    return OK


# -- convert, registry -------------------------------------------------------------------------


def run_convert(args: argparse.Namespace) -> int:
    record: Any = False if args.no_registry else args.registry or True
    with Checkpoint(args.source) as checkpoint:
        done = convert(
            checkpoint, args.target, **_filters(args), format=args.format, dtype=args.dtype,
            quantize=_quantize_rules(args.quantize), compression=args.compression,
            shard_size=args.shard_size, metadata=dict(args.metadata or ()), budget=args.budget,
            threads=args.threads, engine=args.engine, base=args.base, progress=_progress(args),
            record=record,
        )  # fmt: skip
    if args.json:
        found = {**done._asdict(), "path": os.fspath(done.path)}
        print_json({"source": args.source, **found, "ratio": done.ratio, "rate": done.rate})
    else:
        _print_conversion(done, args)
    return OK


def _print_conversion(done: Conversion, args: argparse.Namespace) -> None:
    size, seconds = format_size(done.bytes_in), done.seconds
    rate = rate_text(done.bytes_in, seconds)
    kinds = ", ".join(f"{count} {dtype}" for dtype, count in done.dtypes.items())
    lines = {
        "read": f"{size} in {seconds:.2f} s, {rate}",
        "wrote": f"{shown(os.fspath(done.path))}, {format_size(done.bytes_out)} "
        f"({done.ratio:.1%})",
        "holding": f"{plural(done.tensors, 'tensor')}, {done.parameters:,} parameters: {kinds}",
        "digest": done.digest,
    }
    if args.base is not None:
        lines["over"] = f"{shown(args.base)}: {plural(done.differences, 'tensor')} differ"
    print(shown(args.source))
    print(facts(lines.items()))


def run_salvage(args: argparse.Namespace) -> int:
    done = salvage(
        args.source, args.target, fill=args.fill, compression=args.compression,
        budget=args.budget, threads=args.threads,
    )  # fmt: skip
    found = {
        "source": args.source, **done._asdict(), "path": os.fspath(done.path),
        "losses": [loss._asdict() for loss in done.losses],
    }  # fmt: skip
    if args.report is not None:
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
        _core.write_file(args.report, text.encode())
    if args.json:
        print_json(found)
    else:
        _print_salvage(done, args)
    return PROBLEMS if done.losses else OK


def _print_salvage(done: Salvage, args: argparse.Namespace) -> None:
    for loss in done.losses:
        end = loss.first + loss.elements
        where = "all of it" if loss.elements == end == math.prod(loss.shape) else (
            f"elements {loss.first:,} to {end:,} of {math.prod(loss.shape):,}"
        )  # fmt: skip
        print(f"{shown(loss.name)}: {where}: {shown(loss.reason)}")
    dropped = f", {len(done.dropped):,} left out" if done.dropped else ""
    print(
        f"{shown(os.fspath(done.path))}: {done.sound:,} of {plural(done.tensors, 'tensor')} "
        f"sound, {done.partial:,} in part{dropped}; {done.elements_lost:,} of "
        f"{done.elements:,} elements are lost"
    )


def run_registry(args: argparse.Namespace) -> int:
    entries = registry.read(args.path)
    totals = registry.statistics(entries)
    if args.json:
        print_json({"entries": [dataclasses.asdict(one) for one in entries], "totals": totals})
        return OK
    if entries:
        heads = ("time", "source", "target", "encoder", "in", "out", "rate")
        rows = [
            (
                one.time,
                shown(os.path.basename(one.source)),
                shown(os.path.basename(one.target)),
                shown(one.encoder),
                format_size(one.bytes_in),
                f"{one.ratio:.1%}",
                f"{one.rate / 1e9:.2f} GB/s",
            )
            for one in entries
        ]
        print(f"{table(heads, rows)}\n")
    size = format_size(totals["bytes_in"])
    print(f"{plural(len(entries), 'checkpoint')} encoded, {size} into {totals['ratio']:.1%}")
    return OK
