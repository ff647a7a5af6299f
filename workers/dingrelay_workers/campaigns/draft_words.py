"""A draft in words: the labels of its fields, what is wrong with one, and how two versions differ."""

from collections.abc import Mapping
from typing import Any

from dingrelay_producers.language import tr, translated
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.documents import DraftContent, Template
from dingrelay_workers.campaigns.recipients import NoPeopleColumn
from dingrelay_workers.console.message_form import form_of, label_of

LABELS: Mapping[str, str] = {
    "name": en("Name"),
    "app": en("Sent by the app"),
    "departments": en("Departments"),
    "everyone": en("Everyone in the organisation"),
    "pasted": en("People"),
    "without_departments": en("Departments that are left out"),
    "without_pasted": en("People who are left out"),
    "without_campaigns": en("Those who got an earlier broadcast"),
    "column": en("Column of the file"),
    "recipients": en("People"),
    "users": en("Recipients of the test"),
    "file": en("File"),
    "start_at": en("Not before"),
    "quiet": en("Quiet hours"),
    "rate": en("People a minute at most"),
    "error_share": en("Share of failures at which it pauses"),
}
"""Fields of a draft that are no part of its message, as people call them."""


def problem_of(message: dict[str, Any]) -> str:
    """The fault of the message; "" for none, and before anything is written."""
    if not message:
        return ""
    try:
        Template(message)
    except ContractError as error:
        return words_of(error)
    return ""


def words_of(error: ContractError) -> str:
    """The error, with the fields as their form calls them."""
    if isinstance(error, NoPeopleColumn):
        return tr(
            "The file has no column userid, 工号, 手机号, 邮箱 or 姓名; it has {columns}. If another one names the people, enter it as “Column with the people”.",
            columns=", ".join(name for name in error.header if name)[:300] or "–",
        )
    return "; ".join(
        f"{translated(LABELS.get(part.field.partition('.')[0]) or label_of(part.field))}: {translated(part.problem)}"
        for part in (error, *error.others)
    )


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
