"""The people who see an app, and so can get its messages (API §11.11)."""

from dataclasses import dataclass, replace
from urllib.parse import quote

from dingrelay_workers.dingtalk.apis import APP_SCOPES
from dingrelay_workers.dingtalk.lenient import Answer
from dingrelay_workers.dingtalk.request import Calls, Request

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
        named = self.departments or self.users or self.roles
        return ROOT_DEPARTMENT in self.departments or not (named or self.admins_only)

    @property
    def is_known(self) -> bool:
        """Whether departments and users alone decide who is in it."""
        return not (self.roles or self.admins_only)


async def visible_range(calls: Calls) -> VisibleRange:
    """The range of the app that calls; raises what `Calls.send` raises.

    Raises:
        Transient: the answer is of another shape than documented.
    """
    path = APP_SCOPES.path.format(agent_id=quote(calls.agent_id, safe=""))
    content = await calls.send(Request(replace(APP_SCOPES, path=path)))
    result = Answer(APP_SCOPES, content).part("result")
    return VisibleRange(
        departments=frozenset(result.numbers("deptIds")),
        users=frozenset(result.texts("userIds")),
        roles=frozenset(result.numbers("roleIds")),
        admins_only=result.flag("onlyAdminVisible"),
    )
