"""The applications that may call, and what each may see and reach of the organisation."""

from collections.abc import Collection

from pydantic import BaseModel, Field

from dingrelay_sandbox.organisation import ROOT, Organisation

Part = tuple[tuple[int, ...], tuple[str, ...]]
"""Departments with all below them, and people besides."""


class App(BaseModel, extra="forbid", frozen=True):
    """One DingTalk application.

    Attributes:
        organisation: the corpId; the monthly quota is counted by it. All share one directory.
        departments: what the app may read, and who sees it: these and all below.
        users: people besides.
        visible_departments: who sees the app and gets its messages, where that is not the same: these
            departments and all below (API §11.11).
        visible_users: people besides. Both empty lists: everybody.
        hidden_fields: fields of people that it has no permission to read; they are absent.
        robot_code: the code of its robot; the app's key where none is given.
    """

    app_key: str = "sandbox-key"
    app_secret: str = Field(default="sandbox-secret", repr=False)
    agent_id: str = "1000001"
    organisation: str = "sandbox-corp"
    departments: tuple[int, ...] = (1,)
    users: tuple[str, ...] = ()
    visible_departments: tuple[int, ...] | None = None
    visible_users: tuple[str, ...] | None = None
    hidden_fields: tuple[str, ...] = ()
    robot_code: str = ""

    @property
    def visible(self) -> Part:
        """The app's visible range."""
        if self.visible_departments is None and self.visible_users is None:
            return self.departments, self.users
        departments, users = self.visible_departments or (), self.visible_users or ()
        return (departments, users) if departments or users else ((ROOT,), ())

    @property
    def robot(self) -> str:
        """The code by which its robot is addressed."""
        return self.robot_code or self.app_key


class Scope:
    """A part of the organisation, good for one version of it."""

    def __init__(
        self, departments: Collection[int], users: Collection[str], organisation: Organisation
    ) -> None:
        self.version = organisation.version
        self._organisation = organisation
        self._everything = ROOT in departments
        self._users = frozenset(users)
        self._departments = frozenset(
            below for top in departments for below in organisation.below(top)
        )

    def department(self, number: int) -> bool:
        """Whether a department exists and is in it."""
        return number in self._departments

    def user(self, userid: str) -> bool:
        """Whether a person is in it."""
        if self._everything or userid in self._users:
            return True
        person = self._organisation.people.get(userid)
        return person is not None and not self._departments.isdisjoint(person.departments)


class Scopes:
    """The scopes of apps, worked out again when the organisation changes."""

    def __init__(self, organisation: Organisation) -> None:
        self._organisation = organisation
        self._known: dict[Part, Scope] = {}

    def of(self, app: App) -> Scope:
        """The scope that the app may read."""
        return self._scope((app.departments, app.users))

    def reached_by(self, app: App) -> Scope:
        """The people that see the app, and get its messages."""
        return self._scope(app.visible)

    def _scope(self, part: Part) -> Scope:
        scope = self._known.get(part)
        if scope is None or scope.version != self._organisation.version:
            scope = self._known[part] = Scope(*part, self._organisation)
        return scope
