"""The applications of DingTalk, and the variables that their keys and secrets come from."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

from dotenv import dotenv_values
from pydantic import BaseModel, ModelWrapValidatorHandler, PrivateAttr, SecretStr, model_validator

from dingrelay_tasks.contract import APP_NAME
from dingrelay_tasks.sentence import en

DEFAULT_APP = ORGANISATION = "default"
_TEXT = (str, SecretStr)
APP_SECRETS = ("app_secret", "callback_token", "callback_aes_key")
"""Fields of an app that come from the environment only."""
APP_VARIABLE = re.compile(
    r"DINGTALK_(APP_KEY|APP_SECRET|AGENT_ID|CORP_ID|CALLBACK_TOKEN|CALLBACK_AES_KEY)"
    r"(?:_([A-Z0-9_]+))?"
)
AGENT_ID_VARIABLE = re.compile(r"DINGTALK_AGENT_ID(_[A-Z0-9_]+)?")
CALLBACK_TOKEN = re.compile(r"[0-9A-Za-z]{3,32}")
CALLBACK_AES_KEY = re.compile(r"[0-9A-Za-z+/]{43}")
"""The form in which DingTalk's console makes AES keys (API §7.1)."""


class SettingsError(ValueError):
    """A setting is missing or wrong. The message names the variable and never its value."""


def read_secret(variable: str, path: str) -> str:
    """The content of the file that a variable names, stripped of blanks.

    Raises:
        SettingsError: it can't be read; names the variable.
    """
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError as error:
        raise SettingsError(en("{}: {}", variable, error.strerror)) from None
    except UnicodeDecodeError:
        raise SettingsError(en("{}: must be text in UTF-8", variable)) from None


class _App(BaseModel, extra="forbid", frozen=True):
    agent_id: str = ""
    organisation: str = ORGANISATION
    """Apps of one organisation share its monthly quota."""
    corp_id: str = ""
    """The organisation's id at DingTalk; callbacks that were registered through its API end with it."""


class App(_App, frozen=True):
    """One DingTalk application with its key and secrets, as `CurrentApps` hands it out.

    Secrets come from the environment only: ``DINGTALK_APP_SECRET`` for the app ``default``,
    ``DINGTALK_APP_SECRET_<NAME>`` for another, or either with ``_FILE`` for a file that holds it.
    """

    app_key: SecretStr = SecretStr("")
    app_secret: SecretStr = SecretStr("")
    callback_token: SecretStr = SecretStr("")
    """Signs the events that DingTalk pushes over HTTP; empty: none are taken."""
    callback_aes_key: SecretStr = SecretStr("")
    """Encrypts them."""

    @property
    def has_callback(self) -> bool:
        """Whether events over HTTP are taken."""
        return bool(self.callback_token.get_secret_value())

    @cached_property
    def credentials(self) -> str:
        """A digest that identifies this key and secret."""
        pair = f"{self.app_key.get_secret_value()}\n{self.app_secret.get_secret_value()}"
        return hashlib.sha256(pair.encode()).hexdigest()[:16]


_ROTATED = App.model_fields.keys() - _App.model_fields.keys()


