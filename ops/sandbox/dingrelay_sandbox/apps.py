"""The applications that may call."""

from pydantic import BaseModel, ConfigDict, Field


class App(BaseModel):
    """One DingTalk application.

    Attributes:
        organisation: the corpId; the monthly quota is counted by it. All share one directory.
        departments: what the app may see and reach: these and all below.
        users: people it may see and reach besides.
        hidden_fields: fields of people that it has no permission to read; they are absent.
        robot_code: the code of its robot; the app's key where none is given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    app_key: str = "sandbox-key"
    app_secret: str = Field(default="sandbox-secret", repr=False)
    agent_id: str = "1000001"
    organisation: str = "sandbox-corp"
    departments: tuple[int, ...] = (1,)
    users: tuple[str, ...] = ()
    hidden_fields: tuple[str, ...] = ()
    robot_code: str = ""

    @property
    def robot(self) -> str:
        """The code by which its robot is addressed."""
        return self.robot_code or self.app_key
