"""Takes the picture of docs/ui.md: the page itself, in a headless Chromium.

    python docs/images/make_page_picture.py [--chromium PATH]

Needs the extra `browser` (Gradio and playwright) and a Chromium.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import shutil
import subprocess
import sys

from playwright.sync_api import Page, sync_playwright

PICTURE = pathlib.Path(__file__).resolve().with_name("page.png")
SIZE = {"width": 1440, "height": 1180}


def settle(page: Page) -> None:
    """QLoRA of Qwen3-32B on one A100, without recomputation: too much."""
    for field, word in (("model", "Qwen/Qwen3-32B"), ("adapters", "QLoRA")):
        if field == "adapters":
            page.locator("button.label-wrap").filter(has_text="What trains").click()
        box = page.locator(f"#ts-{field} input")
        box.click()
        box.press("ControlOrMeta+a")
        box.press_sequentially(word)
        page.get_by_role("option", name=word, exact=True).click()
    page.locator("#ts-per_device_batch input").fill("2")
    page.wait_for_timeout(2000)
    page.mouse.click(5, 5)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default=shutil.which("chromium"), metavar="PATH")
    args = parser.parse_args(argv)
    command = [sys.executable, "-m", "tensorstream", "ui", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None, "the page does not start"
        with sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=args.chromium, args=["--no-sandbox"]
            )
            page = browser.new_page(viewport=SIZE)
            page.goto(found[0])
            page.wait_for_selector("#ts-result svg")
            settle(page)
            page.screenshot(path=PICTURE)
            browser.close()
        server.terminate()
    print(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
