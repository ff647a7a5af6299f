"""Where a line of Chinese may end: rich knows words between blanks only, and Chinese has none."""

import re

from rich import _wrap

_WIDE = (
    r"\u2e80-\u2fff\u3003-\u3007\u3021-\u9fff\uf900-\ufaff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
)
_OPENING = "（「『“‘《〈【〔"
_CLOSING = "，。、；：？！）」』”’》〉】〕…—％"
_WORD = re.compile(
    rf"\s*(?:[{_OPENING}]*(?:[{_WIDE}]|[^\s{_WIDE}{_OPENING}{_CLOSING}]+)[{_CLOSING}]*|\S)\s*"
)
"""A character, or what is written without blanks in another script, with the punctuation that may neither
begin nor end a line."""


def allow_between_characters() -> None:
    """Let rich begin a line with any Chinese character; without this it cuts a clause that is too long."""
    # An attribute of rich's own. Should it go, lines end where rich likes.
    if hasattr(_wrap, "re_word"):
        _wrap.re_word = _WORD
