"""Refusals are sentences for the author of the job, and never hold the value."""

from typing import Any

import pytest

from dingrelay_tasks import ApprovalCreate, MessageSend, UserSync
from dingrelay_tasks.contract import Contract, ContractError

TEXT = {"msgtype": "text", "text": {"content": "a"}}
TO = {"users": ["u1"]}


@pytest.mark.parametrize(
    ("kind", "job", "sentence"),
    [
        (MessageSend, {"message": TEXT}, "to: is required"),
        (MessageSend, {"to": TO, "message": TEXT, "colour": 1}, "colour: there is no such field"),
        (
            MessageSend,
            {"to": TO, "message": {"msgtype": "text", "text": {"content": "a" * 5_001}}},
            "message.text.content: may have 5,000 characters at most",
        ),
        (MessageSend, {"to": {"users": [1]}, "message": TEXT}, "to.users.0: must be a text"),
        (MessageSend, {"to": {"users": "u1"}, "message": TEXT}, "to.users: must be a list"),
        (MessageSend, {"to": [], "message": TEXT}, "to: must be an object"),
        (
            MessageSend,
            {"to": TO, "message": TEXT, "lane": "fast"},
            "lane: must be 'urgent', 'normal' or 'bulk'",
        ),
        (
            MessageSend,
            {"to": TO, "message": TEXT, "idempotency_key": ""},
            "idempotency_key: must not be empty",
        ),
        (
            MessageSend,
            {"to": TO, "message": TEXT, "send_at": "soon"},
            "send_at: must be a date and time such as 2026-01-31T09:00:00+08:00",
        ),
        (
            MessageSend,
            {"to": TO, "message": TEXT, "confirm": "perhaps"},
            "confirm: must be true or false",
        ),
        (
            MessageSend,
            {"to": {"departments": [0.5]}, "message": TEXT},
            "to.departments.0: must be a whole number",
        ),
        (MessageSend, {"to": TO, "message": {"msgtype": "oa"}}, "message.oa: is required"),
        (UserSync, {"scope": "department"}, "department: needed for scope department"),
        (
            ApprovalCreate,
            {"process_code": "P", "originator": "u1", "form": {"a": "b"}, "cc": ["u"] * 51},
            "cc: may have 50 entries at most",
        ),
    ],
)
def test_a_refusal_is_a_sentence(kind: type[Contract], job: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ContractError) as refused:
        kind.parse(job)
    assert str(refused.value) == sentence
