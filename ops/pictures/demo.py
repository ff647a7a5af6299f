"""Take the pictures of the demo that the documents show: ``make pictures``.

The demo runs once in each language; its title and its last acts, with the verdict, are drawn as a terminal.
"""

import os
import re
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

DOCS = Path(__file__).parents[2] / "docs"
LANGUAGES = {"zh": "demo.zh-CN.png", "en": "demo.png"}
FIRST_ACT = 8
"""Number of the first act that is shown: the limit. All that are before it fit on no screen."""
WIDTH = 104
"""Columns of the terminal."""
THEME = TerminalTheme(
    (17, 21, 28),
    (222, 226, 230),
    [
        (17, 21, 28),
        (248, 113, 113),
        (125, 211, 125),
        (229, 192, 123),
        (97, 160, 220),
        (198, 120, 221),
        (102, 192, 224),
        (222, 226, 230),
    ],
)
PAGE = """<style>body {{ margin: 0; background: #11151c; }}
pre {{ font: 14px/19px "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace; padding: 22px 22px 26px; margin: 0; display: inline-block;
color: #dee2e6; }} i {{ display: inline-block; width: 2ch; font-style: normal; }}</style><pre>{code}</pre>"""


def output_of_demo(language: str) -> str:
    """Output of the demo on a terminal on which nothing moves, with its colours.

    Raises:
        SystemExit: the demo failed; its output goes to standard error.
    """
    environment = {
        **os.environ,
        "DINGRELAY_LANGUAGE": language,
        "COLUMNS": str(WIDTH),
        # Colours, and no frames that are drawn over.
        "TTY_COMPATIBLE": "1",
        "TTY_INTERACTIVE": "0",
        "COLORTERM": "",
        "TERM": "xterm",
    }
    command = [sys.executable, "-m", "dingrelay_producers.cli", "demo"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def shown_part(output: str) -> Text:
    """The title and the acts from `FIRST_ACT` on, until the verdict."""
    # Movements of the cursor, where something waits.
    plain = re.sub(r"\x1b\[\??[\d;]*[A-HJKSThl]|\r", "", output)
    lines = Text.from_ansi(plain).split()
    starts = [
        number for number, line in enumerate(lines) if re.match(rf"{FIRST_ACT} \S", line.plain)
    ]
    ends = [number for number, line in enumerate(lines) if line.plain.startswith("✓")]
    title = [line for line in lines[: starts[0]] if line.plain.strip()][:2]
    for line in lines:
        line.rstrip()
    return Text("\n").join([*title, Text(), *lines[starts[0] : ends[-1] + 1]])


def main() -> None:
    """Take both pictures.

    Raises:
        SystemExit: there is no Chromium.
    """
    shell = shutil.which("chromium-headless-shell")
    if shell is None:
        raise SystemExit("install chromium-headless-shell, Debian's")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shell, args=["--no-sandbox"])
        for language, name in LANGUAGES.items():
            console = Console(record=True, width=WIDTH, file=StringIO())
            console.print(shown_part(output_of_demo(language)))
            code = console.export_html(theme=THEME, inline_styles=True, code_format="{code}")
            page = browser.new_page(viewport={"width": 890, "height": 600})
            # A character of two columns, whatever the font makes of it.
            code = re.sub(r"([\u3000-\u303f\u4e00-\u9fff\uff00-\uffef])", r"<i>\1</i>", code)
            page.set_content(PAGE.format(code=code))
            page.locator("pre").screenshot(path=DOCS / name)
            print(f"docs/{name}")


if __name__ == "__main__":
    main()
