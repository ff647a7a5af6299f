"""Roles of people in the console, each a set of the scopes that API keys have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dingrelay_producers.actor import Reach
from dingrelay_producers.client.filters import Seen
from dingrelay_tasks.sentence import en
from dingrelay_workers.http.api_keys import ANY, JOB_SCOPES, Grant
from dingrelay_workers.noun import Role
from dingrelay_workers.nouns import NOUNS


def _scopes_of(role: Role) -> frozenset[str]:
    """Scopes of a role: its own, and those that every role has."""
    declared = [JOB_SCOPES, *(noun.scopes for noun in NOUNS)]
    return frozenset(
        scope for scopes in declared for scope, least in scopes.items() if least in {role, "view"}
    )


CAMPAIGNS = "campaigns:write"
"""Campaigns go in the lane bulk."""
ROLES: Mapping[str, frozenset[str]] = {
    "view": _scopes_of("view"),
    "write": _scopes_of("write"),
    "approve": _scopes_of("approve"),
    "operate": _scopes_of("operate"),
    "admin": frozenset({ANY}),
}
"""Role → its scopes."""

NAMES: Mapping[str, tuple[str, str]] = {
    "view": (en("View"), en("sees every page, with names of people and what they got")),
    "write": (
        en("Write"),
        en("writes broadcasts and sends them, after approval where one is needed"),
    ),
    "approve": (en("Approve"), en("approves broadcasts of others")),
    "operate": (
        en("Operate"),
        en(
            "cancels and repeats jobs, pauses lanes, decides approvals, switches webhooks, reads the audit"
        ),
    ),
    "admin": (en("Administer"), en("everything, also keys and roles")),
}
"""Role → its name for people, and what it is for."""


OPERATING = frozenset({"view", "operate", "admin"})
"""Roles whose people look at jobs, limits and workers; the others write to people and approve."""


def roles_held(grants: Sequence[Grant]) -> list[str]:
    """The roles of a person's grants."""
    held = {grant.scopes for grant in grants}
    return [role for role, scopes in ROLES.items() if scopes in held]


def operates(grants: Sequence[Grant]) -> bool:
    """Whether a person sees how the system runs, and not only broadcasts and people."""
    return not OPERATING.isdisjoint(roles_held(grants))


def permitting(grants: Sequence[Grant], scope: str) -> list[Grant]:
    """The grants that permit a scope: a person who may write for one app and look at all must not write for all.

    Args:
        grants: one for each role that the person holds.
        scope: of the page; "" for any role.
    """
    permitting_grants = [grant for grant in grants if not scope or grant.permits(scope)]
    if scope == CAMPAIGNS:
        permitting_grants = [grant for grant in permitting_grants if grant.permits_lane("bulk")]
    return permitting_grants


@dataclass(frozen=True, slots=True)
class RolesReach(Reach):
    """Reach of a person: what one of their roles permits.

    Attributes:
        grants: one for each role that the person holds.
    """

    sees_all: ClassVar[bool] = False
    grants: Sequence[Grant]

    def reaches(
        self, scope: str, *, app: str, sender: str = "", lane: str = "", target: str = ""
    ) -> bool:
        """Whether one role has this app, target and lane by this scope; senders are no part of roles."""
        return any(
            grant.permits_job(app, target) and (not lane or lane in grant.lanes)
            for grant in permitting(self.grants, scope)
        )

    def sees(self, scope: str) -> Seen:
        """Union of the roles; which of them has both, app and lane, is asked for each job."""
        grant = permitted(self.grants, scope)
        return {"lane": grant.lanes, **grant.sees(scope)} if grant else {"lane": ()}

    def permits(self, scope: str) -> bool:
        """Whether one role permits the scope."""
        return bool(permitting(self.grants, scope))

    def apps_of(self, scope: str) -> frozenset[str] | None:
        """The apps of all roles that permit the scope."""
        apps = frozenset[str]().union(*(role.apps for role in permitting(self.grants, scope)))
        return None if ANY in apps else apps

    def holds(self, scope: str, permissions: Grant) -> bool:
        """Whether for each app and lane of theirs one role has them."""
        roles = permitting(self.grants, scope)
        parts = [
            permissions.model_copy(update={"apps": frozenset({app}), "lanes": frozenset({lane})})
            for app in permissions.apps
            for lane in permissions.lanes
        ]
        return all(any(role.covers(part) for role in roles) for part in parts)

    def lacks(self, scope: str, permissions: Grant) -> tuple[str, str] | None:
        """The same, as one sentence on all of them."""
        if self.holds(scope, permissions):
            return None
        return "scopes", en("Your own role does not include all of this.")

    def sees_name(self, name: str) -> bool:
        """Whether one role has the app, robot or group."""
        return any(role.sees_name(name) for role in self.grants)

    def refusal(
        self, scope: str, *, app: str, lane: str = "", sender: str = "", target: str = ""
    ) -> tuple[str, str] | None:
        """The field of a job that no role of the person permits, and why; None if one does."""
        if self.reaches(scope, app=app, lane=lane):
            return None
        return "app", en("Your role does not include this.")


def permitted(grants: Sequence[Grant], scope: str) -> Grant | None:
    """A person's widest permission on a page of this scope; None for none. `grants` as for `permitting`."""
    permitting_grants = permitting(grants, scope)
    if not permitting_grants:
        return None
    return Grant(
        name=permitting_grants[0].name,
        scopes=frozenset[str]().union(*(grant.scopes for grant in permitting_grants)),
        apps=frozenset[str]().union(*(grant.apps for grant in permitting_grants)),
        lanes=frozenset(lane for grant in permitting_grants for lane in grant.lanes),
    )