class AppSettings(_App, frozen=True):
    """One DingTalk application, without its key and secrets.

    Those are taken as well, and are in no field: they are rotated while a process runs, and only
    `CurrentApps` has the present ones.
    """

    _at_start: App = PrivateAttr(default_factory=App)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_apart(cls, app_settings: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(app_settings, Mapping):
            return handler(app_settings)
        fields = cast("Mapping[str, Any]", app_settings)
        rotated = {name: fields[name] for name in fields.keys() & _ROTATED}
        if wrong := [name for name, text in rotated.items() if not isinstance(text, _TEXT)]:
            raise ValueError(en("{}: must be a text", wrong[0]))
        app = handler({name: fields[name] for name in fields if name not in rotated})
        # pyright takes a private attribute for a field, which is frozen.
        app._at_start = App.model_validate({**app.model_dump(), **rotated})  # pyright: ignore[reportAttributeAccessIssue]  # noqa: SLF001
        return app

    @property
    def has_callback(self) -> bool:
        """Whether events over HTTP are taken."""
        return self._at_start.has_callback


def at_start(apps: Mapping[str, AppSettings]) -> dict[str, App]:
    """The apps with the keys and secrets that they had when the process started: for `CurrentApps`."""
    return {name: app._at_start for name, app in apps.items()}  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def complete_app(apps: Mapping[str, App], name: str) -> App:
    """The app of that name.

    Raises:
        SettingsError: there is none, or its key or secret is missing.
    """
    app = apps.get(name)
    if app is None:
        raise SettingsError(en("apps.{}: no such app is configured", name))
    suffix = _suffix(name)
    for variable, value in (("KEY", app.app_key), ("SECRET", app.app_secret)):
        if not value.get_secret_value():
            # Not with a colon: what follows the name of a secret like that is hidden in logs.
            raise SettingsError(en("DINGTALK_APP_{}{} is required", variable, suffix))
    return app


def check_apps(apps: Mapping[str, App]) -> None:
    """Whether the apps' keys and callbacks make sense together.

    Raises:
        ValueError: names the variable that is wrong.
    """
    _check_app_keys(apps)
    for name, app in sorted(apps.items()):
        if not APP_NAME.fullmatch(name):
            raise ValueError(en("apps.{}: must be letters, digits, - and _", name))
        _check_callback(name, app)


def _check_app_keys(apps: Mapping[str, App]) -> None:
    """DingTalk counts by app key, and limits, daily limits and token are kept by the app's name."""
    names: dict[str, str] = {}
    for name, app in sorted(apps.items()):
        key = app.app_key.get_secret_value()
        if key and key in names:
            raise ValueError(
                en("apps.{}.app_key: is that of apps.{}; name an app once", name, names[key])
            )
        names[key] = name


def _check_callback(name: str, app: App) -> None:
    """Events over HTTP need both secrets and the app's key."""
    token, aes_key = app.callback_token.get_secret_value(), app.callback_aes_key.get_secret_value()
    suffix = _suffix(name)
    if token and not CALLBACK_TOKEN.fullmatch(token):
        raise ValueError(
            en("DINGTALK_CALLBACK_TOKEN{}: must be 3 to 32 letters and digits", suffix)
        )
    if aes_key and not CALLBACK_AES_KEY.fullmatch(aes_key):
        raise ValueError(en("DINGTALK_CALLBACK_AES_KEY{}: must be 43 letters and digits", suffix))
    if bool(token) != bool(aes_key):
        missing = "AES_KEY" if token else "TOKEN"
        raise ValueError(
            en("DINGTALK_CALLBACK_{}{}: required with the other of the two", missing, suffix)
        )
    if token and not app.app_key.get_secret_value():
        raise ValueError(en("DINGTALK_APP_KEY{}: required for callbacks", suffix))


def app_variables() -> dict[tuple[str, str], tuple[str, str]]:
    """App and field → the variable that counts for it, and its value."""
    return {
        ((name or DEFAULT_APP).lower(), part.lower()): variable
        for (part, name), variable in variables(APP_VARIABLE)
    }


def variables(pattern: re.Pattern[str]) -> Iterator[tuple[tuple[str, ...], tuple[str, str]]]:
    """The groups of each variable of this pattern, or with ``_FILE`` behind it, and the variable with its value."""
    for variable, value in {**dotenv_values(".env"), **os.environ}.items():
        match = pattern.fullmatch(variable.removesuffix("_FILE"))
        if match and value:
            yield match.groups(), (variable, value)


def refuse_empty_agent_ids() -> None:
    """An agent id that is not set may not be needed; one that is set to nothing was forgotten.

    Raises:
        SettingsError: names the variable.
    """
    for variable, value in {**dotenv_values(".env"), **os.environ}.items():
        if AGENT_ID_VARIABLE.fullmatch(variable) and not value:
            raise SettingsError(
                en("{}: is empty; DingTalk's developer console shows it with the app", variable)
            )


def _suffix(app: str) -> str:
    """Suffix of an app's variables."""
    return "" if app == DEFAULT_APP else f"_{app.upper()}"
