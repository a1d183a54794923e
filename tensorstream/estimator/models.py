"""What people have in hand becomes a model: a name, a config, a checkpoint, a module."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from tensorstream import _core, checkpoint
from tensorstream.estimator import architectures, names


class Model:
    """The numbers of an architecture, and the config they came from.

    Args:
        name: for tables and messages.
        config: a Hugging Face config, as a dict.

    Raises:
        ValueError: the config lacks a field, or its model type is unknown.
    """

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self.name = name
        self.config = dict(config)
        self.numbers = architectures.numbers(self.config)

    @classmethod
    def from_numbers(cls, name: str, numbers: Mapping[str, Any]) -> Model:
        """A model of which the core's numbers are known: no config stands behind it."""
        made = cls.__new__(cls)
        made.name, made.config, made.numbers = name, {}, dict(numbers)
        return made

    @property
    def parameters(self) -> int:
        """All of them: experts that a token does not visit, too."""
        return _core.model_parameters(self.numbers, {})[0]

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.parameters / 1e9:.2f} B parameters)"


@functools.cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Configs of the usual public models, by their Hub id."""
    text = (
        resources.files("tensorstream.estimator").joinpath("catalogue.json").read_text("utf-8")
    )
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found


@functools.cache
def _short_names() -> dict[str, str]:
    """Every spelling that leads to one catalogue name: the id, its tail, both lower case."""
    spellings: dict[str, str] = {}
    for full, config in catalogue().items():
        for alias in (full, full.rpartition("/")[2], *config.get("aliases", ())):
            spellings.setdefault(alias.lower(), full)
    return spellings


# What names add to a model without changing its numbers: tuning, date, number format.
_SUFFIX = re.compile(
    r"[-_. ](instruct|chat|base|hf|it|pt|thinking|pretrained|reranker|embedding|fp8|fp16|bf16"
    r"|awq|gptq|int4|int8|4bit|8bit|bit|bnb|gguf|quantized|dynamic|\d{4}|v\d+(\.\d+)*"
    r"|[qw][248](a(8|16))?([-_][k0-9][-_a-z0-9]*)?|nf4|mxfp4|nvfp4|mlx|unsloth|sft|dpo|rlhf)$"
)
# Words that say that a name is of another architecture than the known name within it.
_OTHER = frozenset((
    "vl", "vision", "visual", "omni", "audio", "speech", "tts", "asr", "ocr", "clip", "embed",
    "moe", "mamba", "distill", "distilled", "draft", "drafter", "eagle", "eagle3", "medusa",
    "mtp", "minitron", "pruned", "reward", "classifier",
))  # fmt: skip
_SIZE = re.compile(r"(\d+x)?\d+(\.\d+)?[bm]|a\d+(\.\d+)?b")


def _readings(name: str) -> Iterator[str]:
    """A name, its last part, and both without what does not change the numbers."""
    word = name.lower().strip()
    while True:
        yield word
        yield word.rpartition("/")[2]
        shorter = _SUFFIX.sub("", word)
        if shorter == word:
            return
        word = shorter


def _squeezed(word: str) -> tuple[str, str]:
    """A name's last part without what people put between its words.

    A line between two digits is a point in ``Qwen-1_8B`` and nothing in ``llama3_8b``.
    """
    tail = re.sub(r"^meta[-_ ]", "", word.rpartition("/")[2])
    pointed = re.sub(r"(?<=\d)_(?=\d)", ".", tail)
    return re.sub(r"[-_ ]", "", pointed), re.sub(r"[-_ ]", "", tail)


@functools.cache
def _squeezed_names() -> dict[str, str]:
    return {_squeezed(word)[0]: full for word, full in _short_names().items()}


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[-_ ]", name.lower().rpartition("/")[2]) if word]


def _within(name: str) -> str | None:
    """The longest known name that stands in a longer one, as a fine-tune's does.

    None where a further size, or a word such as "vision", says that it is another model.
    """
    words, best, most = _words(name), None, 1
    for word, full in _short_names().items():
        known = _words(word)
        if len(known) <= most or not any(_SIZE.fullmatch(part) for part in known):
            continue
        for at in range(len(words) - len(known) + 1):
            rest = words[:at] + words[at + len(known) :]
            other = any(part in _OTHER or _SIZE.fullmatch(part) for part in rest)
            if words[at : at + len(known)] == known and not other:
                best, most = full, len(known)
    return best


def known(name: str) -> Model:
    """A model of the catalogue, by its Hub id or the part after the slash, in any case.

    What says nothing of the numbers may stand behind it or around it, as in names of
    fine-tunes and quantised copies; the model's own name is then that of the catalogue.

    Raises:
        ValueError: not in the catalogue; the sentence names the near one.
    """
    spellings, squeezed = _short_names(), _squeezed_names()
    full = next((spellings[word] for word in _readings(name) if word in spellings), None)
    for word in _readings(name):
        pointed, plain = _squeezed(word)
        full = full or squeezed.get(pointed) or squeezed.get(plain)
    full = full or _within(name)
    if full is None:
        raise ValueError(
            f"no model is known as {name!r}.{names.near(name, spellings)} "
            "Give a config.json, a folder that holds one, or a dict"
        )
    config = {key: value for key, value in catalogue()[full].items() if key != "aliases"}
    return Model(full, config)


def model(source: Any) -> Model:
    """A model from what people have in hand.

    Args:
        source: a known name, a config.json or its folder, a dict, a checkpoint or the path of
            its file, a live torch module (also one on the meta device), a Model.

    Raises:
        ValueError: a name, model type or file that is not known; the sentence says what is.
        TypeError: none of these.
    """
    if isinstance(source, Model):
        return source
    if isinstance(source, Mapping):
        return Model(str(source.get("_name_or_path") or source.get("model_type")), source)
    if isinstance(source, (str, os.PathLike)):
        path = pathlib.Path(source)
        if path.is_dir():
            path = path / "config.json"
        if path.suffix == ".json" and path.is_file():
            return Model(path.parent.name, json.loads(path.read_text("utf-8")))
        if not path.is_file():
            return known(os.fspath(source))
        source = checkpoint.Checkpoint(path)
    from tensorstream.estimator import files, modules

    if isinstance(source, checkpoint.Checkpoint):
        return files.model_of(source)

    if modules.is_module(source):
        return modules.model_of(source)
    raise TypeError(
        "a model is a name, a path, a dict, a checkpoint, a live module or a Model, not "
        f"{source!r}"
    )
