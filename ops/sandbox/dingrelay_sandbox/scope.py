"""What an app may see and reach of the organisation."""

from collections.abc import Collection

from dingrelay_sandbox.apps import App
from dingrelay_sandbox.organisation import ROOT, Organisation


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
    """The scopes of each app, worked out again when the organisation changes."""

    def __init__(self, organisation: Organisation) -> None:
        self._organisation = organisation
        self._read: dict[App, Scope] = {}
        self._reached: dict[App, Scope] = {}

    def of(self, app: App) -> Scope:
        """What the app may read."""
        return self._known(self._read, app, app.departments, app.users)

    def reached_by(self, app: App) -> Scope:
        """Who sees the app, and gets its messages."""
        return self._known(self._reached, app, *app.visible)

    def _known(
        self,
        scopes: dict[App, Scope],
        app: App,
        departments: tuple[int, ...],
        users: tuple[str, ...],
    ) -> Scope:
        scope = scopes.get(app)
        if scope is None or scope.version != self._organisation.version:
            scope = scopes[app] = Scope(departments, users, self._organisation)
        return scope
