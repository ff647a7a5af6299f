"""The fields of departments and users: their names, and how each is read (`lenient.py`).

A field that is absent or null stays absent, since it may only be hidden from the app (API §3.1).
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from dingrelay_tasks.organisation import Department, Member
from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk.errors import Transient
from dingrelay_workers.dingtalk.lenient import (
    MALFORMED,
    Unreadable,
    boolean,
    integer,
    integers,
    items,
    structure,
    text,
)

Parser = Callable[[Any], Any]
Fields = Mapping[str, Parser]


def malformed(what: str) -> Transient:
    """The error for an answer of another shape than documented: the next one may be whole."""
    return Transient(MALFORMED, en("DingTalk's answer is not as documented: {}", what))


def extension(value: Any) -> str:
    """A user's own fields as JSON in a string; v1 has them as an object.

    Raises:
        Unreadable: it is neither.
    """
    if isinstance(value, dict):
        value = json.dumps(structure(value), ensure_ascii=False, sort_keys=True)
    return text(value)


def by_department(name: str, parser: Parser) -> Parser:
    """Reads ``[{"dept_id": 5, NAME: …}, …]``."""

    def parse(value: Any) -> list[dict[str, Any]]:
        places: list[dict[str, Any]] = []
        for item in items(value):
            if not isinstance(item, dict):
                raise Unreadable("no object")
            raw = cast("dict[str, Any]", item)
            places.append({"dept_id": integer(raw.get("dept_id")), name: parser(raw.get(name))})
        return places

    return parse


def mapping(value: Any, what: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Transient: it is none.
    """
    if not isinstance(value, dict):
        raise malformed(f"{what} is no object")
    return cast("dict[str, Any]", value)


USER_FIELDS: Fields = {
    "unionid": text,
    "name": text,
    "avatar": text,
    "state_code": text,
    "manager_userid": text,
    "mobile": text,
    "hide_mobile": boolean,
    "telephone": text,
    "job_number": text,
    "title": text,
    "email": text,
    "org_email": text,
    "work_place": text,
    "remark": text,
    "exclusive_account": boolean,
    "dept_id_list": integers,
    "dept_order": integer,
    "dept_order_list": by_department("order", integer),
    "extension": extension,
    "extension_i18n": structure,
    "hired_date": integer,
    "active": boolean,
    "real_authed": boolean,
    "senior": boolean,
    "admin": boolean,
    "boss": boolean,
    "leader": boolean,
    "leader_in_dept": by_department("leader", boolean),
    "role_list": structure,
    "union_emp_ext": structure,
    "dept_position_list": structure,
}
"""Every field of a user but the userid (API §3.1: user/get and user/list)."""

DEPARTMENT_FIELDS: Fields = {
    "name": text,
    "parent_id": integer,
    "source_identifier": text,
    "create_dept_group": boolean,
    "auto_add_user": boolean,
    "tags": structure,
    "from_union_org": boolean,
    "order": integer,
    "dept_group_chat_id": text,
    "group_contain_sub_dept": boolean,
    "org_dept_owner": text,
    "dept_manager_userid_list": structure,
    "outer_dept": boolean,
    "outer_permit_depts": structure,
    "outer_permit_users": structure,
    "user_permits": structure,
    "hide_dept": boolean,
    "dept_permits": structure,
    "auto_approve_apply": boolean,
    "code": text,
    "member_count": integer,
    "owning_member_count": integer,
    "union_dept_ext": structure,
}
"""Every field of a department but its id (API §3.1: department/get)."""


def member(answer: Any, *, userid: str | None = None) -> Member:
    """A user from an item of an answer; `userid` is who it must be.

    Raises:
        Transient: it is none.
    """
    raw = mapping(answer, "a user")
    user = _parse(text, "userid", raw.get("userid", userid))
    if not user or (userid is not None and user != userid):
        raise malformed("a user without its userid")
    return Member(user, read(USER_FIELDS, raw))


def department(answer: Any, *, number: int | None = None) -> Department:
    """A department from an item of an answer; `number` is which it must be.

    Raises:
        Transient: it is none.
    """
    raw = mapping(answer, "a department")
    dept_id = _parse(integer, "dept_id", raw.get("dept_id", number))
    if dept_id == 0 or (number is not None and dept_id != number):
        raise malformed("a department without its id")
    return Department(dept_id, read(DEPARTMENT_FIELDS, raw))


def read(fields: Fields, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the known fields that the answer has.

    Raises:
        Transient: one of them can't be read.
    """
    return {
        name: _parse(parser, name, answer[name])
        for name, parser in fields.items()
        if _is_given(answer.get(name), parser)
    }


def _is_given(value: Any, parser: Parser) -> bool:
    """An empty string is a text that was cleared, but no number and no boolean."""
    return value is not None and (value != "" or parser in {text, extension})


def _parse(parser: Parser, name: str, value: Any) -> Any:
    try:
        return parser(value)
    except Unreadable as error:
        raise malformed(f"{name}: {error}") from None
    except (ValueError, RecursionError):
        # Python's own message may quote the person's data.
        raise malformed(f"{name}: unreadable") from None
