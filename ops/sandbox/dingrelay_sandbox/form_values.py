"""Values of form controls: the check, and the form in which they come back (API §4.4, §11.1)."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import chain
from typing import Any

from dingrelay_sandbox.organisation import Organisation
from dingrelay_sandbox.state import SandboxState
from dingrelay_sandbox.templates import TABLE, Control

LISTS = frozenset(
    (
        "DDMultiSelectField",
        "InnerContactField",
        "DDPhotoField",
        "DDAttachment",
        "RelateField",
        TABLE,
    )
)
"""The kinds of controls whose value is a JSON list."""
MOST_PICTURES = 9
MOST_RELATED = 9
ATTACHMENT_FIELDS = ("spaceId", "fileName", "fileSize", "fileType", "fileId")
NULL = "null"
"""How an empty control comes back: as this text."""
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,10})?")
_DATE_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M")


class FormError(Exception):
    """A form is refused for one control. `label` names it."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label


def is_empty(control: Control, value: str | None) -> bool:
    """Whether a control was left empty."""
    return value in {None, "", NULL} or (control.type in LISTS and value == "[]")


def check_form(controls: Iterable[Control], form: Mapping[str, str], state: SandboxState) -> None:
    """Refuse a form, or a row of a table, that does not fit its controls.

    Raises:
        FormError: an unknown control, one without its value, or one with a wrong one.
    """
    known = {control.label: control for control in controls}
    for label in form:
        if label not in known:
            raise FormError(label)
    for control in known.values():
        value = form.get(control.label)
        if value is None or is_empty(control, value):
            if control.required:
                raise FormError(control.label)
            continue
        if not _taken(control, value, state):
            raise FormError(control.label)
        if control.type == TABLE:
            for row in rows_of(value):
                check_form(control.columns, row, state)


def spell(control: Control, value: str | None, organisation: Organisation) -> tuple[str, Any]:
    """A control's value as the APIs return it, and the structure beside it, whether or not the form had it."""
    if value is None or is_empty(control, value):
        return (_column_definitions(control) if control.type == TABLE else NULL), None
    match control.type:
        case "DDSelectField":
            return value, _option(control, value)
        case "DDMultiSelectField":
            return _compact(_list(value)), [_option(control, each) for each in _list(value)]
        case "InnerContactField":
            people = [_contact(organisation, userid) for userid in _list(value)]
            return ",".join(each["name"] for each in people), people
        case "DepartmentField":
            places = [organisation.departments.get(int(each)) for each in value.split(",")]
            known = [{"id": str(place.id), "name": place.name} for place in places if place]
            return ",".join(each["name"] for each in known), known
        case "DDPhotoField":
            return _compact([_rehosted(url) for url in _list(value)]), None
        case "DDAttachment" | "RelateField" | "DDDateRangeField":
            return _compact(json.loads(value)), None
        case kind if kind == TABLE:
            rows = [
                {
                    "rowValue": _cells(control, row, organisation),
                    "rowNumber": f"{control.id}_{_digest(str(number), value)}",
                }
                for number, row in enumerate(rows_of(value))
            ]
            return _compact(rows), {"statValue": [], "componentName": TABLE}
        case _:
            return value, None


def control_of(label: str, value: str) -> Control:
    """The control of a template that takes any form: a table where the value is one, else a text."""
    try:
        rows = rows_of(value)
    except (KeyError, RecursionError, TypeError, ValueError):
        rows = []
    if not rows:
        return Control(label=label)
    names = dict.fromkeys(name for row in rows for name in row)
    return Control(label=label, type=TABLE, columns=tuple(Control(label=name) for name in names))


def rows_of(value: str) -> list[dict[str, str]]:
    """The rows of a table that was checked, as label → value."""
    return [{cell["name"]: cell["value"] for cell in row} for row in json.loads(value)]


def _taken(control: Control, value: str, state: SandboxState) -> bool:
    check = _CHECKS.get(control.type)
    try:
        return check is None or check(value, control, state)
    except (KeyError, RecursionError, TypeError, ValueError):
        return False


