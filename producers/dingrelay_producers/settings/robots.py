"""Robots and the groups that they post to; their webhooks and secrets come from the environment (API §2.8, §12)."""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, Field, SecretStr

from dingrelay_producers.settings.apps import (
    APP_SECRETS,
    ORGANISATION,
    SettingsError,
    app_variables,
    variables,
)
from dingrelay_tasks.contract import APP_NAME, ContractError
from dingrelay_tasks.robot_names import DISTINCT, WEBHOOK, TargetKind, robot_digest
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_tasks.robot_message import RobotMessage

ROBOT_VARIABLE = re.compile(r"DINGTALK_ROBOT_([A-Z0-9_]+)_(WEBHOOK|SECRET)")
SECRETS = {"apps": APP_SECRETS, "robots": ("webhook", "secret")}
"""Fields of an app and of a robot that come from the environment only."""
WEBHOOK_PATH = "/robot/send"
DINGTALK_HOST = re.compile(r"(?:[a-z0-9-]+\.)*dingtalk\.com", re.IGNORECASE)


class RobotSettings(BaseModel, extra="forbid", frozen=True):
    """One robot: a custom one with a webhook, or the robot of an app.

    Attributes:
        webhook: the URL that DingTalk gave it, from ``DINGTALK_ROBOT_<NAME>_WEBHOOK``; it holds the token.
        secret: signs its calls, from ``DINGTALK_ROBOT_<NAME>_SECRET``.
        app: the app of an enterprise robot.
        code: its robotCode.
        organisation: whose month the messages of a webhook count for.
        calls: limit of a webhook that other programs use too, such as ``10/60s``.
        month: messages that a webhook may post in a month; None for any number.
    """

    webhook: SecretStr = SecretStr("")
    secret: SecretStr = SecretStr("")
    app: str = ""
    code: str = ""
    organisation: str = ORGANISATION
    calls: Annotated[str, Field(pattern=r"^(?:[1-9]\d*/\d*[smh])?$")] = ""
    month: Annotated[int, Field(gt=0)] | None = None

    @cached_property
    def token(self) -> str:
        """The token in its webhook; empty for an enterprise robot."""
        tokens = parse_qs(urlsplit(self.webhook.get_secret_value()).query).get("access_token", [""])
        return tokens[0]

    @property
    def rule(self) -> str:
        """The name of its webhook's limits."""
        return f"{WEBHOOK}@{robot_digest(self.token)[:DISTINCT]}"

    @property
    def kind(self) -> TargetKind:
        """The kind of target: decides which of DingTalk's APIs posts to it."""
        return "enterprise" if self.code else "webhook"


class GroupSettings(BaseModel, extra="forbid", frozen=True):
    """One group.

    Attributes:
        robots: that are in it; webhooks share its messages, of an enterprise robot there is one.
        conversation: its openConversationId, which an enterprise robot posts to.
    """

    robots: Annotated[tuple[str, ...], Field(min_length=1, max_length=50)]
    conversation: str = ""


def limits_of(robots: Mapping[str, RobotSettings]) -> dict[str, dict[str, str]]:
    """The limits of single robots, as rules."""
    limited = (robot for robot in robots.values() if robot.calls and robot.token)
    return {robot.rule: {"calls": robot.calls} for robot in limited}


def dingtalk_variables() -> dict[tuple[str, str, str], tuple[str, str]]:
    """``apps`` or ``robots``, name and field → the variable that counts for it, and its value."""
    by_place = {("apps", *place): variable for place, variable in app_variables().items()}
    for (name, part), variable in variables(ROBOT_VARIABLE):
        by_place["robots", name.lower(), part.lower()] = variable
    return by_place


def secret_files() -> dict[tuple[str, str, str], tuple[str, str]]:
    """The same for the keys and secrets that are in files."""
    return {
        (section, name, part): (variable, path)
        for (section, name, part), (variable, path) in dingtalk_variables().items()
        if variable.endswith("_FILE") and part in {"app_key", *SECRETS[section]}
    }


