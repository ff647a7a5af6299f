"""What can be wrong with DingTalk, and with the way to it."""

from dataclasses import dataclass, field
from typing import Any

from dingrelay_chaos.system import System


@dataclass(frozen=True, slots=True)
class DingTalkSpoils:
    """DingTalk, or the way to it, spoils some calls; `spec` is the sandbox's."""

    kind: str
    seconds: float
    spec: dict[str, Any] = field(default_factory=dict[str, Any])

    def begin(self, system: System) -> None:
        """Script it."""
        system.sandbox.add_fault(self.kind, seconds=max(0.1, self.seconds), **self.spec)

    def end(self, system: System) -> None:
        """Nothing: the sandbox ends it by itself."""


@dataclass(frozen=True, slots=True)
class ConnectionsRefused:
    """DingTalk's hosts refuse connections, and those that there are end."""

    seconds: float

    def begin(self, system: System) -> None:
        """Refuse."""
        system.sandbox.refuse_connections(max(0.1, self.seconds))

    def end(self, system: System) -> None:
        """Accept."""
        system.sandbox.accept_connections()


@dataclass(frozen=True, slots=True)
class DingTalkClock:
    """DingTalk's clock jumps, and jumps back."""

    seconds: float
    offset: float

    def begin(self, system: System) -> None:
        """Set it off."""
        system.sandbox.set_clock(self.offset)

    def end(self, system: System) -> None:
        """Set it as it was."""
        system.sandbox.set_clock(system.setting.sandbox_skew)


@dataclass(frozen=True, slots=True)
class TokensEnd:
    """DingTalk revokes or expires all tokens."""

    how: str
    seconds: float = 0

    def begin(self, system: System) -> None:
        """End them."""
        end = system.sandbox.revoke_tokens if self.how == "revoke" else system.sandbox.expire_tokens
        end()

    def end(self, system: System) -> None:
        """Nothing: new ones are fetched."""


@dataclass(frozen=True, slots=True)
class CredentialsRefused:
    """DingTalk refuses the app's secret, and all of its tokens."""

    seconds: float

    def begin(self, system: System) -> None:
        """Change the secret at DingTalk."""
        system.put_app(secret="changed-at-dingtalk")
        system.sandbox.revoke_tokens()

    def end(self, system: System) -> None:
        """Change it back."""
        system.put_app()
