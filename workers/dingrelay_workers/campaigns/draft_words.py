"""A draft in words: the labels of its fields, what is wrong with one, and how two versions differ."""

from collections.abc import Mapping
from typing import Any

from dingrelay_tasks.contract import TYPE_FIELD, ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.documents import DraftContent, Template
from dingrelay_workers.campaigns.recipients import NoPeopleColumn
from dingrelay_workers.console.message_form import field_of, form_of, label_of
from dingrelay_workers.console.sentences import FieldProblem

STEP_LABELS: Mapping[str, Mapping[str, str]] = {
    "write": {"name": en("Name"), "app": en("Sent by the app")},
    "choose": {
        "departments": en("Departments"),
        "everyone": en("Everyone in the organisation"),
        "pasted": en("People"),
        "without_departments": en("Departments that are left out"),
        "without_pasted": en("People who are left out"),
        "without_campaigns": en("Those who got an earlier broadcast"),
        "column": en("Column of the file"),
        "recipients": en("People"),
        "file": en("File"),
    },
    "test": {"users": en("Recipients of the test")},
    "review": {
        "start_at": en("Not before"),
        "quiet": en("Quiet hours"),
        "rate": en("People a minute at most"),
        "error_share": en("Share of failures at which it pauses"),
    },
}
"""Step → its fields that are no part of the message, as people call them."""
LABELS = {name: label for labels in STEP_LABELS.values() for name, label in labels.items()}
_STANDS_AT = {"recipients": "pasted", "quiet": "quiet_from"}
"""Fields without an input of their name → the input that a fault of them stands beside."""


def problem_of(message: Mapping[str, Any]) -> ContractError | None:
    """The faults of the message; None before anything is written."""
    if message:
        try:
            Template(message)
        except ContractError as error:
            return error
    return None


def problems_of(error: ContractError, draft: str = "") -> dict[str, FieldProblem]:
    """Input of a draft's forms → what is wrong with its value."""
    return dict(_problem(part, draft) for part in (error, *error.others))


def _problem(error: ContractError, draft: str) -> tuple[str, FieldProblem]:
    name, words = error.field.partition(".")[0], error.problem
    if isinstance(error, NoPeopleColumn):
        name, words = (
            "column",
            en(
                "the file has no column 工号, 手机号, 邮箱 or 姓名; it has {}. If another one names the people, enter it here.",
                ", ".join(heading for heading in error.header if heading)[:300] or "–",
            ),
        )
    step = next((step for step, labels in STEP_LABELS.items() if name in labels), "")
    page = f"/campaigns/{draft}/{step or 'write'}" if draft else ""
    if step:
        return _STANDS_AT.get(name, name), FieldProblem(LABELS[name], words, page)
    field = field_of(error.field)
    if field and field.widget == "url" and "^" in words:
        words = en("must be an address such as https://example.com")
    place = field.name if field else TYPE_FIELD
    return place, FieldProblem(label_of(error.field), words, page)


def differences(theirs: DraftContent, mine: DraftContent) -> list[tuple[str, str, str]]:
    """Differences of two versions: label, the other one, one's own."""
    pairs = [
        (label, _said(getattr(theirs, name)), _said(getattr(mine, name)))
        for name, label in LABELS.items()
        if name in DraftContent.model_fields
    ]
    forms = [form_of(version.message) for version in (theirs, mine)]
    names = dict.fromkeys([*forms[0], *forms[1]])
    pairs += [(label_of(name), forms[0].get(name, ""), forms[1].get(name, "")) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
