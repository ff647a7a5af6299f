"""Everything the sandbox knows, and how it starts."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dingrelay_sandbox.approvals import Approvals, FlowChange, Instance, title_of
from dingrelay_sandbox.apps import App, Scopes
from dingrelay_sandbox.audit import Audit
from dingrelay_sandbox.clock import Clock
from dingrelay_sandbox.connections import Connections
from dingrelay_sandbox.events.callbacks import Callbacks
from dingrelay_sandbox.events.event import approval_event, organisation_event
from dingrelay_sandbox.events.event_faults import EventFaults
from dingrelay_sandbox.events.frames import Tickets
from dingrelay_sandbox.events.log import EventLog
from dingrelay_sandbox.faults import Faults
from dingrelay_sandbox.limits import DeliveryTimes, Latency, Limiter, Limits
from dingrelay_sandbox.organisation import Change, Organisation
from dingrelay_sandbox.robots import Robot, Robots
from dingrelay_sandbox.sends import Sends
from dingrelay_sandbox.tokens import SignIns, Tokens

if TYPE_CHECKING:
    from dingrelay_sandbox.door import Door
    from dingrelay_sandbox.events.delivery import Deliveries


@dataclass(frozen=True, slots=True)
class Start:
    """The state after a start and after each reset.

    Attributes:
        calls_kept: how many single calls the audit keeps.
    """

    users: int = 2_000
    departments: int = 60
    seed: int = 1
    limits: Limits = field(default_factory=Limits)
    latency: Latency = field(default_factory=Latency)
    app: App = field(default_factory=App)
    more_apps: tuple[App, ...] = ()
    calls_kept: int = 200_000
    delivery_times: DeliveryTimes = field(default_factory=DeliveryTimes)


class SandboxState:
    """The state that both dialects and the admin API share.

    Args:
        start: what a reset goes back to.
        clock: Unix seconds of the machine; tests turn days and months with it.
    """

    def __init__(
        self, start: Start | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.deliveries: Deliveries
        self.door: Door
        """Set by the server."""
        self.start = start or Start()
        self.clock = Clock(clock)
        self.connections = Connections()
        self.last_call = 0
        self.events = EventLog()
        self.reset()

    def reset(self) -> None:
        """Forget everything; only the numbering of calls goes on."""
        start = self.start
        self.clock.offset = 0
        self.apps = {app.app_key: app for app in (start.app, *start.more_apps)}
        self.organisation = Organisation()
        self.organisation.seed(users=start.users, departments=start.departments, seed=start.seed)
        self.organisation.notify = self._organisation_changed
        self.scopes = Scopes(self.organisation)
        self.limiter = Limiter(start.limits, self.clock)
        self.tokens = Tokens()
        self.sign_ins = SignIns()
        self.sends = Sends(self.limiter)
        self.approvals = Approvals()
        self.approvals.notify = self._approval_changed
        self.media: list[dict[str, Any]] = []
        """Files that were uploaded; their contents are not kept."""
        self.robots = Robots()
        robot = Robot()
        self.robots.robots = {robot.token: robot}
        self.faults = Faults()
        self.audit = Audit(start.calls_kept)
        self.latency = start.latency
        self.events = EventLog(self.events.deliver)
        self.callbacks = Callbacks()
        self.tickets = Tickets()
        self.delivery_times = start.delivery_times
        self.event_faults = EventFaults()

    def app(self, app_key: str) -> App:
        """The app with a key.

        Raises:
            LookupError: there is none.
        """
        app = self.apps.get(app_key)
        if app is None:
            raise LookupError(f"app {app_key} does not exist")
        return app

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self.limiter.limits

    def _organisation_changed(self, change: Change) -> None:
        self.events.add(organisation_event(change, self.clock()))

    def _approval_changed(self, instance: Instance, change: FlowChange) -> None:
        title = title_of(instance, self.organisation)
        self.events.add(approval_event(instance, change, title))
