"""Pictures to patches and tokens, as transformers' processors count them."""

from __future__ import annotations

import importlib
import random
import types
from typing import Any

import pytest
from conftest import oracle

import tensorstream as ts
from tensorstream.estimator import images, models
from tensorstream.estimator.images import Asked

PICK = random.Random("pictures")
SIZES = [
    (1, 1),
    (30, 30),
    (448, 448),
    (336, 1000),
    (1080, 1920),
    (2000, 11),
    (1, 190),
    (364, 364),
]
SIZES += [(PICK.randint(20, 4000), PICK.randint(20, 4000)) for _ in range(60)]


def module(name: str) -> types.ModuleType:
    oracle("transformers")
    try:
        return importlib.import_module(f"transformers.{name}")
    except ImportError as error:
        pytest.skip(str(error))


def vlm(kind: str, **vision: Any) -> dict[str, Any]:
    return {"model_type": kind, "vision_config": vision or {"patch_size": 14}}


@pytest.mark.parametrize("factor", [28, 32])
def test_smart_resize(factor: int) -> None:
    theirs = module("models.qwen2_vl.image_processing_pil_qwen2_vl").smart_resize
    for height, width in SIZES:
        for least, most in (
            (56 * 56, 14 * 14 * 4 * 1280),
            (65536, 16777216),
            (4, 256 * 28 * 28),
        ):
            if min(height, width) < factor:
                continue  # older ones divide by what they rounded to nothing
            args = (height, width, factor, least, most)
            assert images.smart_resize(*args) == theirs(*args), args


def test_patches_that_the_qwen_processor_makes() -> None:
    theirs = module("models.qwen2_vl.image_processing_pil_qwen2_vl").Qwen2VLImageProcessorPil()
    for height, width in SIZES:
        if max(height, width) > 200 * min(height, width) or min(height, width) < 28:
            continue
        ours = images.seen(
            vlm("qwen2_vl", patch_size=14), Asked(height, width, max_pixels=1003520)
        )
        assert ours is not None
        assert ours.patches == theirs.get_number_of_image_patches(height, width)
        assert ours.tokens == ours.patches // 4


def test_tiles_of_internvl() -> None:
    theirs = module("models.got_ocr2.image_processing_pil_got_ocr2").get_optimal_tiled_canvas
    for height, width in SIZES:
        for most in (1, 4, 6, 12):
            columns, rows = theirs((height, width), (448, 448), 1, most)
            assert images.tiles(height, width, 448, 1, most) == (rows, columns)


@pytest.mark.parametrize(("kind", "side"), [("llava_next", 336), ("llava_onevision", 384)])
def test_tokens_of_pictures_in_tiles(kind: str, side: int) -> None:
    name = {"llava_next": "LlavaNext", "llava_onevision": "LlavaOnevision"}[kind]
    cls = getattr(module(f"models.{kind}.processing_{kind}"), name + "Processor")
    rows = side // 14
    grids = images._NEXT if kind == "llava_next" else images._ONEVISION
    fake = types.SimpleNamespace(
        image_processor=types.SimpleNamespace(image_grid_pinpoints=grids),
        patch_size=14, num_additional_image_tokens=1, num_image_tokens=rows * rows,
        vision_aspect_ratio="anyres_max_9",
    )  # fmt: skip
    fake._get_unpadded_features = types.MethodType(cls._get_unpadded_features, fake)
    for height, width in SIZES:
        ours = images.seen(vlm(kind, image_size=side, patch_size=14), Asked(height, width))
        want = cls._get_number_of_features(fake, height, width, side, side)
        assert ours is not None
        assert ours.tokens == want - int(kind == "llava_next"), (height, width)


def test_tiles_of_idefics3() -> None:
    made = module("models.idefics3.image_processing_pil_idefics3")
    theirs = made.Idefics3ImageProcessorPil()
    for height, width in SIZES:
        count, _, _ = theirs.get_number_of_image_patches(height, width)
        ours = images.seen(vlm("idefics3", image_size=364, patch_size=14), Asked(height, width))
        assert ours is not None and ours.sequences == max(1, count), (height, width)
        assert (ours.patches, ours.tokens) == (676, 169 * ours.sequences)


