"""The page of ``tensorstream ui``: its drawing, what stands behind it, and all of it in a real
browser."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from conftest import oracle

from tensorstream import cli
from tensorstream.estimator import core, drawing, estimate, fitting, gpus, load_config, models
from tensorstream.estimator.config import EstimatorConfig
from tensorstream.ui import form, page

GIB = 1 << 30
WHITE, NIGHT = "#ffffff", "#0b0f19"  # paper of the light and of the dark theme
TINY = {
    "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 2, "intermediate_size": 1376, "vocab_size": 32000,
}  # fmt: skip

# -- the drawing -----------------------------------------------------------------------------


def drawn(svg: str) -> ElementTree.Element:
    """The picture as a tree: it is well-formed XML."""
    return ElementTree.fromstring(svg)


def marks(svg: str, tag: str) -> list[ElementTree.Element]:
    return list(drawn(svg).iter("{http://www.w3.org/2000/svg}" + tag))


def words(svg: str) -> list[str]:
    return ["".join(one.itertext()) for one in marks(svg, "text")]


def test_every_component_has_a_colour_of_its_own_that_can_be_seen_and_read() -> None:
    assert set(drawing.FILLS) == set(core.components())
    assert len(set(drawing.FILLS.values())) == len(drawing.FILLS)
    for colour in drawing.FILLS.values():
        # 3 is what WCAG 2.1 asks of graphics, 4.5 of small text.
        assert drawing.contrast(colour, WHITE) >= 3 <= drawing.contrast(colour, NIGHT)
        assert drawing.contrast(colour, drawing.ink(colour)) >= 4.4
    assert drawing.contrast("#000000", "#ffffff") == pytest.approx(21)


def test_bars_are_as_long_as_their_bytes() -> None:
    parts = {"weights": 6 * GIB, "gradients": 3 * GIB, "logits": GIB}
    svg = drawing.breakdown([drawing.Row("a step", parts, peak=True)])
    wide = [float(r.get("width", 0)) + 1 for r in marks(svg, "rect") if len(r)]
    assert [w / sum(wide) for w in wide] == pytest.approx([0.6, 0.3, 0.1], abs=1e-3)
    titles = ["".join(t.itertext()) for t in marks(svg, "title")]
    assert titles == ["weights: 6.00 GiB", "gradients: 3.00 GiB", "logits: 1.00 GiB"]


def test_the_memory_is_a_line_where_its_bytes_are() -> None:
    row = drawing.Row("a step", {"weights": 30 * GIB}, peak=True)
    svg = drawing.breakdown([row], (29 * GIB, 33 * GIB), drawing.Room("A100", 20 * GIB))
    lines = [one for one in marks(svg, "line") if one.get("stroke-width") == "2"]
    (bar,) = (r for r in marks(svg, "rect") if len(r))
    left, width = float(bar.get("x", 0)), float(bar.get("width", 0)) + 1
    assert float(lines[0].get("x1", 0)) == pytest.approx(left + width * 20 / 30, abs=0.1)
    assert "A100, 20.0 GiB" in words(svg) and "90 % interval 29.0 to 33.0 GiB" in words(svg)
    far = drawing.breakdown([row], None, drawing.Room("A100", 2000 * GIB))
    assert "A100, 2,000 GiB: far beyond →" in words(far)


def test_the_drawing_speaks_and_takes_the_colour_of_the_page() -> None:
    svg = drawing.breakdown(
        [drawing.Row("a <step>", {"kv_cache": GIB, "made_up": GIB}, True)], title='of "x"'
    )
    root = drawn(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == (
        'of "x": 2.00 GiB at the peak, a <step>: KV cache 1.00 GiB, made up 1.00 GiB.'
    )
    assert root.get("fill") == "currentColor" and "http" not in svg.replace(
        'xmlns="http://www.w3.org/2000/svg"', ""
    )


def test_nothing_and_odd_sizes_are_drawn_too() -> None:
    for size in (0, 1, -5, 1 << 61):
        assert drawn(drawing.breakdown([drawing.Row("", {"other": size}, True)])) is not None
    assert drawn(drawing.breakdown([drawing.Row("empty", {})])) is not None


def test_ticks_are_round_and_few() -> None:
    assert drawing.ticks(0) == [0.0]
    assert drawing.ticks(120) == [0, 20, 40, 60, 80, 100, 120]
    rng = random.Random(7)
    for _ in range(300):
        end = 10 ** rng.uniform(-9, 9)
        found = drawing.ticks(end)
        assert 2 <= len(found) <= 9 and found[0] == 0 and found[-1] <= end * (1 + 1e-9)


def test_sizes_are_told_in_gib() -> None:
    told = {0: "0.00", 1: "≈0", GIB // 2: "0.50", 10 * GIB: "10.0", 6048 * GIB: "6,048"}
    assert {size: drawing.gib(size) for size in told} == told


def test_an_estimate_draws_every_instant() -> None:
    found = estimate(TINY, seq_len=512)
    said = words(found.draw("L4"))
    assert all(instant in said for instant in found.worst.used)
    assert any(one.startswith("L4, 22.0 GiB") for one in said)
    assert found.draw() in found._repr_html_()


# -- the form --------------------------------------------------------------------------------


def test_an_untouched_form_says_the_model_and_the_gpu_only() -> None:
    assert form.config({"model": "gpt2"}) == {
        "model": "openai-community/gpt2", "gpu": "A100-80GB",
    }  # fmt: skip


def another(control: form.Control) -> Any:
    """An answer that is not the control's default."""
    if control.kind == "switch":
        return True
    if control.kind == "choices":
        return ["attention"]
    if control.kind == "count":
        return control.default + 1
    return next(w for w in control.choices if w not in ("", str(control.default)))


