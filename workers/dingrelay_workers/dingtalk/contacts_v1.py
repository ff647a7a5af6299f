"""Departments and users through the old API of the guide (API §3.2), converted to v2 names."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from dingrelay_tasks.organisation import Department, Member
from dingrelay_workers.dingtalk import contact_fields as fields
from dingrelay_workers.dingtalk import lenient
from dingrelay_workers.dingtalk.apis import DEPARTMENT_CHILDREN_V1, MEMBERS_V1
from dingrelay_workers.dingtalk.contacts import PAGE_SIZE, ContactsV2
from dingrelay_workers.dingtalk.errors import NotFound
from dingrelay_workers.dingtalk.lenient import AnswerPages
from dingrelay_workers.dingtalk.request import Request

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
        try:
            answer = await self._calls.send(Request(DEPARTMENT_CHILDREN_V1, query=query))
        except NotFound:
            return None
        if answer.get("department") is None:
            raise fields.malformed("the list of departments is missing")
        found = [
            fields.department(_renamed(item, DEPARTMENT_NAMES))
            for item in lenient.items(answer["department"])
        ]
        # Whatever else the answer holds is met again below its own parent.
        return [
            child
            for child in found
            if child.id != department and child.fields.get("parent_id", department) == department
        ]

    async def members(self, department: int) -> AsyncIterator[list[Member]]:
        """The direct members, a page of at most `PAGE_SIZE` at a time.

        The offset counts people, not pages (API §3.3 has the bug of those who thought otherwise).

        Raises:
            LookupError: the department does not exist.
        """
        offset, more = 0, True
        paging = AnswerPages(offset)
        while more:
            page, more = await self._page_at(department, offset)
            offset += PAGE_SIZE
            if more:
                paging.took((member.userid for member in page), offset)
            yield page

    async def _page_at(self, department: int, offset: int) -> tuple[list[Member], bool]:
        """One page, and whether there are more."""
        query = {
            "department_id": str(department),
            "offset": str(offset),
            "size": str(PAGE_SIZE),
        }
        try:
            answer = await self._calls.send(Request(MEMBERS_V1, query=query))
        except NotFound as error:
            raise LookupError(f"department {department}") from error
        more = fields.read({"hasMore": lenient.boolean}, answer).get("hasMore")
        if more is None:
            raise fields.malformed("hasMore is missing")
        items = lenient.items(answer.get("userlist"))
        return [fields.member(_renamed(item, USER_NAMES)) for item in items], more


def _renamed(item: Any, names: Mapping[str, str]) -> dict[str, Any]:
    raw = fields.mapping(item, "an item")
    return {names.get(name, name): value for name, value in raw.items()}
