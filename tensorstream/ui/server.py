"""The page put together with Gradio, and served.

Nothing leaves the machine: no telemetry, no fonts or scripts of others, and a policy that
forbids the browser to ask anyone but this server.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import webbrowser
from collections.abc import Callable
from importlib import resources
from typing import Any

from tensorstream.estimator import models
from tensorstream.ui import form, page

PORT = 7860
START = "Qwen/Qwen2.5-7B"
# What the browser may load, and from where: this server only.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; connect-src 'self'; frame-ancestors 'self'; form-action 'self'"
)


# Of every event: no spinner, the last change counts, and no entry in an API.
_AT_ONCE = {
    "show_progress": "hidden", "trigger_mode": "always_last", "queue": False,
    "api_visibility": "private",
}  # fmt: skip


def gradio() -> Any:
    """The module, with telemetry off.

    Raises:
        ImportError: it is not installed; the sentence names the extra.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError:
        raise ImportError("the page needs Gradio: pip install 'tensorstream[ui]'") from None
    return gradio


def build() -> Any:
    """The page as ``gradio.Blocks``, not yet served."""
    gr = gradio()
    with gr.Blocks(title="tensorstream: what fits", analytics_enabled=False) as blocks:
        gr.HTML(_TITLE, apply_default_css=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=340, elem_id="ts-form"):
                inputs = _form(gr)
            with gr.Column(scale=9, min_width=480, elem_id="ts-answer"), gr.Tabs():
                with gr.Tab("What it takes"):
                    result = gr.HTML(elem_id="ts-result", apply_default_css=False)
                with gr.Tab("What fits"):
                    fits = gr.HTML(elem_id="ts-fits", apply_default_css=False)
                with gr.Tab("Configuration"):
                    gr.Markdown(
                        "Saved as `run.json`, it gives the same numbers with "
                        "`tensorstream estimate --config run.json` and "
                        "`tensorstream fit --config run.json`."
                    )
                    config = gr.Code(
                        language="json", interactive=False, elem_id="ts-config",
                        show_label=False, buttons=["copy", "download"],
                    )  # fmt: skip
        names = list(inputs)

        def takes(*values: Any) -> tuple[str, str]:
            return page.takes(dict(zip(names, values)))

        def fits_in(*values: Any) -> str:
            return page.fits(dict(zip(names, values)))

        asked = list(inputs.values())
        changes = [blocks.load, *(one.change for one in asked)]
        # The estimate is there at once; what fits takes some hundred more of them.
        shown = gr.on(changes, takes, asked, [result, config], **_AT_ONCE)
        shown.then(fits_in, asked, fits, **_AT_ONCE)
    return blocks


def _form(gr: Any) -> dict[str, Any]:
    """Every input by the name that ``form.config`` knows it by."""
    inputs: dict[str, Any] = {}
    known = sorted(models.catalogue(), key=str.lower)
    with gr.Group():
        inputs["source"] = gr.Radio(
            [form.KNOWN, form.PASTED], value=form.KNOWN, label="Model", elem_id="ts-source"
        )
        inputs["model"] = gr.Dropdown(
            known, value=START, label="Name (type to search)", allow_custom_value=True,
            num_choices_shown=len(known), elem_id="ts-model",
        )  # fmt: skip
        with gr.Column(visible=False) as pasted:
            inputs["pasted"] = gr.Code(
                language="json", label="config.json, as on the Hub", lines=8, max_lines=14,
                interactive=True, elem_id="ts-pasted", buttons=[],
            )  # fmt: skip
            upload = gr.UploadButton(
                "Upload config.json", file_types=[".json"], type="binary", size="sm"
            )
    upload.upload(_text_of, upload, inputs["pasted"], **_AT_ONCE)
    inputs["source"].change(
        lambda source: (gr.update(visible=source == form.KNOWN),
                        gr.update(visible=source == form.PASTED)),
        inputs["source"], [inputs["model"], pasted], **_AT_ONCE,
    )  # fmt: skip
    _mode(gr, inputs)
    shown = [_group(gr, group, inputs) for group in form.GROUPS]
    with gr.Accordion("Any other field", open=False):
        inputs["further"] = gr.Code(
            language="json", label='JSON: {"optimizations": ["liger"]}', lines=3, max_lines=10,
            interactive=True, elem_id="ts-further", buttons=[],
        )  # fmt: skip
    parts = [part for group in shown for part in group]

    def by_mode(mode: str) -> list[Any]:
        kinds = form.profiles(mode)
        return [
            gr.update(choices=_profile_choices(mode), value=kinds[0]),
            *(gr.update(visible=mode in modes) for _, modes in parts),
        ]

    inputs["mode"].change(
        by_mode, inputs["mode"], [inputs["profile"], *(part for part, _ in parts)], **_AT_ONCE
    )
    return inputs


