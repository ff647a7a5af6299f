"""Files are uploaded once for an app and content, and messages show them."""

import json
from pathlib import Path

import pytest
from redis import Redis

from acceptance.fleet import Fleet
from dingrelay_producers import Client, Medium, UploadFailed
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from support.command_line import Cli, in_folder

PICTURE = b"\x89PNG\r\n\x1a\n--dingrelay\r\n" + bytes(300_000)


@pytest.fixture
def cli(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """The command line in a folder with a picture, beside a worker."""
    fleet.spawn(concurrency=4)
    cli = in_folder(monkeypatch, tmp_path, fleet.env)
    Path("菜单.png").write_bytes(PICTURE)
    return cli


def test_media_is_uploaded_once_and_shown(cli: Cli, sandbox: SandboxAdmin, valkey: Redis) -> None:
    first = cli("media", "upload", "菜单.png")
    assert first.exit_code == 0, first.output
    (medium,) = sandbox.media()
    assert first.stdout == f"{medium['id']}\n"
    assert (medium["kind"], medium["name"], medium["size"]) == ("image", "菜单.png", len(PICTURE))
    known = cli.json("media", "upload", "菜单.png")
    assert known == {"media_id": medium["id"], "type": "image", "app": "default", "known": True}

    image = {"msgtype": "image", "image": {"file": "菜单.png"}}
    sent = cli("send", "--to", "u1", "--message", json.dumps(image), "--wait")
    assert sent.exit_code == 0, sent.output
    lines = [json.dumps({"to": {"users": [user]}, "message": image}) for user in ("u2", "u3")]
    sent = cli("send", "--jobs", "-", "--wait", stdin="\n".join(lines))
    assert sent.exit_code == 0, sent.output
    arguments = ("--to", "u4,u5", "--message", json.dumps(image))
    assert cli.json("campaign", "create", "n", "--dry-run", *arguments)["recipients"] == 2
    campaign = cli.json("campaign", "create", "菜单", *arguments)["id"]
    assert cli.json("campaign", "show", campaign)["recipients"] == 2
    assert [each["id"] for each in sandbox.media()] == [medium["id"]], "all of them use the one"
    for user in ("u1", "u2", "u3"):
        (message,) = sandbox.inbox(user)["delivered"]
        assert message["message"] == {"msgtype": "image", "image": {"media_id": medium["id"]}}

    again = cli.json("media", "upload", "菜单.png", "--again")
    assert again["known"] is False
    assert again["media_id"] != medium["id"]
    assert cli.json("media", "upload", "菜单.png")["media_id"] == again["media_id"]
    assert list(valkey.scan_iter(keys.upload("*"))) == [], "no file is left in Redis"


def test_a_file_that_is_not_taken_sends_nothing(
    cli: Cli, client: Client, sandbox: SandboxAdmin, valkey: Redis
) -> None:
    Path("报告.pdf").write_bytes(b"%PDF")
    sandbox.add_fault("error", code=40006, api="/media/upload", count=1)
    message = json.dumps({"msgtype": "file", "file": {"file": "报告.pdf"}})
    refused = cli("send", "--to", "u1", "--message", message)
    assert refused.exit_code == 1, refused.output
    assert "40006" in refused.stderr
    missing = {"msgtype": "file", "file": {"file": "missing.pdf"}}
    lines = [{"to": {"users": ["u2"]}, "message": {"msgtype": "text", "text": {"content": "1"}}}]
    lines.append({"to": {"users": ["u2"]}, "message": missing})
    wrong = cli("send", "--jobs", "-", stdin="\n".join(map(json.dumps, lines)))
    assert wrong.exit_code == 2, wrong.output
    assert "line 2: message: " in wrong.stderr
    assert "--from 2" in wrong.stderr
    assert sandbox.media() == []
    assert [job.kind for job in client.recent()] == ["message-send", "media-upload"]
    assert list(valkey.scan_iter(keys.media("*", "*"))) == []

    sandbox.add_fault("error", code=40005, api="/media/upload", count=1)
    with pytest.raises(UploadFailed, match="dead: 40005"):
        client.upload(b"x", name="a.zip")
    assert isinstance(client.upload(b"x", name="a.zip"), Medium)
    assert list(valkey.scan_iter(keys.upload("*"))) == []
