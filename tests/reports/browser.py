"""A page in a headless Chromium: what a script finds there, and the errors of the console."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
CATCH = "<script>window.problems = []; window.onerror = (message) => window.problems.push(String(message));</script>"


def inspect(page: Path, script: str, folder: Path) -> dict[str, Any]:
    """Returns the object that a script returns in a page; any error in the page or the console is a failure."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip("no Chromium")
    text = page.read_text(encoding="utf-8").replace("<head>", f"<head>{CATCH}", 1)
    end = text.rindex("</body>")
    report = (
        f"document.body.dataset.result = JSON.stringify({{found: (() => {{{script}}})(), problems: window.problems}});"
    )
    copy = folder / f"inspected_{page.name}"
    copy.write_text(f"{text[:end]}<script>{report}</script>{text[end:]}", encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += [f"--user-data-dir={folder / 'profile'}", copy.resolve().as_uri()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert not [line for line in ended.stderr.splitlines() if ":CONSOLE" in line]
    result = re.search(r'data-result="([^"]*)"', ended.stdout)
    assert result, ended.stdout[-500:]
    content = json.loads(unescape(result[1]))
    assert content["problems"] == []
    return content["found"]