def _mode(gr: Any, inputs: dict[str, Any]) -> None:
    with gr.Group():
        inputs["mode"] = gr.Radio(
            [(label, mode) for mode, label in form.MODES.items()], value="train",
            label="Purpose", elem_id="ts-mode",
        )  # fmt: skip
        inputs["profile"] = gr.Dropdown(
            _profile_choices("train"), value=form.profiles("train")[0], label="Framework",
            allow_custom_value=False, elem_id="ts-profile",
        )  # fmt: skip


def _profile_choices(mode: str) -> list[str]:
    return form.profiles(mode)


def _group(gr: Any, group: str, inputs: dict[str, Any]) -> list[tuple[Any, tuple[str, ...]]]:
    """The controls of a group; what to hide in which modes, the group itself first."""
    controls = [one for one in form.CONTROLS if one.group == group]
    modes = tuple(mode for mode in form.MODES if any(mode in c.modes for c in controls))
    first = group == "run"
    frame = gr.Accordion(form.GROUPS[group], open=first, visible="train" in modes)
    parts = [(frame, modes)]
    with frame:
        if group == "adapters":
            inputs["adapters"] = gr.Dropdown(
                list(form.ADAPTERS), value="all weights", label="Method", elem_id="ts-adapters"
            )
        for switches in (False, True):  # a row of boxes to tick stands below the fields
            some = [one for one in controls if (one.kind == "switch") == switches]
            with gr.Row(visible=bool(some)):
                for control in some:
                    own = control.modes != modes
                    made = _control(gr, control, visible=not own or "train" in control.modes)
                    inputs[control.field] = made
                    if own:
                        parts.append((made, control.modes))
    return parts


def _control(gr: Any, control: form.Control, visible: bool) -> Any:
    looks = {
        "label": control.label,
        "value": control.value,
        "visible": visible,
        "elem_id": "ts-" + control.field.replace(".", "-"),
        "min_width": 140,
    }
    if control.kind == "count":
        return gr.Number(**looks)
    if control.kind == "switch":
        return gr.Checkbox(**{**looks, "min_width": 300})
    if control.kind == "choices":
        return gr.Dropdown(control.choices, multiselect=True, **{**looks, "min_width": 300})
    choices = [(word or "default", word) for word in control.choices]
    if control.field == "gpu":
        choices = [(word or "none", word) for word in control.choices]
    looks["value"] = str(control.value)
    return gr.Dropdown(choices, **looks)


def _text_of(data: bytes) -> str:
    """An uploaded file as text; what is not UTF-8 is shown as such, and refused as JSON."""
    return data[: form.MOST_TEXT + 1].decode("utf-8", errors="replace")


_TITLE = (
    '<div class="ts-title"><b>tensorstream</b><span>how many bytes a run needs, which part '
    "takes them, and what fits</span></div>"
)


def _tell(text: str) -> None:
    print(text, flush=True)  # also into a pipe, where somebody waits for it


def serve(
    host: str = "127.0.0.1",
    port: int | None = None,
    browser: bool = True,
    say: Callable[[str], None] = _tell,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        host: an address of this machine; ``"0.0.0.0"`` lets others in.
        port: 0 is any free one; by default PORT, or any free one when that is taken.
        browser: open a window there.
        say: told where the page is, once it answers.

    Raises:
        ImportError: without the extra ``ui``.
        OSError: the port is taken, or the address is not this machine's.
    """
    gr = gradio()
    chosen = free_port(host, port)
    blocks = build()
    try:
        blocks.launch(
            server_name=host,
            server_port=chosen,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size="1mb",
            css=_css(),
            theme=_theme(gr),
            app_kwargs={"middleware": [_policy()], "docs_url": None, "redoc_url": None},
        )
        address = f"http://{'localhost' if host in _EVERYWHERE else host}:{chosen}/"
        say(f"tensorstream ui: {address} (Ctrl-C stops it)")
        if browser:
            webbrowser.open(address)
        threading.Event().wait()
    finally:
        blocks.close(verbose=False)


_EVERYWHERE = ("0.0.0.0", "::")


def free_port(host: str, port: int | None) -> int:
    """A port that can be bound: the one that is asked for, or any.

    Raises:
        OSError: it is taken; the sentence names it.
    """
    try:
        return _bound(host, PORT if port is None else port)
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return _bound(host, 0)
        raise OSError(f"port {port or PORT} of {host}: {error.strerror or error}") from None


def _bound(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((host, port))
        return int(trial.getsockname()[1])


def _css() -> str:
    return resources.files("tensorstream.ui").joinpath("page.css").read_text("utf-8")


def _theme(gr: Any) -> Any:
    """Fonts of the machine, so that none is fetched."""
    plain = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="sm",
        spacing_size="sm",
        text_size="sm",
        font=plain,
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
    )


def _policy() -> Any:
    """POLICY as a header of every answer."""
    from starlette.middleware import Middleware

    class Policy:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def with_policy(message: Any) -> None:
                if message["type"] == "http.response.start":
                    headers = list(message.get("headers", ()))
                    headers.append((b"content-security-policy", POLICY.encode()))
                    message = {**message, "headers": headers}
                await send(message)

            await self.app(scope, receive, with_policy if scope["type"] == "http" else send)

    return Middleware(Policy)
