"""Lists the tags of foreign images that were not reviewed for long.

No registry is asked: what is newer only a person finds out, who then writes the day beside the tag,
also where nothing was. ``--strict`` ends with an error; the weekly workflow does so, other checks warn.
"""

import argparse
import datetime as dt
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "ops/Dockerfile")
OLD_DAYS = 90
"""PostgreSQL and Valkey mend security holes about once a quarter."""
OURS = ("dingrelay:", "${IMAGE:-dingrelay:")
REVIEWED = r"# reviewed (\d{4}-\d\d-\d\d)"
IMAGE = re.compile(rf"^ +image: (\S+)(?: +{REVIEWED})?$", re.MULTILINE)
BASE = re.compile(rf"(?:^{REVIEWED}\n)?^ARG BASE=(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Tag:
    """A tag of an image, and the day on which a newer one was last looked for."""

    file: str
    image: str
    reviewed: dt.date


def tags(root: Path = ROOT) -> Iterator[Tag]:
    """All tags of images that are not ours.

    Raises:
        ValueError: one has no day beside it.
    """
    compose, dockerfile = FILES
    found = [(compose, *match) for match in IMAGE.findall((root / compose).read_text("utf-8"))]
    bases = BASE.findall((root / dockerfile).read_text("utf-8"))
    found += [(dockerfile, image, day) for day, image in bases]
    for file, image, day in found:
        if image.startswith(OURS):
            continue
        if not day:
            raise ValueError(f"{file}: {image} has no `# reviewed YEAR-MONTH-DAY` beside it")
        yield Tag(file, image, dt.date.fromisoformat(day))


def old(found: Iterator[Tag], today: dt.date) -> list[Tag]:
    """Tags that were not reviewed for too long."""
    return [tag for tag in found if (today - tag.reviewed).days > OLD_DAYS]


def main(arguments: list[str] | None = None) -> int:
    """Print them: 1 if there are any and that is an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strict", action="store_true", help="end with an error if one is old")
    strict: bool = parser.parse_args(arguments).strict
    overdue = old(tags(), dt.datetime.now(dt.UTC).date())
    for tag in overdue:
        print(f"{tag.file}: {tag.image} was last compared with newer ones on {tag.reviewed}")
    return int(strict and bool(overdue))


if __name__ == "__main__":
    sys.exit(main())
