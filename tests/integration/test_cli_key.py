"""``dingrelay key``: a key from its making to its end."""

import logging

import pytest

from support.command_line import Cli


@pytest.fixture
def variables() -> dict[str, str]:
    return {"DINGRELAY_ENV": "sandbox", "DINGTALK_APP_KEY": "k", "DINGTALK_APP_SECRET": "s"}


def test_a_key_is_made_rotated_and_revoked(cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    options = ("--scope", "messages:write,jobs:read", "--app", "default", "--lane", "normal,bulk")
    made = cli.json("key", "create", "crm", *options, "--rate", "50/1s", "--expires", "90d")
    assert set(made) == {"id", "key", "old_secret_until"}
    assert made["key"].startswith(f"{made['id']}.")

    (listed,) = cli.json("key", "list")
    expected = {"id": made["id"], "name": "crm", "state": "live", "sender": "crm"}
    expected |= {"rate": "50/1s", "last_used_at": None}
    assert {name: listed[name] for name in expected} == expected
    assert listed["scopes"] == ["jobs:read", "messages:write"]
    assert (listed["apps"], listed["lanes"]) == (["default"], ["bulk", "normal"])
    assert listed["expires_at"] > listed["created_at"]

    rotated = cli.json("key", "rotate", made["id"], "--overlap", "1h")
    assert rotated["id"] == made["id"]
    assert rotated["key"] != made["key"]
    (listed,) = cli.json("key", "list")
    assert listed["old_secret_until"] == rotated["old_secret_until"]
    assert cli.json("key", "rotate", made["id"], "--overlap", "0s")["old_secret_until"] is None

    assert cli.json("key", "revoke", made["id"])["state"] == "revoked"
    assert "is revoked; create another" in cli.refused("key", "rotate", made["id"])
    for key in (made["key"], rotated["key"]):
        assert key.partition(".")[2] not in cli("key", "list").output + caplog.text


def test_a_key_is_shown_alone_on_standard_output(cli: Cli) -> None:
    made = cli("key", "create", "人事", "--scope", "*")
    assert made.exit_code == 0
    key = made.stdout.strip()
    assert made.stdout == f"{key}\n"
    assert "shown this once only" in made.stderr
    rotated = cli("key", "rotate", key.partition(".")[0])
    assert rotated.stdout.startswith(key.partition(".")[0])
    assert "The one before is taken until" in rotated.stderr
    listed = cli.shown("key", "list")
    for word in ("live", "人事", "never", "none"):
        assert word in listed
    assert "is revoked" in cli.shown("key", "revoke", key.partition(".")[0])


def test_an_unknown_app_is_warned_of(cli: Cli) -> None:
    made = cli("key", "create", "crm", "--scope", "messages:write", "--app", "defualt")
    assert made.exit_code == 0
    assert "no app defualt in the settings here; there are default" in made.stderr


def test_a_key_that_is_not_there_is_named(cli: Cli) -> None:
    for command in ("rotate", "revoke"):
        refused = cli.refused("key", command, "drk_nobodynobody")
        assert "no API key drk_nobodynobody" in refused
    assert cli("key", "list").stderr.strip() == "none"