def test_sides_of_pixtral() -> None:
    import numpy as np

    resize = module("models.pixtral.image_processing_pil_pixtral").get_resize_output_image_size
    config = vlm("mistral3", model_type="pixtral", image_size=1540, patch_size=14)
    for height, width in SIZES:
        if min(height, width) < 4:
            continue  # taken for channels
        picture = np.empty((height, width, 3), bool)
        high, wide = resize(picture, size=(1540, 1540), patch_size=(28, 28))
        ours = images.seen(config, Asked(height, width))
        assert ours is not None, (height, width)
        assert ours.tokens == (high // 28) * (wide // 28 + 1)
        assert ours.patches == (high // 14) * (wide // 14)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("llava-hf/llava-1.5-7b-hf", (1, 577, 576)),
        ("Qwen/Qwen-VL-Chat", (1, 1024, 256)),
        ("Qwen/Qwen2-VL-7B", (1, 1024, 256)),
        ("Qwen/Qwen3-VL-8B", (1, 784, 196)),
    ],
)
def test_a_square_of_448(name: str, want: tuple[int, int, int]) -> None:
    assert images.seen(models.known(name).config, Asked(448, 448)) == want


def test_videos_are_frames_two_by_two() -> None:
    config = models.known("Qwen/Qwen2.5-VL-7B").config
    still, film = (images.seen(config, Asked(448, 448, frames)) for frames in (0, 15))
    assert still is not None and film is not None
    assert film == (8, still.patches, 8 * still.tokens)


def test_what_cannot_be_seen_is_refused() -> None:
    with pytest.raises(ValueError, match="200 times"):
        images.smart_resize(1, 201, 28, 4, 1 << 20)
    with pytest.raises(ValueError, match="0 x 448 pixels"):
        images.seen(vlm("llava"), Asked(448, 0))
    with pytest.raises(ValueError, match="1024 image tokens do not fit seq_len 512"):
        ts.estimate("Qwen/Qwen2-VL-2B", seq_len=512, vision={"images": 4})
    assert images.seen({"model_type": "llama"}, Asked(448, 448)) is None


# ---- what they take ----


def vision_bytes(**vision: Any) -> int:
    found = ts.estimate("Qwen/Qwen2.5-VL-3B", seq_len=4096, recompute="full", vision=vision)
    return sum(line.bytes for line in found.ledgers[0].lines if line.component == "vision")


def test_every_option_of_images_matters() -> None:
    base = vision_bytes()
    for change in (
        {"images": 2}, {"image_size": 896}, {"height": 896}, {"width": 896}, {"frames": 8},
        {"max_pixels": 50176}, {"min_pixels": 401408}, {"train": False}, {"recompute": True},
        {"enabled": False},
    ):  # fmt: skip
        assert vision_bytes(**change) != base, change
    frozen = vision_bytes(train=False)
    assert frozen < base
    assert vision_bytes(train=False, train_projector=False) < frozen


def test_added_tokens_come_on_top() -> None:
    def seq(**vision: Any) -> int:
        found = ts.estimate("Qwen/Qwen2-VL-2B", seq_len=1000, vision=vision)
        return int(found.run["seq"])

    assert (seq(), seq(added=True), seq(added=True, images=3)) == (1000, 1256, 1768)


def test_a_tower_that_trains_runs_backward_after_the_decoder() -> None:
    trained, frozen = (
        ts.estimate("Qwen/Qwen2-VL-2B", vision={"train": train}).ledgers[0]
        for train in (True, False)
    )
    assert "backward: in the vision tower" in trained.used
    assert "backward: in the vision tower" not in frozen.used
    assert "forward: in the vision tower" in frozen.used
    states = [
        ledger.components("between steps")["optimizer_state"] for ledger in (trained, frozen)
    ]
    assert states[0] > states[1]
    for ledger in (trained, frozen):  # whatever runs, the weights are there
        for instant in ledger.used:
            assert ledger.components(instant)["weights"] >= ledger.components("load")["weights"]


def test_adapters_leave_the_tower_alone_unless_told() -> None:
    def adapters(*words: str) -> int:
        lora = {"rank": 8, "target_modules": words}
        found = ts.estimate("Qwen/Qwen2-VL-2B", lora=lora, vision=True).ledgers[0]
        return found.components("load")["adapters"]

    assert adapters("all-linear", "vision") > adapters("all-linear")
