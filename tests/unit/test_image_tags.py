"""The tags of others' images: each with the day on which a newer one was looked for."""

import datetime as dt
import re
from pathlib import Path

import pytest
from packaging.version import Version

import image_tags

TODAY = dt.datetime.now(dt.UTC).date()


def versions() -> dict[str, Version]:
    found = {}
    for tag in image_tags.tags():
        name, _, version = tag.image.rpartition(":")
        matched = re.match(r"v?([\d.]+)", version)
        assert matched, tag.image
        found[name.rpartition("/")[2]] = Version(matched[1])
    return found


def test_every_tag_says_when_somebody_looked_at_it() -> None:
    assert versions().keys() == {
        "valkey", "postgres", "prometheus", "alertmanager", "prometheus-webhook-dingtalk",
        "grafana", "python",
    }  # fmt: skip
    # A day that has not come would never be old.
    assert all(tag.reviewed <= TODAY for tag in image_tags.tags())


def test_valkey_has_no_known_hole_in_lua() -> None:
    assert versions()["valkey"] >= Version("8.1.4"), "CVE-2025-49844"


def copied(folder: Path, day: dt.date | None) -> Path:
    """The files with this day beside each tag, or with none."""
    pattern, text = r" *# reviewed \S+", ""
    if day:
        pattern, text = r"# reviewed \S+", f"# reviewed {day}"
    for name in image_tags.FILES:
        content = (image_tags.ROOT / name).read_text("utf-8")
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(re.sub(pattern, text, content), "utf-8")
    return folder


def test_a_tag_without_a_day_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"docker-compose\.yml: valkey/valkey:\S+ has no"):
        list(image_tags.tags(copied(tmp_path, None)))


def test_tags_without_a_review_for_a_quarter_are_named_and_can_be_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = image_tags.tags
    for days, old in ((image_tags.OLD_DAYS, False), (image_tags.OLD_DAYS + 1, True)):
        day = TODAY - dt.timedelta(days)
        folder = tmp_path / str(days)
        folder.mkdir()
        found = list(read(copied(folder, day)))
        monkeypatch.setattr(image_tags, "tags", lambda found=found: iter(found))
        assert (image_tags.main([]), image_tags.main(["--strict"])) == (0, int(old))
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == (2 * len(found) if old else 0)
        assert all(str(day) in line for line in lines)
