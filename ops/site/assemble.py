"""Put the pages of the site together: ``make site``.

Pages are those of the repository, which stay readable where they lie. Here each goes into the folder of its language,
its links lead to the other pages of the site, and pages that follow from the code are added: the API of Python, that of
HTTP, and the codes of errors. MkDocs builds the site from them by the configuration that is written beside them.
"""

import argparse
import inspect
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

import dingrelay_producers
import dingrelay_tasks
from dingrelay_producers.language import CHINESE, ENGLISH, current_language, spoken, translated
from dingrelay_workers.dingtalk.classify import HINTS, ROWS, Row
from dingrelay_workers.gateway import openapi
from dingrelay_workers.gateway.server import ROUTES

ROOT = Path(__file__).parents[2]
CONFIGURATION = Path(__file__).with_name("mkdocs.yml")
LANGUAGES = {"zh": CHINESE, "en": ENGLISH}
"""Folder of a language → as the catalogue calls it. The first is at the root of the site."""


class Page(NamedTuple):
    """A page of the repository: its place on the site, and its file in each language."""

    place: str
    english: str
    chinese: str


def guide_pages() -> list[Page]:
    """The pages of the guide, in the order of its index."""
    index = (ROOT / "docs/guide/README.md").read_text("utf-8")
    listed = re.findall(r"^\| \[[^]]+\]\(([\w-]+)\.md\)", index, re.MULTILINE)
    return [
        Page(f"guide/{name}.md", f"docs/guide/{name}.md", f"docs/guide/zh-CN/{name}.md")
        for name in listed
    ]


def runbook_pages() -> list[Page]:
    """The runbooks."""
    return [
        Page(
            f"runbooks/{path.name}", f"ops/runbooks/{path.name}", f"ops/runbooks/zh-CN/{path.name}"
        )
        for path in sorted(ROOT.glob("ops/runbooks/*.md"))
    ]


CHINESE_TEXTS = {
    "Start": "开始",
    "Guide": "使用指南",
    "By task": "按任务查找",
    "Samples": "示例程序",
    "Reference": "参考",
    "Runbooks": "运维手册",
    "Project": "项目",
    "Python API": "Python API",
    "HTTP API": "HTTP API",
    "Error codes": "错误码",
    "The guide": "使用指南",
    "What `dingrelay_producers` and `dingrelay_tasks` give to programs, from the docstrings.": (
        "`dingrelay_producers` 和 `dingrelay_tasks` 提供给程序的全部内容，取自代码中的文档（英文）。"
    ),
    "The codes of DingTalk's answers, and codes of ours where an answer has none. A job that a code ended has it in"
    " `error.code`, its class in `error.class` and the remedy in `error.hint`. What the settings say in `[codes]` comes first.": (
        "钉钉应答中的错误码，以及应答中没有错误码时 dingrelay 自己的代码。因某个错误码结束的任务，"
        "`error.code` 是错误码，`error.class` 是类别，`error.hint` 是处理办法。配置中 `[codes]` 的规定优先于此表。"
    ),
    "class": "类别",
    "code": "错误码",
    "what to do": "处理办法",
    "what happens, and what to do": "会发生什么，如何处理",
    "where the message has {}": "错误信息含有 {}",
    "or": "或",
}


def say(text: str) -> str:
    """A text of the site's own in the language that is spoken."""
    return CHINESE_TEXTS[text] if current_language() == CHINESE else text


