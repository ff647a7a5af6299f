"""Departments, users and what an app sees of them, through both generations of the API (API §3.1)."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from dingrelay_tasks.organisation import Department, Member
from dingrelay_tasks.outcomes import OutOfScope
from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk import apis, lenient
from dingrelay_workers.dingtalk import contact_fields as fields
from dingrelay_workers.dingtalk.errors import NotFound, Permission
from dingrelay_workers.dingtalk.lenient import AnswerPages
from dingrelay_workers.dingtalk.request import Calls, Request, ask

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

    async def scope(self) -> tuple[list[int], list[str]]:
        """The app's scope."""
        answer = await self._calls.send(Request(apis.AUTH_SCOPES))
        scopes = fields.mapping(answer.get("auth_org_scopes"), "the app's scope")
        read = fields.read({"authed_dept": lenient.integers, "authed_user": lenient.texts}, scopes)
        return read.get("authed_dept", []), read.get("authed_user", [])

    async def department(self, department: int) -> Department | None:
        """One department with all its fields; None: it does not exist.

        Raises:
            OutOfScope: the app may not see it.
        """
        try:
            answer = await self._calls.send(Request(apis.DEPARTMENT, body={"dept_id": department}))
        except NotFound:
            return None
        except Permission as error:
            raise _hidden(error, en("department {}", department)) from None
        return fields.department(answer.get("result"), number=department)

    async def children(self, department: int) -> list[Department] | None:
        """The direct sub-departments, which come in one answer; None: it does not exist."""
        request = Request(apis.DEPARTMENT_CHILDREN, body={"dept_id": department})
        items = await self._listed(request, "result")
        if items is None:
            return None
        return [child for child in map(fields.department, items) if child.id != department]

    async def members(
        self, department: int, cursor: int = 0
    ) -> AsyncIterator[tuple[list[Member], int | None]]:
        """The direct members, a page of at most `PAGE_SIZE` at a time with the cursor of the next, None after the last.

        Raises:
            LookupError: the department does not exist.
        """
        after: int | None = cursor
        paging = AnswerPages(after)
        while after is not None:
            page, after = await self._page(department, after)
            if after is not None:
                paging.took((member.userid for member in page), after)
            yield page, after

    async def by_mobile(self, number: str) -> str | None:
        """The userid for a Chinese mobile number; None: not in the organisation.

        Raises:
            OutOfScope: the app may not see them.
        """
        try:
            answer = await self._calls.send(Request(apis.USER_BY_MOBILE, body={"mobile": number}))
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
            answer = await self._calls.send(Request(apis.USER, body={"userid": userid}))
        except NotFound:
            return None
        except Permission as error:
            raise _hidden(error, en("the user")) from None
        return fields.member(answer.get("result"), userid=userid)

    async def _listed(self, request: Request, name: str) -> Sequence[Any] | None:
        """The departments in an answer, by the name of their list; None: the one above does not exist."""
        try:
            answer = await self._calls.send(request)
        except NotFound:
            return None
        if answer.get(name) is None:
            # Taken for an empty list, it would empty the directory below.
            raise fields.malformed("the list of departments is missing")
        return lenient.items(answer[name])

    async def _page(self, department: int, cursor: int) -> tuple[list[Member], int | None]:
        """One page and the cursor of the next, which is None after the last."""
        body: dict[str, Any] = {"dept_id": department, "cursor": cursor, "size": PAGE_SIZE}
        try:
            answer = await self._calls.send(Request(apis.MEMBERS, body=body))
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


ROOT_DEPARTMENT = 1


@dataclass(frozen=True, slots=True)
class VisibleRange:
    """The people who see an app.

    Attributes:
        departments: all in and below them.
        users: people besides.
        roles: people with one of these roles, besides.
        admins_only: only the organisation's administrators, besides those named above.
    """

    departments: frozenset[int]
    users: frozenset[str]
    roles: frozenset[int]
    admins_only: bool

    @property
    def everybody(self) -> bool:
        """Whether the whole organisation sees it."""
        is_limited = self.departments or self.users or self.roles
        return ROOT_DEPARTMENT in self.departments or not (is_limited or self.admins_only)

    @property
    def is_known(self) -> bool:
        """Whether departments and users alone decide who is in it."""
        return not (self.roles or self.admins_only)


async def visible_range(calls: Calls) -> VisibleRange:
    """The range of the app that calls; raises what `Calls.send` raises.

    Raises:
        Transient: the answer is of another shape than documented.
    """
    path = apis.APP_SCOPES.path.format(agent_id=quote(calls.agent_id, safe=""))
    result = (await ask(calls, Request(replace(apis.APP_SCOPES, path=path)))).part("result")
    return VisibleRange(
        departments=frozenset(result.numbers("deptIds")),
        users=frozenset(result.texts("userIds")),
        roles=frozenset(result.numbers("roleIds")),
        admins_only=result.flag("onlyAdminVisible"),
    )


USER_NAMES: Mapping[str, str] = {
    "department": "dept_id_list",
    "extattr": "extension",
    "hiredDate": "hired_date",
    "isAdmin": "admin",
    "isBoss": "boss",
    "isHide": "hide_mobile",
    "isLeader": "leader",
    "jobnumber": "job_number",
    "order": "dept_order",
    "orgEmail": "org_email",
    "position": "title",
    "tel": "telephone",
    "workPlace": "work_place",
}
"""A user's fields whose names differ: old → v2."""

DEPARTMENT_NAMES: Mapping[str, str] = {
    "autoAddUser": "auto_add_user",
    "createDeptGroup": "create_dept_group",
    "id": "dept_id",
    "parentid": "parent_id",
    "sourceIdentifier": "source_identifier",
}
"""A department's fields whose names differ: old → v2."""


class ContactsV1(ContactsV2):
    """`Contacts` of one app whose permissions are those of the old API.

    One department or one user is read through v2, which the same token opens.
    """

    async def children(self, department: int) -> list[Department] | None:
        """The direct sub-departments; None: the department does not exist."""
        query = {"id": str(department), "fetch_child": "false"}
        items = await self._listed(Request(apis.DEPARTMENT_CHILDREN_V1, query=query), "department")
        if items is None:
            return None
        departments = [fields.department(_renamed(item, DEPARTMENT_NAMES)) for item in items]
        # Whatever else the answer holds is met again below its own parent.
        return [
            child
            for child in departments
            if child.id != department and child.fields.get("parent_id", department) == department
        ]

    async def _page(self, department: int, cursor: int) -> tuple[list[Member], int | None]:
        """The same. The offset counts people, not pages (API §3.3 has the bug of those who thought otherwise)."""
        query = {
            "department_id": str(department),
            "offset": str(cursor),
            "size": str(PAGE_SIZE),
        }
        try:
            answer = await self._calls.send(Request(apis.MEMBERS_V1, query=query))
        except NotFound as error:
            raise LookupError(f"department {department}") from error
        more = fields.read({"hasMore": lenient.boolean}, answer).get("hasMore")
        if more is None:
            raise fields.malformed("hasMore is missing")
        items = lenient.items(answer.get("userlist"))
        members = [fields.member(_renamed(item, USER_NAMES)) for item in items]
        return members, cursor + PAGE_SIZE if more else None


def _renamed(item: Any, names: Mapping[str, str]) -> dict[str, Any]:
    raw = fields.mapping(item, "an item")
    return {names.get(name, name): value for name, value in raw.items()}
