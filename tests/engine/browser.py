"""Pages in a real browser without a window, where there is one."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Visit", "visit"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# what a page says to its console, as the browser logs it
_CONSOLE = re.compile(r'^\[.*CONSOLE.*?\] "(.*)", source:', flags=re.MULTILINE)
_FOUND = re.compile(r'<pre id="found">(.*?)</pre>', flags=re.DOTALL)
_TAIL = """<script>{
const found = document.createElement("pre");
found.id = "found";
try { found.textContent = JSON.stringify((() => {SCRIPT})()); }
catch (error) { found.textContent = JSON.stringify(String(error)); }
document.body.append(found);
}</script>"""


@dataclass(frozen=True, slots=True)
class Visit:
    """What became of a page."""

    console: list[str]  # messages, errors among them
    found: Any  # what the script returned


def visit(
    page: str, folder: Path, script: str, *, width: int = 1_200, is_dark: bool = False
) -> Visit:
    """Opens a page and runs `script`, the body of a function, in it once it is drawn.

    Skips the test where there is no browser.
    """
    names = [found for name in _BROWSERS if (found := shutil.which(name))]
    if not names:
        pytest.skip("there is no Chromium; run: apt-get install chromium")
    path = folder / "visited.html"
    tail = _TAIL.replace("SCRIPT", script)
    path.write_text(page.replace("</body>", f"{tail}</body>"), encoding="utf-8")
    command = [
        names[0],
        "--headless",
        "--no-sandbox",  # which root in a container cannot have
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},900",
        f"--blink-settings=preferredColorScheme={0 if is_dark else 1}",
        "--enable-logging=stderr",
        "--log-level=0",
        "--virtual-time-budget=2000",
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = _FOUND.search(done.stdout)
    assert found is not None, done.stderr[-2_000:]
    text = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return Visit(_CONSOLE.findall(done.stderr), json.loads(text))
