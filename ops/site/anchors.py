"""The anchors of headings, as GitHub makes them: a link works there and on the site."""

import re


def anchor(heading: str, separator: str) -> str:
    """The anchor of a heading; Chinese characters stay. `separator`: for blanks."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)
