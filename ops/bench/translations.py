"""Texts for the figures in the documents, in the languages of the READMEs."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SAME = {
    *("p50", "p99", "%", "ms", "µs", "kB", "MB", "×", ""),
    *(
        "dingrelay --version",
        "dingrelay job show",
        "dingrelay send",
        "celery --version",
        "python -c pass",
    ),
    *("dingrelay", "dingrelay message-send", "throttled-py", "arq", "dramatiq", "taskiq"),
    'Celery rate_limit="20/s"',
}
"""Texts that are the same in every language."""


@dataclass(frozen=True, slots=True)
class Translations:
    """The words of one language.

    Attributes:
        readme: the document that shows the key figures.
        page: the document that shows all of them.
        chart: the picture in both; it lies beside the page.
        guide: the document that shows how much a system carries.
        sayings: English → what is said instead; empty for English itself.
    """

    readme: str
    page: str
    chart: str
    guide: str
    sayings: Mapping[str, str] = field(default_factory=dict)

    def say(self, text: str) -> str:
        """The text in this language.

        Raises:
            KeyError: it is not translated yet.
        """
        return self.sayings[text] if self.sayings and text not in SAME else text


CHINESE: dict[str, str] = tomllib.loads(Path(__file__).with_name("zh-CN.toml").read_text("utf-8"))

LANGUAGES = (
    Translations("README.md", "docs/benchmarks.md", "bench.svg", "docs/guide/operating.md"),
    Translations(
        "README.zh-CN.md",
        "docs/benchmarks.zh-CN.md",
        "bench.zh-CN.svg",
        "docs/guide/zh-CN/operating.md",
        CHINESE,
    ),
)