@pytest.mark.parametrize("control", form.CONTROLS, ids=lambda c: c.field)
def test_every_control_reaches_its_field(control: form.Control) -> None:
    mode = control.modes[0]
    given = another(control)
    answers = {
        "model": "gpt2", "mode": mode, "adapters": "QLoRA" if "lora." in control.field else
        "all weights", "vision.images": 1, control.field: given,
    }  # fmt: skip
    made: Any = form.config(answers)
    section, _, field = control.field.rpartition(".")
    value = (made[section] if section else made)[field]
    assert value != control.default
    assert str(value) == {"yes": "True"}.get(str(given), str(given))
    for mode in set(form.MODES) - set(control.modes):  # there it has no meaning
        made = form.config({**answers, "mode": mode})
        inside = made.get(section, {}) if section else made
        assert inside is True or field not in inside


def test_the_form_covers_what_people_set() -> None:
    """A field of the config stands in the form, or here with the reason."""
    elsewhere = {
        "model", "mode", "profile",  # inputs of their own
        "is_seq2seq", "source_seq", "vocab_size_override", "use_kv_cache", "optimizations",
        "overheads", "factors", "run", "constants",  # "any other field"
        "lora", "vision", "offload", "kv",  # sections, by their fields
        "probe", "registry",  # a page runs and registers nothing
    }  # fmt: skip
    fields = set(EstimatorConfig.__dataclass_fields__) - elsewhere
    assert fields == {one.field for one in form.CONTROLS if "." not in one.field}


