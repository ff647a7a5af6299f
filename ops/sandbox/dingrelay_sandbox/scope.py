"""What an app may see and reach of the organisation."""

from dingrelay_sandbox.apps import App
from dingrelay_sandbox.organisation import ROOT, Organisation


class Scope:
    """An app's view, good for one version of the organisation."""

    def __init__(self, app: App, organisation: Organisation) -> None:
        self.version = organisation.version
        self._organisation = organisation
        self._everything = ROOT in app.departments
        self._users = frozenset(app.users)
        self._departments = frozenset(
            below for top in app.departments for below in organisation.below(top)
        )

    def department(self, number: int) -> bool:
        """Whether a department exists and the app may see it."""
        return number in self._departments

    def user(self, userid: str) -> bool:
        """Whether the app may see and reach a person."""
        if self._everything or userid in self._users:
            return True
        person = self._organisation.people.get(userid)
        return person is not None and not self._departments.isdisjoint(person.departments)


class Scopes:
    """The scope of each app, worked out again when the organisation changes."""

    def __init__(self, organisation: Organisation) -> None:
        self._organisation = organisation
        self._scopes: dict[App, Scope] = {}

    def of(self, app: App) -> Scope:
        """The app's scope."""
        scope = self._scopes.get(app)
        if scope is None or scope.version != self._organisation.version:
            scope = self._scopes[app] = Scope(app, self._organisation)
        return scope
