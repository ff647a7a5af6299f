"""``dingrelay webhook``: an endpoint from its making to its end."""

import logging

import pytest

from dingrelay_workers.webhooks import cli as webhook
from support.command_line import Cli

URL = "https://crm.example.com/dingrelay"


def test_an_endpoint_is_added_and_removed(cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    options = ("--type", "job.dead,job.unknown", "--type", "directory.*", "--sender", "crm")
    made = cli.json("webhook", "create", URL, *options, "--name", "crm", "--kind", "message-send")
    endpoint = made["id"]
    assert made["secret"].startswith("whsec_")
    (listed,) = cli.json("webhook", "list")
    assert (listed["id"], listed["name"], listed["url"]) == (endpoint, "crm", URL)
    assert listed["types"] == ["job.dead", "job.unknown", "directory.*"]
    assert (listed["senders"], listed["kinds"], listed["apps"]) == (["crm"], ["message-send"], [])
    assert cli.json("webhook", "list", endpoint)["health"]["under_way"] == 0

    assert cli.json("webhook", "pause", endpoint)["state"] == "paused"
    assert "paused asked for" in cli.shown("webhook", "list", endpoint)
    assert cli.json("webhook", "resume", endpoint, "--skip")["state"] == "enabled"
    cli.json("webhook", "pause", endpoint)
    resumed = cli.json("webhook", "resume", endpoint, "--since", "2h")
    assert (resumed["state"], resumed["notices"]) == ("enabled", 0)
    assert cli.json("webhook", "resume", endpoint, "--since", "2026-01-31T09:00")["notices"] == 0
    cli.shown("webhook", "resume", endpoint, "--since", "2h", "--until", "1h")
    rotated = cli.json("webhook", "rotate", endpoint, "--overlap", "1h")
    assert rotated["secret"] != made["secret"]
    assert rotated["old_secret_until"]
    shown = cli("webhook", "list", endpoint)
    for word in (endpoint, URL, "directory.*", "crm"):
        assert word in shown.stdout
    cli.shown("webhook", "delete", endpoint)
    assert f"no webhook endpoint {endpoint}" in cli.refused("webhook", "list", endpoint)
    for secret in (made["secret"], rotated["secret"]):
        assert secret not in shown.output + caplog.text


def test_a_secret_is_shown_with_its_id_on_standard_output(cli: Cli) -> None:
    made = cli("webhook", "create", URL, "--type", "*")
    assert made.exit_code == 0
    endpoint, secret = made.stdout.split()
    assert secret.startswith("whsec_")
    assert "never shown again" in made.stderr
    assert endpoint in cli.shown("webhook", "list")


def test_a_test_without_a_worker_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "ANSWER", 0.3)
    endpoint = cli.json("webhook", "create", URL, "--type", "*")["id"]
    tested = cli("webhook", "test", endpoint)
    assert (tested.exit_code, "serves webhooks" in tested.stdout) == (3, True)


def test_a_wrong_option_is_named(cli: Cli) -> None:
    assert '"job.dead"' in cli.refused("webhook", "create", URL, "--type", "job.died")
    assert "URL" in cli.refused("webhook", "create", "https://10.0.0.1/", "--type", "*")
    assert "none" in cli("webhook", "list").stderr


def test_a_time_that_is_none_is_refused(cli: Cli) -> None:
    endpoint = cli.json("webhook", "create", URL, "--type", "*")["id"]
    for option in ("--since", "--until"):
        assert option in cli.refused("webhook", "resume", endpoint, option, "+2h")
