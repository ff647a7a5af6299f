"""Departments and users through the v2 API (API §3.1)."""

from collections.abc import AsyncIterator
from typing import Any

from dingrelay_tasks.organisation import ContactScope, Department, Member
from dingrelay_tasks.outcomes import OutOfScope
from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk import contact_fields as fields
from dingrelay_workers.dingtalk import lenient
from dingrelay_workers.dingtalk.apis import (
    AUTH_SCOPES,
    DEPARTMENT,
    DEPARTMENT_CHILDREN,
    MEMBERS,
    USER,
    USER_BY_MOBILE,
)
from dingrelay_workers.dingtalk.errors import NotFound, Permission
from dingrelay_workers.dingtalk.lenient import AnswerPages
from dingrelay_workers.dingtalk.request import Calls, Request

PAGE_SIZE = 100
"""Members a call; the sibling APIs and the SDKs allow no more (API §3.1)."""

_OUT_OF_SCOPE = {"50002", "50004"}
"""Codes of a user and a department that the app may not see (API §3.1)."""


class ContactsV2:
    """`Contacts` of one app.

    Every method raises what `Calls.send` raises, and `Transient` with the code
    ``malformed_answer`` for an answer of another shape than documented.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def scope(self) -> ContactScope:
        """The app's scope."""
        answer = await self._calls.send(Request(AUTH_SCOPES))
        scopes = fields.mapping(answer.get("auth_org_scopes"), "the app's scope")
        read = fields.read({"authed_dept": lenient.integers, "authed_user": lenient.texts}, scopes)
        return ContactScope(read.get("authed_dept", []), read.get("authed_user", []))

    async def department(self, department: int) -> Department | None:
        """One department with all its fields; None: it does not exist.

        Raises:
            OutOfScope: the app may not see it.
        """
        try:
            answer = await self._calls.send(Request(DEPARTMENT, body={"dept_id": department}))
        except NotFound:
            return None
        except Permission as error:
            raise _hidden(error, en("department {}", department)) from None
        return fields.department(answer.get("result"), number=department)

    async def children(self, department: int) -> list[Department] | None:
        """The direct sub-departments, which come in one answer; None: it does not exist."""
        try:
            answer = await self._calls.send(
                Request(DEPARTMENT_CHILDREN, body={"dept_id": department})
            )
        except NotFound:
            return None
        if answer.get("result") is None:
            # Taken for an empty list, it would empty the directory below.
            raise fields.malformed("the list of departments is missing")
        found = [fields.department(item) for item in lenient.items(answer["result"])]
        return [child for child in found if child.id != department]

    async def members(self, department: int) -> AsyncIterator[list[Member]]:
        """The direct members, a page of at most `PAGE_SIZE` at a time.

        Raises:
            LookupError: the department does not exist.
        """
        cursor: int | None = 0
        paging = AnswerPages(cursor)
        while cursor is not None:
            page, cursor = await self._page(department, cursor)
            if cursor is not None:
                paging.took((member.userid for member in page), cursor)
            yield page

    async def by_mobile(self, number: str) -> str | None:
        """The userid for a Chinese mobile number; None: not in the organisation.

        Raises:
            OutOfScope: the app may not see them.
        """
        try:
            answer = await self._calls.send(Request(USER_BY_MOBILE, body={"mobile": number}))
        except NotFound:
            return None
        except Permission:
            # Also where the app lacks the scope for numbers: then it can look up no number at all.
            raise OutOfScope(en("the user")) from None
        return fields.member(answer.get("result")).userid

    async def user(self, userid: str) -> Member | None:
        """One user with all fields; None: there is no such user.

        Raises:
            OutOfScope: the app may not see them.
        """
        try:
            answer = await self._calls.send(Request(USER, body={"userid": userid}))
        except NotFound:
            return None
        except Permission as error:
            raise _hidden(error, en("the user")) from None
        return fields.member(answer.get("result"), userid=userid)

    async def _page(self, department: int, cursor: int) -> tuple[list[Member], int | None]:
        """One page and the cursor of the next, which is None after the last."""
        body: dict[str, Any] = {"dept_id": department, "cursor": cursor, "size": PAGE_SIZE}
        try:
            answer = await self._calls.send(Request(MEMBERS, body=body))
        except NotFound as error:
            raise LookupError(f"department {department}") from error
        result = fields.mapping(answer.get("result"), "the page of users")
        position = fields.read(
            {"has_more": lenient.boolean, "next_cursor": lenient.integer}, result
        )
        if "has_more" not in position:
            raise fields.malformed("has_more is missing")
        members = [fields.member(item) for item in lenient.items(result.get("list"))]
        if not position["has_more"]:
            return members, None
        if "next_cursor" not in position:
            raise fields.malformed("next_cursor is missing though there is more")
        return members, position["next_cursor"]


def _hidden(error: Permission, what: str) -> Exception:
    """Maps a refusal: the app may not see this one, or may not read anything at all."""
    return OutOfScope(what) if error.code in _OUT_OF_SCOPE else error