def _is_number(value: str, control: Control, state: SandboxState) -> bool:
    return _NUMBER.fullmatch(value) is not None


def _is_range(value: str, control: Control, state: SandboxState) -> bool:
    ends = _list(value)
    return len(ends) == 2 and all(map(_is_date, ends))


def _are_attachments(value: str, control: Control, state: SandboxState) -> bool:
    files = json.loads(value)
    complete = all(file[name] not in {None, ""} for file in files for name in ATTACHMENT_FIELDS)
    return isinstance(files, list) and complete


def _are_approvals(value: str, control: Control, state: SandboxState) -> bool:
    found = _list(value)
    return len(found) <= MOST_RELATED and {*found} <= state.approvals.instances.keys()


_CHECKS: Mapping[str, Callable[[str, Control, SandboxState], bool]] = {
    "NumberField": _is_number,
    "MoneyField": _is_number,
    "StarRatingField": _is_number,
    "DDSelectField": lambda value, control, _: not control.options or value in control.options,
    "DDMultiSelectField": lambda value, control, _: (
        {*_list(value)} <= set(control.options or _list(value))
    ),
    "DDDateField": lambda value, control, _: _is_date(value),
    "DDDateRangeField": _is_range,
    "InnerContactField": lambda value, _, state: (
        {*_list(value)} <= state.organisation.people.keys()
    ),
    "DepartmentField": lambda value, _, state: (
        {*map(int, value.split(","))} <= state.organisation.departments.keys()
    ),
    "DDPhotoField": lambda value, control, _: len(_list(value)) <= MOST_PICTURES,
    "DDAttachment": _are_attachments,
    "RelateField": _are_approvals,
    TABLE: lambda value, control, _: all(map(_is_cell, chain(*json.loads(value)))),
}
"""Checks of each kind of control; the others take any text."""


def _is_cell(cell: Any) -> bool:
    return isinstance(cell["name"], str) and isinstance(cell["value"], str)


def _is_date(value: str) -> bool:
    for form in _DATE_FORMATS:
        try:
            datetime.strptime(value, form)  # noqa: DTZ007 - a day has no zone
        except ValueError:
            continue
        return True
    return False


def _list(value: str) -> list[str]:
    """A list of texts.

    Raises:
        ValueError: it is something else.
    """
    found = json.loads(value)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError("not a list of texts")
    return found


def _cells(
    control: Control, row: Mapping[str, str], organisation: Organisation
) -> list[dict[str, Any]]:
    """A row's cells; empty ones are absent."""
    cells: list[dict[str, Any]] = []
    for column in control.columns:
        value = row.get(column.label)
        if is_empty(column, value):
            continue
        spelled, extra = spell(column, value, organisation)
        cell: dict[str, Any] = {"componentType": column.type, "label": column.label}
        if extra is not None:
            cell["extendValue"] = extra
        cells.append({**cell, "value": spelled, "key": column.id})
    return cells


def _column_definitions(control: Control) -> str:
    return _compact(
        [
            {
                "componentName": column.type,
                "componentType": column.type,
                "props": {
                    "bizAlias": column.biz_alias,
                    "holidayOptions": [],
                    "id": column.id,
                    "label": column.label,
                    "placeholder": "请输入",
                    "required": column.required,
                },
            }
            for column in control.columns
        ]
    )


def _option(control: Control, label: str) -> dict[str, str]:
    number = control.options.index(label) if label in control.options else 0
    return {"label": label, "key": f"option_{number}"}


def _contact(organisation: Organisation, userid: str) -> dict[str, str]:
    person = organisation.people.get(userid)
    fields = organisation.fields(person) if person else {}
    return {
        "emplId": userid,
        "name": str(fields.get("name", userid)),
        "selectDeptName": "",
        "avatar": str(fields.get("avatar", "")),
        "selectDeptId": "",
    }


def _rehosted(url: str) -> str:
    """DingTalk's address of a picture that was sent as an address elsewhere."""
    return f"https://static.dingtalk.com/media/lAD{_digest(url)}.png"


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12].upper()


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
