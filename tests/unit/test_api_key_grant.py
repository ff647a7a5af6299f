"""Permissions of a key, and those that it may give."""

from datetime import UTC, datetime, timedelta

import pytest

from dingrelay_tasks.contract import ContractError
from dingrelay_workers.http.api_keys import Grant, Rate
from dingrelay_workers.keys.documents import IssuedKey, KeyRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEAM = Grant(
    name="team",
    scopes=frozenset({"messages:write", "keys:write"}),
    apps=frozenset({"hr", "crm"}),
    lanes=frozenset({"normal", "bulk"}),
    sender="team",
    rate=Rate(60, 60),
    expires_at=NOW,
)
ALL = Grant(name="all", scopes=frozenset({"*"}))


def test_a_key_may_do_what_it_names() -> None:
    assert TEAM.permits("messages:write")
    assert not TEAM.permits("jobs:read")
    assert (TEAM.permits_app("hr"), TEAM.permits_app("default")) == (True, False)
    assert (TEAM.permits_lane("bulk"), TEAM.permits_lane("urgent")) == (True, False)
    assert (TEAM.permits_sender("team"), TEAM.permits_sender("")) == (True, False)
    assert TEAM.default_sender == "team"


def test_a_star_stands_for_all() -> None:
    assert ALL.permits("jobs:read")
    assert ALL.permits_app("whatever")
    assert ALL.permits_lane("urgent")
    assert (ALL.permits_sender("x"), ALL.permits_sender(""), ALL.default_sender) == (True, True, "")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"scopes": frozenset({"messages:write", "calls:write"})}, "scopes"),
        ({"scopes": frozenset({"*"})}, "scopes"),
        ({"apps": frozenset({"hr", "finance"})}, "apps"),
        ({"apps": frozenset({"*"})}, "apps"),
        ({"lanes": frozenset({"urgent"})}, "lanes"),
        ({"sender": "other"}, "sender"),
        ({"sender": "*"}, "sender"),
        ({"owner": "u2"}, "owner"),
        ({"rate": Rate(61, 60)}, "rate"),
        ({"rate": None}, "rate"),
        ({"expires_at": NOW + timedelta(seconds=1)}, "expires"),
        ({"expires_at": None}, "expires"),
    ],
)
def test_a_key_can_give_no_more_than_it_has(more: dict[str, object], field: str) -> None:
    found = TEAM.excess(TEAM.model_copy(update=more))
    assert found[0] == field
    assert ALL.excess(TEAM.model_copy(update=more)) is None


def test_a_key_can_give_what_it_has() -> None:
    assert TEAM.excess(TEAM) is None
    less = TEAM.model_copy(update={"scopes": {"messages:write"}, "rate": Rate(1, 1)})
    assert TEAM.excess(less.model_copy(update={"expires_at": NOW - timedelta(days=1)})) is None


def test_no_repr_shows_a_key() -> None:
    made = IssuedKey(id="drk_a", key="drk_a.hidden", old_secret_until=None)
    assert "hidden" not in repr(made)
    assert "hidden" not in f"{made}"


def test_a_request_says_what_a_key_may_do() -> None:
    body = {
        "name": "crm",
        "scopes": ["messages:write"],
        "apps": ["hr"],
        "lanes": ["bulk"],
        "sender": "crm",
        "rate": "50/1s",
        "expires": "90d",
    }
    grant = KeyRequest.parse(body).grant(NOW)
    assert grant == Grant(
        name="crm",
        scopes=frozenset({"messages:write"}),
        apps=frozenset({"hr"}),
        lanes=frozenset({"bulk"}),
        sender="crm",
        rate=Rate(50, 1),
        expires_at=NOW + timedelta(days=90),
    )
    least = KeyRequest.parse({"name": "x", "scopes": ["*"]}).grant(NOW)
    assert least == Grant(name="x", scopes=frozenset({"*"}), sender="")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"name": " x"}, "name"),
        ({"name": "\u202ex"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["messages:*"]}, "scopes.0"),
        ({"apps": ["*", "a/b"]}, "apps.1"),
        ({"lanes": ["fast"]}, "lanes.0"),
        ({"sender": "李"}, "sender"),
        ({"rate": "1/2h"}, "rate"),
        ({"rate": "1/60m"}, "rate"),
        ({"rate": "1/1s\n"}, "rate"),
        ({"rate": "01/1s"}, "rate"),
        ({"expires": "1w"}, "expires"),
        ({"expires": "١d"}, "expires"),
        ({"owner": "a b"}, "owner"),
        ({"keeper": "x"}, "keeper"),
    ],
)
def test_a_request_that_can_not_be_is_refused(more: dict[str, object], field: str) -> None:
    with pytest.raises(ContractError) as refused:
        KeyRequest.parse({"name": "x", "scopes": ["*"], **more})
    assert refused.value.field == field
