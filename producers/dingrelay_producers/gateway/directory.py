"""``/v1/directory``: people and departments, as of the last user-sync and the events since."""

from datetime import datetime
from typing import Annotated, Any

from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dingrelay_producers.gateway import problems
from dingrelay_producers.gateway.http import cell_of, paging
from dingrelay_producers.gateway.http.routes import Answer, ApiCall, Route
from dingrelay_producers.gateway.problems import Problem, json_response
from dingrelay_tasks.contract import AppName

_LARGEST_ID = 2**63 - 1

Department = Annotated[int, Field(ge=-_LARGEST_ID, le=_LARGEST_ID)]


class PersonDocument(BaseModel):
    """A person in the directory."""

    model_config = ConfigDict(from_attributes=True)

    userid: str
    name: str | None
    departments: list[int]
    """Departments of which they are a direct member."""
    fields: dict[str, Any]
    """All fields that DingTalk returned, under its own names."""
    left_at: datetime | None
    """When they were marked as left; null if they have not left."""


class PersonPage(BaseModel):
    """Some people, by userid."""

    users: list[PersonDocument]
    next: str | None = None
    """Cursor of the next page; null where this is the last."""


class DepartmentDocument(BaseModel):
    """A department of the directory."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str | None
    parent: int | None
    """The department above it; null for the root."""
    fields: dict[str, Any]
    """All fields that DingTalk returned, under its own names."""


class DepartmentPage(BaseModel):
    """Some departments, by id."""

    departments: list[DepartmentDocument]
    next: str | None = None
    """Cursor of the next page; null where this is the last."""


def _of_user(cursor: str) -> str:
    paging.decode(cursor, str)
    return cursor


def _of_department(cursor: str) -> str:
    (number,) = paging.decode(cursor, int)
    if abs(number) > _LARGEST_ID:
        raise ValueError("is no cursor of an earlier answer")
    return cursor


class UserFilter(paging.Paging):
    """Which people to list."""

    app: AppName = "default"
    department: Department | None = None
    """Only people in it or below it."""
    left: bool = False
    """People who left, instead of those who are there."""
    cursor: Annotated[str, Field(max_length=1_000), AfterValidator(_of_user)] | None = None
    """`next` of the page before."""


class DepartmentFilter(paging.Paging):
    """Which departments to list."""

    app: AppName = "default"
    parent: Department | None = None
    """Only departments directly below it."""
    cursor: Annotated[str, Field(max_length=1_000), AfterValidator(_of_department)] | None = None
    """`next` of the page before."""


async def list_users(call: ApiCall) -> web.StreamResponse:
    """People, by userid."""
    asked: UserFilter = call.query
    _check_app(call, asked.app)
    found = await call.context.backend.directory.users(
        asked.app,
        department=asked.department,
        left=asked.left,
        after=paging.decode(asked.cursor, str)[0] if asked.cursor else None,
        limit=asked.limit,
    )
    page = PersonPage(
        users=[PersonDocument.model_validate(person) for person in found],
        next=paging.encode(found[-1].userid) if len(found) == asked.limit else None,
    )
    return json_response(page.model_dump(mode="json"))


async def list_departments(call: ApiCall) -> web.StreamResponse:
    """Departments, by id."""
    asked: DepartmentFilter = call.query
    _check_app(call, asked.app)
    found = await call.context.backend.directory.departments(
        asked.app,
        parent=asked.parent,
        after=paging.decode(asked.cursor, int)[0] if asked.cursor else None,
        limit=asked.limit,
    )
    page = DepartmentPage(
        departments=[DepartmentDocument.model_validate(entry) for entry in found],
        next=paging.encode(found[-1].id) if len(found) == asked.limit else None,
    )
    return json_response(page.model_dump(mode="json"))


def _check_app(call: ApiCall, app: str) -> None:
    if not call.key.permits_app(app):
        raise Problem.at(problems.FORBIDDEN, "?app", "the key is not for this app")


ROUTES = (
    Route(
        method="GET",
        path="/v1/directory/users",
        handler=list_users,
        operation="listUsers",
        summary="List the people of the directory",
        tag="directory",
        scope="directory:read",
        query=UserFilter,
        answers={200: Answer(description="Some of them.", model=PersonPage)},
        cell=cell_of.of_query,
    ),
    Route(
        method="GET",
        path="/v1/directory/departments",
        handler=list_departments,
        operation="listDepartments",
        summary="List the departments of the directory",
        tag="directory",
        scope="directory:read",
        query=DepartmentFilter,
        answers={200: Answer(description="Some of them.", model=DepartmentPage)},
        cell=cell_of.of_query,
    ),
)
