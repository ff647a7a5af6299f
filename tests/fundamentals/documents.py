"""The documents of the repository as tests read them: their code, tables and links."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDE = {
    page.name: (f"docs/guide/{page.name}", f"docs/guide/zh-CN/{page.name}")
    for page in sorted(ROOT.glob("docs/guide/*.md"))
}
"""The pages of the guide, in English and in Chinese."""
RUNBOOKS = {
    page.name: (f"ops/runbooks/{page.name}", f"ops/runbooks/zh-CN/{page.name}")
    for page in sorted(ROOT.glob("ops/runbooks/*.md"))
}
"""The runbooks, in English and in Chinese."""
CLOSE = (
    ("ARCHITECTURE.md", "ARCHITECTURE.zh-CN.md"),
    ("ops/sandbox/README.md", "ops/sandbox/README.zh-CN.md"),
    *RUNBOOKS.values(),
)
"""Translated sentence by sentence: both name the same commands, settings, codes and files."""
TRANSLATED = (
    ("README.md", "README.zh-CN.md"),
    ("CONTRIBUTING.md", "CONTRIBUTING.zh-CN.md"),
    ("docs/benchmarks.md", "docs/benchmarks.zh-CN.md"),
    *GUIDE.values(),
    *CLOSE,
)
DOCUMENTS = tuple(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "ops/**/*.md")
    for path in sorted(ROOT.glob(pattern))
)
RUN = ("bash", "python", "toml")
"""Languages of the blocks that are run; `console` and `text` show what is seen."""

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"\s*#.*$", re.MULTILINE)


_ANY_BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Snippet:
    """One block of code that readers are meant to run."""

    language: str
    code: str

    @property
    def bare(self) -> str:
        """The code without its comments, which are in the document's language."""
        return _COMMENT.sub("", self.code)


def text(document: str) -> str:
    return (ROOT / document).read_text("utf-8")


def code_blocks(document: str) -> list[tuple[str, str]]:
    """The language and the code of every block that begins a line, as it stands."""
    return _BLOCK.findall(text(document))


def snippets(document: str) -> list[Snippet]:
    """Commands of the document, in order."""
    blocks = (Snippet(language, code) for language, code in code_blocks(document))
    return [snippet for snippet in blocks if snippet.language in RUN]


def blocks(document: str) -> list[tuple[str, str]]:
    """The language and the code of every block, without comments; of a diagram its language."""
    found = _ANY_BLOCK.findall(text(document))
    return [(kind, "" if kind == "mermaid" else _COMMENT.sub("", code)) for kind, code in found]


def named(document: str) -> Counter[str]:
    """Code in its sentences and tables, with counts."""
    return Counter(_CODE.findall(_ANY_BLOCK.sub("", text(document))))


def shown(document: str) -> list[str]:
    """Outputs that the document shows."""
    return [code for language, code in _BLOCK.findall(text(document)) if language == "text"]
