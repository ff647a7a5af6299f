"""Files for messages: what is refused before it is sent anywhere, its form, and where messages name it."""

from email import policy
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.cli.media import parsed, with_files
from dingrelay_producers.client import media
from dingrelay_producers.errors import InvalidArgument
from dingrelay_tasks import ContractError, MessageSend
from dingrelay_tasks.media_files import LARGEST, LARGEST_FILE, MediaType

LINK = {"messageUrl": "https://a/", "title": "t", "text": "x"}


@pytest.mark.parametrize(
    ("message", "filled"),
    [
        ({"msgtype": "image", "image": {"file": "a.png"}}, {"image": {"media_id": "@image a.png"}}),
        (
            {"msgtype": "voice", "voice": {"file": "a.amr", "duration": "9"}},
            {"voice": {"media_id": "@voice a.amr", "duration": "9"}},
        ),
        ({"msgtype": "file", "file": {"file": "a.pdf"}}, {"file": {"media_id": "@file a.pdf"}}),
        (
            {"msgtype": "link", "link": {**LINK, "picUrl": {"file": "a.png"}}},
            {"link": {**LINK, "picUrl": "@image a.png"}},
        ),
        (
            {"msgtype": "oa", "oa": {"body": {"image": {"file": "a.png"}, "title": "t"}}},
            {"oa": {"body": {"image": "@image a.png", "title": "t"}}},
        ),
    ],
)
def test_a_file_replaces_a_media_id(message: dict[str, Any], filled: dict[str, Any]) -> None:
    assert with_files(message, lambda path, kind: f"@{kind} {path}") == {**message, **filled}


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        "text",
        {},
        {"msgtype": ["image"], "image": {"file": "a.png"}},
        {"msgtype": "image"},
        {"msgtype": "image", "image": "a.png"},
        {"msgtype": "image", "image": {"file": 1}},
        {"msgtype": "image", "image": {"file": "a.png", "media_id": "@1"}},
        {"msgtype": "text", "text": {"content": "x", "file": "a.png"}},
        {"msgtype": "link", "link": {**LINK, "picUrl": "https://a/b.png"}},
        {"msgtype": "link", "link": {**LINK, "picUrl": {"file": "a.png", "size": 1}}},
        {"msgtype": "oa", "oa": {"body": None}},
        {"msgtype": "oa", "oa": []},
    ],
)
def test_other_fields_are_left_to_the_contract(message: Any) -> None:
    def upload(path: str, kind: MediaType) -> str:
        raise AssertionError(path)

    assert with_files(message, upload) == message


def test_nothing_is_uploaded_for_a_job_that_is_wrong() -> None:
    uploaded: list[str] = []

    def upload(path: str, _: MediaType) -> str:
        uploaded.append(path)
        return "@1"

    job: dict[str, Any] = {"message": {"msgtype": "image", "image": {"file": "a.png"}}}
    with pytest.raises(ContractError, match=r"^to: "):
        parsed(job, MessageSend.parse, upload)
    assert uploaded == []
    sent = parsed({**job, "to": {"users": ["u1"]}}, MessageSend.parse, upload)
    assert sent.wire()["message"] == {"msgtype": "image", "image": {"media_id": "@1"}}
    assert uploaded == ["a.png"]


@given(
    name=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).filter(
        lambda name: name.isprintable() and "/" not in name and name.strip() == name
    ),
    content=st.binary(min_size=1, max_size=300),
)
def test_a_form_carries_the_file_whole(name: str, content: bytes) -> None:
    file = media.read(content, name, "file")
    job, form = media.job_of(file, "default", "normal")
    assert len(form) < LARGEST
    head = f"Content-Type: {job.content_type}\r\n\r\n".encode()
    message = BytesParser(policy=policy.HTTP).parsebytes(head + form)
    (part,) = message.iter_parts()  # type: ignore[attr-defined]
    disposition = form.split(b"\r\n")[1].decode()
    assert disposition.endswith(f'; filename="{name.replace(chr(34), "%22")}"')
    assert part.get_payload(decode=True) == content


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.PNG", "image"), ("a.b.amr", "voice"), ("a.mp4", "video"), ("工资.pdf", "file")],
)
def test_the_type_follows_from_the_ending(name: str, kind: str) -> None:
    assert media.read(b"x", name, None).type == kind


def test_files_of_the_same_name_and_content_are_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    by_path = media.read(tmp_path / "a.png", None, None)
    assert by_path.digest == media.read(str(tmp_path / "a.png"), None, "image").digest
    assert by_path.digest == media.read(b"x", "a.png", None).digest
    others = {
        media.read(b"y", "a.png", None).digest,
        media.read(b"x", "b.png", None).digest,
        media.read(b"x", "a.png", "file").digest,
    }
    assert len({by_path.digest, *others}) == 4


@pytest.mark.parametrize(
    ("file", "name", "kind", "error"),
    [
        ("missing.png", None, None, "file: must be a file that can be read \\(No such file"),
        (".", None, "image", "file: must be a file that can be read \\(Is a directory"),
        ("a\0.png", None, None, "file: must be a file that can be read"),
        (b"x", None, None, "name: must be a file's name"),
        (b"x", "a/b.png", None, "name: must be a file's name"),
        (b"x", "a\n.png", None, "name: must be a file's name"),
        (b"x", "a.exe", None, "name: must be a name that ends with one of jpg, "),
        (b"x", "png", "picture", "media_type: must be image, voice, video or file"),
        (b"", "a.png", None, "file: must be a file with something in it"),
        (
            bytes(LARGEST_FILE + 1),
            "a.zip",
            None,
            "file: must be a file of at most 20,971,520 bytes",
        ),
        (7, None, None, "file: must be a path, or bytes with a name"),
    ],
)
def test_files_that_dingtalk_does_not_take_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Any, name: Any, kind: Any, error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgument, match=error):
        media.read(file, name, kind)
