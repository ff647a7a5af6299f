"""``/v1/directory``: people and departments, as of the last user-sync and the events since."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from dingrelay_tasks.contract import AppName
from dingrelay_workers.directory.service import DepartmentDocument, DirectoryService, PersonDocument
from dingrelay_workers.http import paging
from dingrelay_workers.http.routes import HttpCall, Routes

Department = Annotated[int, Field(ge=-paging.LARGEST, le=paging.LARGEST)]

PersonPage = paging.page_of("PersonPage", "Some people, by userid.", users=PersonDocument)
DepartmentPage = paging.page_of(
    "DepartmentPage", "Some departments, by id.", departments=DepartmentDocument
)


class UserFilter(paging.Paging):
    """Filter of people."""

    app: AppName = "default"
    department: Department | None = None
    """Only people in it or below it."""
    left: bool = False
    """People who left, instead of those who are there."""
    cursor: Annotated[Any, paging.Behind(str)] = None


class DepartmentFilter(paging.Paging):
    """Filter of departments."""

    app: AppName = "default"
    parent: Department | None = None
    """Only departments directly below it."""
    named: Annotated[str, Field(max_length=100, pattern=r"^[^\x00]*$")] = ""
    """Only departments with this in their name."""
    cursor: Annotated[Any, paging.Behind(int)] = None


ROUTES = Routes(tag="directory", scope="directory:read")


@ROUTES("GET /v1/directory/users", PersonPage, query=UserFilter)
async def list_users(call: HttpCall) -> BaseModel:
    """List the people of the directory."""
    query: UserFilter = call.query
    people = await call.context.service(DirectoryService).users(
        query.app,
        department=query.department,
        left=query.left,
        after=query.cursor and query.cursor[0],
        limit=query.limit,
    )
    return PersonPage(users=list(people), next=paging.behind(people, query.limit, "userid"))


@ROUTES("GET /v1/directory/departments", DepartmentPage, query=DepartmentFilter)
async def list_departments(call: HttpCall) -> BaseModel:
    """List the departments of the directory."""
    query: DepartmentFilter = call.query
    departments = await call.context.service(DirectoryService).departments(
        query.app,
        parent=query.parent,
        named=query.named,
        after=query.cursor and query.cursor[0],
        limit=query.limit,
    )
    return DepartmentPage(
        departments=list(departments), next=paging.behind(departments, query.limit, "id")
    )
