"""The applications that may call."""

from pydantic import BaseModel, Field

from dingrelay_sandbox.organisation import ROOT


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
    def visible(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Who sees the app: departments with all below them, and people."""
        if self.visible_departments is None and self.visible_users is None:
            return self.departments, self.users
        departments, users = self.visible_departments or (), self.visible_users or ()
        return (departments, users) if departments or users else ((ROOT,), ())

    @property
    def robot(self) -> str:
        """The code by which its robot is addressed."""
        return self.robot_code or self.app_key
