"""A page in headless Chromium, laid out in a frame of a width and looked at by a script."""

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote


def look_at(browser: str, page: Path, look: str, *, width: int, folder: Path) -> Any:  # noqa: ANN401 - JSON
    """Return what a script says of a page.

    Args:
        browser: Chromium.
        page: The page.
        look: JavaScript that returns a value; ``view`` is the page's window.
        width: Of the frame, in pixels.
        folder: For the browser's files.
    """
    frame = folder / "frame.html"
    # A frame of the wanted width, since headless Chromium has a least window width; its content is
    # inlined so that the script may look inside.
    frame.write_text(
        f'<iframe id=f style="width:{width}px;height:900px;border:0" '
        f'srcdoc="{html.escape(page.read_text())}"></iframe><pre id=out></pre><script>'
        "onload=()=>{const view=document.getElementById('f').contentWindow;"
        "document.getElementById('out').textContent=encodeURIComponent(JSON.stringify("
        f"(()=>{{{look}}})()))}}</script>"
    )
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="out">([^<]+)</pre>', done.stdout)
    assert found is not None, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(unquote(found[1]))