def sample_pages() -> list[Page]:
    """The samples, each in Chinese only, behind their index."""
    samples = [
        path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/samples/*/README.md"))
    ]
    return [
        Page("samples/index.md", "docs/samples/README.md", "docs/samples/README.zh-CN.md"),
        *(Page(f"samples/{sample.split('/')[2]}.md", sample, sample) for sample in samples),
    ]


INDEX = Page("index.md", "README.md", "README.zh-CN.md")
GUIDE_INDEX = Page("guide/index.md", "docs/guide/README.md", "docs/guide/zh-CN/README.md")
SANDBOX = Page("sandbox.md", "ops/sandbox/README.md", "ops/sandbox/README.zh-CN.md")
PROJECT = (
    Page("architecture.md", "ARCHITECTURE.md", "ARCHITECTURE.zh-CN.md"),
    Page("benchmarks.md", "docs/benchmarks.md", "docs/benchmarks.zh-CN.md"),
    Page("contributing.md", "CONTRIBUTING.md", "CONTRIBUTING.zh-CN.md"),
    Page("changelog.md", "CHANGELOG.md", "CHANGELOG.zh-CN.md"),
)
DIAGRAMS = "mermaid.min.js"
"""The script that draws diagrams, where `make site` has fetched it."""
PYTHON, HTTP, CODES = "reference/python.md", "reference/http.md", "reference/error-codes.md"

LINK = re.compile(r"(!?)\[((?:[^][]|\[[^]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^( *(?:\d+\. )?)```")
IDEOGRAPH = r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"
BROKEN_LINE = re.compile(rf"({IDEOGRAPH})\n(?={IDEOGRAPH})")
"""A line break that would be shown as a blank within a Chinese sentence."""


class Assembly:
    """The folder that MkDocs reads.

    Args:
        folder: it is emptied before it is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, str] = {}
        self._guide, self._samples, self._runbooks = guide_pages(), sample_pages(), runbook_pages()
        self._pages = (
            INDEX,
            GUIDE_INDEX,
            *self._guide,
            SANDBOX,
            *self._samples,
            *self._runbooks,
            *PROJECT,
        )
        for page in self._pages:
            self._places |= {page.english: page.place, page.chinese: page.place}

    def write(self) -> None:
        """Write the pages of both languages, and the configuration beside them."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(CONFIGURATION.parent / "assets", self.folder / "assets")
        if (diagrams := self.folder.with_name(DIAGRAMS)).exists():
            shutil.copy(diagrams, self.folder / "assets")
        for language, catalogue in LANGUAGES.items():
            for page in self._pages:
                source = page.chinese if language == "zh" else page.english
                text = (ROOT / source).read_text("utf-8")
                self._put(language, page.place, self._converted(text, source, language, page.place))
            with spoken(catalogue):
                self._put(language, PYTHON, python_page())
                self._put(language, HTTP, http_page(catalogue))
                self._put(language, CODES, codes_page())
            document = json.dumps(openapi.document(ROUTES), ensure_ascii=False, indent=2)
            self._put(language, "reference/openapi.json", document)
        settings = {"INHERIT": str(CONFIGURATION), "docs_dir": str(self.folder)} | self._settings()
        text = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)
        self.folder.with_name("mkdocs.yml").write_text(text, "utf-8")

    def _put(self, language: str, place: str, text: str) -> None:
        path = self.folder / language / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def _converted(self, text: str, source: str, language: str, place: str) -> str:
        """A page with the links of its place, and without those that lead to its other language."""
        title, _, rest = text.partition("\n\n")
        head, _, body = rest.partition("\n\n")
        if not head.startswith(("[English](", "[中文](")):
            body = rest

        def link(match: re.Match[str]) -> str:
            image, label, target = match.groups()
            found = self._target(target, source, language, place)
            return f"{image}[{label}]({found})" if found else label

        def prose(lines: str) -> str:
            return BROKEN_LINE.sub(r"\1", LINK.sub(link, lines))

        drawing = ""
        if "```mermaid" in body and (self.folder / "assets" / DIAGRAMS).exists():
            top = os.path.relpath(
                ".",
                PurePosixPath(language if language != "zh" else "") / PurePosixPath(place).parent,
            )
            drawing = f'\n\n<script src="{top}/assets/{DIAGRAMS}"></script>\n'
        return f"{title}\n\n{''.join(_by_kind(body, prose))}{drawing}"

    def _target(self, target: str, source: str, language: str, place: str) -> str | None:
        """Target on the site of a link of a page; None for a file that is not there."""
        path, _, anchor = target.partition("#")
        if not path or "://" in target:
            return target
        file = os.path.normpath(PurePosixPath(source).parent / path)
        there = self._places.get(file)
        if there is None and (ROOT / file).is_file() and not file.endswith(".md"):
            there = f"files/{file}"
            copy = self.folder / language / there
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, copy)
        if there is None:
            return None
        relative = os.path.relpath(there, PurePosixPath(place).parent)
        return f"{relative}#{anchor}" if anchor else relative

    def _settings(self) -> dict[str, Any]:
        """The languages of the site, each with its menu."""
        languages = [
            {
                "locale": language,
                "name": {"zh": "简体中文", "en": "English"}[language],
                "default": language == "zh",
                "build": True,
                "site_name": "dingrelay",
                "nav": self._menu(language),
            }
            for language in LANGUAGES
        ]
        return {"plugins": {"i18n": {"languages": languages}}}

    def _menu(self, language: str) -> list[dict[str, Any]]:
        def titled(pages: Sequence[Page]) -> list[dict[str, Any]]:
            return [{self._title(page, language): page.place} for page in pages]

        with spoken(LANGUAGES[language]):
            reference = {
                say("Python API"): PYTHON,
                say("HTTP API"): HTTP,
                say("Error codes"): CODES,
            }
            return [
                {say("Start"): INDEX.place},
                {
                    say("Guide"): [
                        {say("By task"): GUIDE_INDEX.place},
                        *titled(self._guide),
                        *titled([SANDBOX]),
                    ]
                },
                {say("Samples"): titled(self._samples)},
                {say("Reference"): [{name: place} for name, place in reference.items()]},
                {say("Runbooks"): titled(self._runbooks)},
                {say("Project"): titled(PROJECT)},
            ]

    def _title(self, page: Page, language: str) -> str:
        text = (ROOT / (page.chinese if language == "zh" else page.english)).read_text("utf-8")
        return text.partition("\n")[0].removeprefix("# ").replace("`", "")


def _by_kind(text: str, prose: Callable[[str], str]) -> Iterator[str]:
    """The text, with what is no code in another form.

    Code within a list is set in by four columns, and a list begins after an empty line, as Markdown has it
    outside GitHub.
    """
    fence: str | None = None
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        match = FENCE.match(line)
        if fence is None and match:
            yield prose("".join(lines))
            lines, fence = [], match[1]
            yield line.replace(fence, "    ", 1) if fence else line
        elif fence is not None:
            yield line.replace(fence, "    ", 1) if fence and line.startswith(fence) else line
            fence = None if match else fence
        else:
            begins_list = re.match(r"(?:[-*]|\d+\.) ", line)
            if begins_list and lines and not re.match(r"\s*(?:[-*]|\d+\.) |\s|$", lines[-1]):
                in_list = re.search(r"^(?:[-*]|\d+\.) (?:.+\n)*\Z", "".join(lines), re.MULTILINE)
                lines += [] if in_list else ["\n"]
            lines.append(line)
    yield prose("".join(lines))


def python_page() -> str:
    """The page of the API of Python; mkdocstrings fills it in."""
    parts = [
        f"# {say('Python API')}\n\n",
        say(
            "What `dingrelay_producers` and `dingrelay_tasks` give to programs, from the docstrings."
        ),
        f"\n\n[{say('The guide')}](../guide/python-api.md)\n\n",
    ]
    for package in (dingrelay_producers, dingrelay_tasks):
        parts.append(f"## {package.__name__}\n\n")
        for name in sorted(package.__all__, key=lambda name: (name not in FIRST, name)):
            value = getattr(package, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                parts.append(f"::: {value.__module__}.{value.__qualname__}\n\n")
    return "".join(parts)


FIRST = {"Client", "AsyncClient", "MessageSend"}


def http_page(language: str) -> str:
    """The page of the HTTP API: what a gateway shows at ``/docs``."""
    shown = openapi.PAGE.get_template("docs.html").render(
        document=openapi.document(ROUTES), language=language
    )
    body = shown.partition("</h1>")[2].partition("</body>")[0]
    body = re.sub(r"<p><a href=\"/docs.*?</p>", "", body)
    # An empty line would end a block of HTML.
    body = re.sub(r"\n\s*\n+", "\n", body)
    link = f"[OpenAPI](openapi.json) · [{say('The guide')}](../guide/gateway.md)"
    return f'# {say("HTTP API")}\n\n{link}\n\n<div class="http-api">\n{body}\n</div>\n'


def codes_page() -> str:
    """The page of DingTalk's codes: class and remedy of each."""
    parts = [
        f"# {say('Error codes')}\n\n",
        say(
            "The codes of DingTalk's answers, and codes of ours where an answer has none. A job that a code ended has it in"
            " `error.code`, its class in `error.class` and the remedy in `error.hint`. What the settings say in `[codes]` comes first."
        ),
        f"\n\n| {say('class')} | {say('what happens, and what to do')} |\n|---|---|\n",
        *(f"| `{error.name}` | {translated(hint)} |\n" for error, hint in HINTS.items()),
        f"\n| {say('code')} | {say('class')} | {say('what to do')} |\n|---|---|---|\n",
        *(f"| {_code(row)} | `{row.error.name}` | {_hint(row)} |\n" for row in ROWS),
    ]
    return "".join(parts)


def _code(row: Row) -> str:
    codes = " ".join(f"`{code}`" for code in row.codes.split())
    if not row.words:
        return codes
    words = f" {say('or')} ".join(row.words.split())
    return f"{codes} {say('where the message has {}').format(words)}"


def _hint(row: Row) -> str:
    return translated(row.hint or HINTS[row.error])


def main(arguments: Mapping[str, Any]) -> None:
    """Write it all."""
    Assembly(Path(arguments["folder"]).absolute()).write()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="where the pages go; what is in it is deleted")
    main(vars(parser.parse_args()))