def refuse_secrets(content: Mapping[str, Any]) -> None:
    """Refuse secrets of apps and robots in a file of settings.

    Raises:
        SettingsError: names the setting; also where apps or robots are no tables.
    """
    for section, secrets in SECRETS.items():
        tables = content.get(section, {})
        if not isinstance(tables, dict) or not all(
            isinstance(table, dict) for table in tables.values()
        ):
            raise SettingsError(en("{}: must be tables, one for each name", section))
        for name, table in tables.items():
            for secret in secrets:
                if secret in table:
                    setting = f"{section}.{name}.{secret}"
                    raise SettingsError(en("{}: secrets come from the environment only", setting))


def check_robots(
    robots: Mapping[str, RobotSettings], groups: Mapping[str, GroupSettings], oapi_url: str
) -> None:
    """Whether robots and groups make sense together, as far as this process has their secrets.

    Raises:
        ValueError: names the setting that is wrong, and never a webhook.
    """
    for name, robot in robots.items():
        if not APP_NAME.fullmatch(name):
            raise ValueError(en("robots.{}: must be letters, digits, - and _", name))
        if bool(robot.app) != bool(robot.code):
            raise ValueError(en("robots.{}: app and code are given together", name))
        if robot.webhook.get_secret_value():
            if robot.code:
                raise ValueError(en("robots.{}: has either a webhook, or app and code", name))
            _check_webhook(webhook_variable(name), robot, oapi_url)
    for name, group in groups.items():
        enterprise = [robot for robot in group.robots if robot in robots and robots[robot].code]
        if group.conversation and (len(group.robots), len(enterprise)) != (1, 1):
            raise ValueError(en("groups.{}: a conversation has one enterprise robot", name))
        if not group.conversation and enterprise:
            raise ValueError(en("groups.{}: {} needs the conversation's id", name, enterprise[0]))


def missing_webhooks(
    robots: Mapping[str, RobotSettings], groups: Mapping[str, GroupSettings]
) -> list[str]:
    """The variables of the webhooks that the process which posts needs and does not have."""
    names = {*robots, *(robot for group in groups.values() for robot in group.robots)}
    return [
        webhook_variable(name)
        for name in sorted(names)
        if name not in robots or not (robots[name].code or robots[name].token)
    ]


def webhook_variable(robot: str) -> str:
    """The variable of a robot's webhook."""
    return f"DINGTALK_ROBOT_{robot.upper()}_WEBHOOK"


def _check_webhook(variable: str, robot: RobotSettings, oapi_url: str) -> None:
    try:
        url = urlsplit(robot.webhook.get_secret_value())
        host, dingtalk_host = url.hostname or "", urlsplit(oapi_url).hostname
    except ValueError:
        raise ValueError(en("{}: must be a URL", variable)) from None
    if url.path != WEBHOOK_PATH or not robot.token:
        raise ValueError(en("{}: must be the URL that DingTalk shows for the robot", variable))
    if host != dingtalk_host and not DINGTALK_HOST.fullmatch(host):
        raise ValueError(en("{}: must be at DingTalk's host", variable))


def check_robot_message(
    job: "RobotMessage", robots: Mapping[str, RobotSettings], groups: Mapping[str, GroupSettings]
) -> None:
    """Refuse a message that its target can't have, as far as these settings know the target.

    Raises:
        ContractError: names the field.
    """
    to = job.to
    if to.group is not None:
        names = groups[to.group].robots if to.group in groups else ()
    else:
        names = (to.robot or "",)
    for name in names:
        if name not in robots:
            continue  # the workers may know it
        kind = robots[name].kind
        if to.users is not None and kind == "webhook":
            raise ContractError("to.robot", "a webhook can't reach single people")
        if to.group is None and to.users is None and kind == "enterprise":
            raise ContractError("to.robot", "an enterprise robot needs users or a group")
        if job.confirm and kind == "webhook":
            raise ContractError("confirm", "is for enterprise robots")
        job.check_for(kind)