def test_adapters_and_further_fields_are_merged() -> None:
    made = form.config({
        "model": "gpt2", "adapters": "QDoRA", "lora.rank": 32.0,
        "further": '{"lora": {"dropout": 0.1}, "optimizations": ["liger"], "seq_len": 77}',
    })  # fmt: skip
    assert made["lora"] == {"quantized": True, "dora": True, "rank": 32, "dropout": 0.1}
    assert made["optimizations"] == ["liger"] and made["seq_len"] == 77
    assert form.config({"model": "gpt2", "adapters": "LoRA"})["lora"] is True


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"model": ""}, "model is empty"),
        ({"model": "qwen2.5-9b"}, "Did you mean"),
        ({"model": "/etc/passwd"}, "no model is known as"),
        ({"model": "gpt2", "seq_len": None}, "seq_len is empty: a whole number is wanted"),
        ({"model": "gpt2", "tp": 2.5}, "tp is 2.5, not a whole number"),
        ({"model": "gpt2", "mode": "dream"}, "mode is 'dream'"),
        ({"model": "gpt2", "adapters": "Lora"}, "adapters is 'Lora'. Known: all weights, LoRA"),
        ({"model": "gpt2", "adapters": "LoRA", "lora.target_modules": []}, "name at least one"),
        ({"source": form.PASTED}, "config.json is empty"),
        ({"source": form.PASTED, "pasted": "{\n\n1"}, "config.json, line 3"),
        ({"source": form.PASTED, "pasted": "[]"}, "an object in braces"),
        ({"source": form.PASTED, "pasted": "[" * 100_000}, "nested too deeply"),
        ({"source": form.PASTED, "pasted": " " * (form.MOST_TEXT) + "{}"}, "more than"),
        ({"model": "gpt2", "further": '{"model": "x"}'}, "'model' cannot be given here"),
        ({"model": "gpt2", "further": '{"registry": {}}'}, "'registry' cannot be given here"),
    ],
)
def test_what_cannot_be_is_named(answers: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        form.config(answers)


def test_frameworks_are_offered_for_what_they_do() -> None:
    assert form.profiles("train")[0] == "trainer" and "vllm" not in form.profiles("train")
    serve = form.profiles("generate")
    assert serve[0] == "transformers" and "vllm" in serve
    assert "deepspeed-autotp" in form.profiles("load")


class Answer(NamedTuple):
    """All that the page shows."""

    result: str
    config: str
    fits: str


def answer(asked: dict[str, Any]) -> Answer:
    return Answer(*page.takes(asked), page.fits(asked))


# -- the answers -----------------------------------------------------------------------------


def figure(html: str, counter: str) -> int:
    """Bytes of a counter, as the page has them."""
    found = re.search(rf'data-counter="{counter}" data-bytes="(\d+)"', html)
    assert found is not None
    return int(found[1])


ASKED: list[dict[str, Any]] = [
    {"model": "Qwen/Qwen2.5-7B"},
    {"model": "gpt2", "adapters": "LoRA", "gpu": "", "recompute": "full"},
    {"model": "meta-llama/Llama-3.1-70B", "profile": "megatron", "tp": 8, "pp": 4},
    {"model": "Qwen/Qwen2.5-7B", "mode": "generate", "profile": "vllm", "gpu": "H100-80GB"},
    {"model": "Qwen/Qwen2.5-VL-7B", "vision.images": 2, "adapters": "QLoRA", "gpu": "L4"},
    {"source": form.PASTED, "pasted": json.dumps(TINY), "mode": "load", "weight_format": "nf4"},
]


@pytest.mark.parametrize("asked", ASKED, ids=lambda a: a.get("model", "pasted"))
def test_the_page_has_the_numbers_of_the_estimator(
    asked: dict[str, Any], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    got = answer(asked)
    assert "ts-problem" not in got.result
    file = tmp_path / "run.json"
    file.write_text(got.config)
    found = estimate(load_config(file))
    for name in core.COUNTERS:
        assert figure(got.result, name) == found.bytes(name)
        low, high = found.interval(name)
        assert f"90 %: {drawing.gib(low)} to {drawing.gib(high)} GiB" in got.result
    for name, size in found.components().items():
        assert f"</i>{drawing.spoken(name)}</td>" in got.result
        assert f">{size / GIB:,.3f}</td>" in got.result
    for sentence in (*found.advice(), *found.not_modelled):
        assert page._words(sentence) in got.result
    for line in found.worst.live(found.worst.peak_instant):
        assert page._words(line.formula.source) in got.result
    assert cli.main(["estimate", "--config", str(file), "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["peak_bytes"]["device"] == found.bytes()


def test_the_verdict_has_three_words() -> None:
    assert "<b>Fits</b> A100-80GB" in answer({"model": "gpt2"}).result
    assert "<b>Does not fit</b>" in answer({"model": "Qwen/Qwen2.5-7B"}).result
    found = estimate("Qwen/Qwen2.5-0.5B", gpu="T4")
    between = gpus.Gpu("between", found.bytes(), 0, 0)
    assert "<b>May not fit</b> between" in page._verdict(found, between)
    assert "smallest with room" in answer({"model": "gpt2", "gpu": ""}).result


def test_what_fits_is_what_fit_says() -> None:
    got = answer({"model": "Qwen/Qwen2.5-7B", "adapters": "LoRA", "gpu": "H100-80GB"})
    found = fitting.fit("Qwen/Qwen2.5-7B", lora=True, gpu="H100-80GB")
    assert f"<b>{found.batch:,}</b><small>sequences per GPU" in got.fits
    assert f"<b>{found.seq:,}</b><small>tokens" in got.fits
    assert found.gpus is not None and f"<b>{found.gpus.gpus}</b>" in got.fits
    assert got.fits.count("<tr>") == 2 + len(found.knobs) + len(found.pareto)
    for plan in found.pareto:
        assert f">{plan.tokens:,}</td>" in got.fits
    nothing = answer({"model": "gpt2", "gpu": ""})
    assert "gpu is empty" in nothing.fits and "ts-problem" not in nothing.result
    served = answer({"model": "Qwen/Qwen2.5-7B", "mode": "generate"}).fits
    assert "ZeRO" not in served and "Tokens per step" in served


def test_a_budget_is_of_the_gpu_that_is_named() -> None:
    asked = {"mode": "generate", "profile": "vllm"}
    found = estimate("Qwen/Qwen2.5-7B", gpu="H100-80GB", **asked)
    assert found.bytes() / gpus.gpu("H100-80GB").memory == pytest.approx(0.9, abs=0.02)
    assert fitting.fit("Qwen/Qwen2.5-7B", memory="80GiB", **asked).fits
    with pytest.raises(ValueError, match="needs device_bytes"):
        estimate("Qwen/Qwen2.5-7B", **asked)


def test_a_plan_is_told_in_usual_words() -> None:
    fields = {"tp": 2, "pp": 1, "dp": 4, "zero": 3, "batch": 1, "recompute": "full"}
    assert page.plan_words(fields) == "TP 2, DP 4, ZeRO 3, Batch 1, recompute"


def test_what_was_typed_is_never_markup() -> None:
    nasty = "<img src=x onerror=alert(1)>"
    answers = {"source": form.PASTED, "pasted": json.dumps({**TINY, "_name_or_path": nasty})}
    got = answer(answers)
    assert nasty not in got.result + got.fits and "&lt;img src=x" in got.result
    assert nasty not in answer({"model": nasty}).result


def test_errors_are_sentences_and_surprises_are_told_to_the_console(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    got = answer({"model": "Qwen/Qwen2.5-7B", "tp": 3})
    assert "tp 3 does not divide heads 28" in got.result and got.config == ""
    assert capsys.readouterr().err == ""

    def breaks(*_: Any) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(page, "estimate_html", breaks)
    assert "LookupError: a bug" in answer({"model": "gpt2"}).result
    assert "Traceback" in capsys.readouterr().err


def odd(rng: random.Random) -> Any:
    return rng.choice([0, -1, 1, 3, 10**9, 10**30, 2.5, 1e300, float("nan"), True, "", "x",
                       None, [], [1], {}, {"a": 1}])  # fmt: skip


def test_no_config_and_no_answer_is_a_surprise(capsys: pytest.CaptureFixture[str]) -> None:
    """Real configs with odd values, real names with odd answers: a result or a sentence."""
    rng = random.Random(20)
    known = models.catalogue()
    shown = 0
    for _ in range(150):
        config = dict(known[rng.choice(sorted(known))])
        for key in list(config):
            if rng.random() < 0.08:
                config[key] = odd(rng)
        mode = rng.choice(list(form.MODES))
        answers = {"source": form.PASTED, "pasted": json.dumps(config), "mode": mode}
        for control in form.CONTROLS:
            if rng.random() < 0.03:
                answers[control.field] = (
                    rng.choice([0, -1, 2, 3, 64, 2.5, None, 1e300])
                    if control.kind == "count"
                    else rng.choice(control.choices or [True, False])
                )
        answers["lora.target_modules"] = ["mlp"]
        answers["profile"] = rng.choice(form.profiles(mode))
        shown += "ts-problem" not in answer(answers).result
    assert shown > 30
    assert capsys.readouterr().err == ""


def test_what_no_model_has_is_no_crash() -> None:
    with pytest.raises(ValueError, match=r"vision.patch_size is 0, not a whole number above 0"):
        estimate(TINY, vision={"patch_size": 0})
    with pytest.raises(ValueError, match="has a field amiss"):
        estimate({**TINY, "hidden_size": [512]})
    # a model without a vocabulary has no logits to cut into pieces
    assert estimate({**TINY, "vocab_size": 0}, loss="liger").bytes() > 0


# -- the command -----------------------------------------------------------------------------


def test_without_gradio_the_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["ui", "--no-browser"]) == 2
    assert "pip install 'tensorstream[ui]'" in capsys.readouterr().err


def test_the_commands_help_names_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ui", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(one in text for one in ("--port", "--host", "--no-browser", "Ctrl-C"))


# -- a real browser --------------------------------------------------------------------------


def browser_path() -> str:
    """Chromium of the system; the test skips without one."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser",
                                                 "google-chrome"))), None)  # fmt: skip
    if found is None:
        if os.environ.get("TENSORSTREAM_REQUIRE_ORACLES") == "1":
            pytest.fail("there is no chromium (tools/system_packages.sh PYTHON browser)")
        pytest.skip("there is no chromium here")
    return found


@contextlib.contextmanager
def served(*words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The page in a process of its own, and its address."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tensorstream", "ui", "--no-browser", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    patience = threading.Timer(90, child.kill)
    patience.start()
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        address = re.search(r"http://\S+", line)
        assert address is not None, line + child.stdout.read()
        patience.cancel()
        yield address[0], child
    finally:
        patience.cancel()
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)
        child.kill()
        child.communicate()


@pytest.mark.filterwarnings("ignore")
def test_in_a_browser(tmp_path: pathlib.Path) -> None:
    """Choose, read, be told what is wrong, ask what fits; and nothing leaves this machine."""
    playwright = oracle("playwright.sync_api")
    oracle("gradio")
    chromium = browser_path()
    asked: list[str] = []
    said: list[str] = []
    with served("--port", "0") as (address, _), playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1440, "height": 1200})
        view.set_default_timeout(60_000)
        view.on("request", lambda request: asked.append(request.url))
        view.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        view.goto(address)

        def device() -> int:
            card = view.locator('#ts-result [data-counter="device"]')
            return int(card.get_attribute("data-bytes"))

        def until(counts: int) -> None:
            view.wait_for_selector(f'#ts-result [data-counter="device"][data-bytes="{counts}"]')

        def fill(field: str, text: str) -> None:
            view.locator(f"#ts-{field} input").fill(text)

        def choose(field: str, word: str) -> None:
            box = view.locator(f"#ts-{field} input")
            box.click()
            box.press("ControlOrMeta+a")
            box.press_sequentially(word)
            assert view.get_by_role("option").count() < 20  # it searches
            view.get_by_role("option", name=word, exact=True).click()

        name = "Qwen/Qwen2.5-7B"
        until(estimate(name, gpu="A100-80GB").bytes())
        assert view.locator("#ts-result svg[role=img]").is_visible()
        assert "Does not fit" in view.locator("#ts-result").inner_text()

        choose("model", "Qwen/Qwen2.5-0.5B")
        name = "Qwen/Qwen2.5-0.5B"
        until(estimate(name, gpu="A100-80GB").bytes())
        fill("per_device_batch", "8")
        until(estimate(name, gpu="A100-80GB", per_device_batch=8).bytes())
        choose("gpu", "L4")
        until(estimate(name, gpu="L4", per_device_batch=8).bytes())

        fill("per_device_batch", "0")
        problem = view.locator("#ts-result [role=alert]")
        problem.wait_for()
        assert "per_device_batch is 0, not between 1 and" in problem.inner_text()
        assert "Traceback" not in view.content()
        fill("per_device_batch", "2")
        until(estimate(name, gpu="L4", per_device_batch=2).bytes())

        view.get_by_role("tab", name="What fits").click()
        found = fitting.fit(name, gpu="L4", per_device_batch=2)
        longest = view.locator("#ts-fits .ts-card").filter(has_text="Longest sequence")
        longest.filter(has_text=f"{found.seq:,}").wait_for()
        assert f"Largest batch\n{found.batch:,}\n" in view.locator("#ts-fits").inner_text()

        view.get_by_role("tab", name="Configuration").click()
        config = view.locator("#ts-config .cm-content").inner_text()
        assert json.loads(config) == {
            "model": name, "profile": "trainer", "gpu": "L4", "per_device_batch": 2,
        }  # fmt: skip
        view.get_by_role("tab", name="What it takes").click()

        view.get_by_label("Serve").check()
        until(estimate(name, gpu="L4", per_device_batch=2, mode="generate",
                       new_tokens=256).bytes())  # fmt: skip
        assert not view.locator("#ts-optimizer").is_visible()
        choose("profile", "vllm")
        until(estimate(name, gpu="L4", per_device_batch=2, mode="generate", new_tokens=256,
                       profile="vllm").bytes())  # fmt: skip

        view.get_by_label("config.json", exact=True).check()
        (tmp_path / "config.json").write_text(json.dumps(TINY))
        view.locator("input[type=file]").set_input_files(tmp_path / "config.json")
        until(estimate(TINY, gpu="L4", per_device_batch=2, mode="generate", new_tokens=256,
                       profile="vllm").bytes())  # fmt: skip
        assert device() > 0

        picture = tmp_path / "page.png"
        view.screenshot(path=picture)
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 50_000
        browser.close()
    places = {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))}
    assert len(asked) > 20 and places == {urlsplit(address).netloc}
    assert said == []


@pytest.mark.filterwarnings("ignore")
def test_a_taken_port_is_named_and_ctrl_c_stops() -> None:
    import signal

    oracle("gradio")
    with served("--port", "0") as (address, child):
        port = urlsplit(address).port
        second = subprocess.run(
            [sys.executable, "-m", "tensorstream", "ui", "--no-browser", "--port", str(port)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert second.returncode == 2 and f"port {port} of 127.0.0.1" in second.stderr
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
