"""``/v1/directory``: people and departments, as of the last user-sync and the events since."""

from typing import Annotated

from pydantic import BaseModel, Field

from dingrelay_tasks.contract import AppName
from dingrelay_workers.directory.service import DepartmentDocument, DirectoryService, PersonDocument
from dingrelay_workers.http import paging, problems
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import HttpCall, Routes

_LARGEST_ID = 2**63 - 1

Department = Annotated[int, Field(ge=-_LARGEST_ID, le=_LARGEST_ID)]


PersonPage = paging.page_of("PersonPage", "Some people, by userid.", users=PersonDocument)
DepartmentPage = paging.page_of(
    "DepartmentPage", "Some departments, by id.", departments=DepartmentDocument
)


def _after_user(cursor: str) -> str:
    (userid,) = paging.decode(cursor, str)
    return str(userid)


def _after_department(cursor: str) -> int:
    (number,) = paging.decode(cursor, int)
    if abs(number) > _LARGEST_ID:
        raise paging.unknown_cursor()
    return int(number)


class UserFilter(paging.Paging):
    """Which people to list."""

    app: AppName = "default"
    department: Department | None = None
    """Only people in it or below it."""
    left: bool = False
    """People who left, instead of those who are there."""
    cursor: Annotated[str, Field(max_length=1_000), paging.checked(_after_user)] | None = None
    """`next` of the page before."""


class DepartmentFilter(paging.Paging):
    """Which departments to list."""

    app: AppName = "default"
    parent: Department | None = None
    """Only departments directly below it."""
    named: Annotated[str, Field(max_length=100, pattern=r"^[^\x00]*$")] = ""
    """Only departments with this in their name."""
    cursor: Annotated[str, Field(max_length=1_000), paging.checked(_after_department)] | None = None
    """`next` of the page before."""


ROUTES = Routes(tag="directory", scope="directory:read")


@ROUTES("GET /v1/directory/users", PersonPage, query=UserFilter)
async def list_users(call: HttpCall) -> BaseModel:
    """List the people of the directory."""
    asked: UserFilter = call.query
    _check_app(call, asked.app)
    found = await call.context.service(DirectoryService).users(
        asked.app,
        department=asked.department,
        left=asked.left,
        after=_after_user(asked.cursor) if asked.cursor else None,
        limit=asked.limit,
    )
    behind = paging.encode(found[-1].userid) if len(found) == asked.limit else None
    return PersonPage(users=list(found), next=behind)


@ROUTES("GET /v1/directory/departments", DepartmentPage, query=DepartmentFilter)
async def list_departments(call: HttpCall) -> BaseModel:
    """List the departments of the directory."""
    asked: DepartmentFilter = call.query
    _check_app(call, asked.app)
    found = await call.context.service(DirectoryService).departments(
        asked.app,
        parent=asked.parent,
        named=asked.named,
        after=_after_department(asked.cursor) if asked.cursor else None,
        limit=asked.limit,
    )
    behind = paging.encode(found[-1].id) if len(found) == asked.limit else None
    return DepartmentPage(departments=list(found), next=behind)


def _check_app(call: HttpCall, app: str) -> None:
    if not call.key.permits_app(app):
        raise Problem.at(problems.FORBIDDEN, "?app", "the key is not for this app")
