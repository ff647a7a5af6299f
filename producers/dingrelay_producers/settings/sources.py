"""Sources of settings beside the environment and `.env`, which pydantic-settings reads."""

import logging
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from dingrelay_producers.settings.apps import SettingsError, read_secret
from dingrelay_producers.settings.robots import dingtalk_variables, refuse_secrets
from dingrelay_tasks.sentence import en, of_library

GONE = {
    "dead_ttl": en(
        "dead jobs are kept for 30 days, or as long as DINGRELAY_RECORD_TTL says if that is longer"
    ),
    "max_attempts": en("DINGRELAY_RETRY_FOR says for how long a job that keeps failing is tried"),
    "max_deliveries": en("a job that has taken down three workers is dead"),
    "max_throttles": en("a job is dead after 200 throttled answers"),
    "presence_timeout": en("a worker that gives no sign of life for 6 s counts as gone"),
    "refresh_margin": en("a token is refreshed 600 s before its expiry"),
    "removal_share": en(
        "to mark more than 10 % of the people as left takes `sync --confirm-removals`"
    ),
    "wake_grace": en("it is DINGRELAY_LEASE, too"),
}
"""Settings of 0.2.0 that are no more → what holds instead."""

log = logging.getLogger("dingrelay")


@cache
def warn_of_gone(name: str, variable: str) -> None:
    """Say once a process that a setting changes nothing."""
    log.warning("%s: %s is no setting any more: %s", variable, name, GONE[name])


class _Source(PydanticBaseSettingsSource):
    """Settings as a whole: no field is asked for."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False


class GoneSource(_Source):
    """Nothing, and a warning of variables that set nothing any more."""

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        variables = os.environ.keys() | dotenv_values(".env").keys()
        for name in GONE:
            if (variable := f"DINGRELAY_{name.upper()}") in variables:
                warn_of_gone(name, variable)
        return {}


class AppsSource(_Source):
    """The apps' keys, secrets and agent ids, and robots' webhooks, from ``DINGTALK_*`` variables or `.env`."""

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        sections: dict[str, Any] = {}
        for (section, name, part), (variable, value) in dingtalk_variables().items():
            text = read_secret(variable, value) if variable.endswith("_FILE") else value
            sections.setdefault(section, {}).setdefault(name, {})[part] = text
        return sections


class SecretFilesSource(_Source):
    """``DINGRELAY_X_FILE`` for each secret setting ``DINGRELAY_X``: a file that holds it."""

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        secrets: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            variable = f"DINGRELAY_{name.upper()}_FILE"
            if field.annotation is SecretStr and (path := os.environ.get(variable)):
                secrets[name] = read_secret(variable, path)
        return secrets


class TomlSource(_Source):
    """The TOML file that ``DINGRELAY_CONFIG`` names. It may not hold secrets."""

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        path = os.environ.get("DINGRELAY_CONFIG")
        if not path:
            return {}
        import tomllib  # noqa: PLC0415  # most have no such file, and a command waits for nothing else

        text = ""
        try:
            text = Path(path).read_text("utf-8")
            content = tomllib.loads(text)
        except OSError as error:
            raise SettingsError(en("{}: {}", "DINGRELAY_CONFIG", error.strerror)) from None
        except UnicodeDecodeError:
            raise SettingsError(en("{}: must be text in UTF-8", "DINGRELAY_CONFIG")) from None
        except ValueError as error:
            what, _, place = str(error).partition(" (at ")
            line, column = re.findall(r"\d+", place) or (text.count("\n") + 1, 1)
            raise SettingsError(
                en(
                    "DINGRELAY_CONFIG: is not TOML: {} at line {}, column {}",
                    of_library(what),
                    line,
                    column,
                )
            ) from None
        refuse_secrets(content)
        for name in content.keys() & GONE.keys():
            warn_of_gone(name, "DINGRELAY_CONFIG")
        content = {name: value for name, value in content.items() if name not in GONE}
        unknown = sorted(content.keys() - self.settings_cls.model_fields.keys())
        if unknown:
            table = isinstance(content[unknown[0]], dict)
            # As the file spells it: a bare word would be translated.
            line = f"[{unknown[0]}]" if table else f"{unknown[0]} ="
            raise SettingsError(en("{}: no such setting (in DINGRELAY_CONFIG, {})", line, path))
        return content
