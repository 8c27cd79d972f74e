"""In a real browser (`make browser`): every notebook runs in JupyterLab from its first cell to its last; the report opens from disk.

Needs Playwright's Python package and a Chromium (CHROMIUM, default /usr/bin/chromium); it is not part of `make test`. Pictures of
what was seen go to SCREENS (default: build/screens).
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SCREENS = Path(os.environ.get("SCREENS", ROOT / "build" / "screens"))
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=QUIET)
        yield chromium
        chromium.close()


def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the notebooks: (address, folder)."""
    folder = tmp_path_factory.mktemp("lab")
    for path in NOTEBOOKS:
        shutil.copyfile(path, folder / path.name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--port={port}", "--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}", "--IdentityProvider.token=",
               "--ServerApp.disable_check_xsrf=True", "--LabApp.news_url=",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    environment = os.environ | {"FPD_COMPUTE": "0", "FPD_STORE": str(folder / "store"), "FPD_PUBLISH": str(folder / "results"),
                                "JUPYTER_CONFIG_DIR": str(folder / "config")}  # fmt: skip
    with open(folder / "log", "w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                get(f"{address}/api")
                break
            except OSError:
                time.sleep(0.5)
        yield address, folder
    finally:
        server.terminate()
        server.wait(20)


def settled(address, seconds=900):
    """Wait until the only kernel has been idle for three seconds."""
    idle = 0
    for _ in range(seconds):
        states = [kernel["execution_state"] for kernel in get(f"{address}/api/kernels")]
        idle = idle + 1 if states == ["idle"] else 0
        if idle >= 3:
            return
        time.sleep(1)
    raise AssertionError(f"still {states} after {seconds} seconds")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_in_jupyterlab(browser, lab, path):
    address, folder = lab
    while sessions := get(f"{address}/api/sessions"):  # of the notebook before
        for one in sessions:
            with contextlib.suppress(urllib.error.HTTPError):  # its kernel is just ending
                urllib.request.urlopen(urllib.request.Request(f"{address}/api/sessions/{one['id']}", method="DELETE"), timeout=60)
    copy = folder / path.name
    book = json.loads(copy.read_text())
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    copy.write_text(json.dumps(book))
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{address}/lab/workspaces/{path.stem[:2]}/tree/{path.name}?reset")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
    settled(address, 90)
    page.click(".jp-NotebookPanel .jp-Cell")
    page.click("text=Run >> nth=0")
    page.click("text=Run All Cells >> nth=0")
    time.sleep(2)
    settled(address)
    page.keyboard.press("Escape")
    page.keyboard.press("Control+s")
    for _ in range(60):
        with contextlib.suppress(json.JSONDecodeError):  # it is just being saved
            cells = [cell for cell in json.loads(copy.read_text())["cells"] if cell["cell_type"] == "code"]
            if all(cell["execution_count"] for cell in cells):
                break
        time.sleep(1)
    SCREENS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENS / f"lab-{path.stem}.png")
    page.close()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    pictures = [sum("image/png" in o.get("data", {}) for cell in json.loads(p.read_text())["cells"] for o in cell.get("outputs", []))
                for p in (copy, path)]  # fmt: skip
    assert pictures[0] == pictures[1]


@pytest.fixture(scope="session")
def index():
    environment = {key: value for key, value in os.environ.items() if key != "FPD_PUBLISH"}
    subprocess.run([sys.executable, "-m", "fpdlib", "report", "--profile", "laptop"], cwd=ROOT, env=environment, check=True)
    return ROOT / "results" / "laptop" / "report" / "index.html"


@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_opens_from_disk(browser, index, width):
    page, errors = browser.new_page(viewport={"width": width, "height": 900}), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if not request.url.startswith("file:") else None)
    page.goto(index.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
    SCREENS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENS / f"report-{width}.jpg", full_page=True, type="jpeg", quality=70)

    everything = page.locator("#list details:visible").count()
    page.select_option("#verdict", "does not hold")
    some = page.locator("#list details:visible").count()
    assert 0 < some < everything and page.locator("#count").inner_text() == f"{some} claims"
    page.select_option("#protocol", "sound")
    assert 0 < page.locator("#list details:visible").count() <= some
    page.select_option("#table", "Table 2")
    page.select_option("#protocol", "")
    page.select_option("#verdict", "")
    assert 0 < page.locator("#list details:visible").count() < everything
    page.select_option("#table", "")
    first = page.locator("#list details").first
    first.locator("summary").click()
    assert first.locator("table").is_visible()
    link = first.locator("a").first
    link.click()
    page.wait_for_load_state()
    assert "/notebooks/" in page.url and page.locator("img").count()
    assert not errors
    page.close()


@pytest.mark.parametrize("name", ["01-placement", "07-training", "09-table2", "13-figure5", "17-beyond", "18-answers"])
def test_a_notebook_as_a_page(browser, index, name):
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.goto((index.parent / "notebooks" / f"{name}.html").as_uri())
    assert page.locator("img").count() and all(
        page.locator("img").nth(n).get_attribute("alt") for n in range(page.locator("img").count())
    )
    SCREENS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENS / f"{name}.jpg", full_page=True, type="jpeg", quality=60)
    page.close()
