"""Where settings come from, beside the environment and `.env`, which pydantic-settings reads."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from dingrelay_producers.settings.apps import APP_SECRETS, app_variables
from dingrelay_producers.settings.cells import read_urls
from dingrelay_producers.settings.errors import SettingsError
from dingrelay_producers.settings.secret_files import read_secret


class AppsSource(PydanticBaseSettingsSource):
    """The apps' keys, secrets and agent ids from ``DINGTALK_*`` in the environment or `.env`."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: D102
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        apps: dict[str, dict[str, str]] = {}
        for (name, part), (variable, value) in app_variables().items():
            text = read_secret(variable, value) if variable.endswith("_FILE") else value
            apps.setdefault(name, {})[part] = text
        return {"apps": apps} if apps else {}


class SecretFilesSource(PydanticBaseSettingsSource):
    """``DINGRELAY_X_FILE`` for each secret setting ``DINGRELAY_X``: a file that holds it."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: D102
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        found: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            variable = f"DINGRELAY_{name.upper()}_FILE"
            if field.annotation is SecretStr and (path := os.environ.get(variable)):
                found[name] = read_secret(variable, path)
        return found


class TomlSource(PydanticBaseSettingsSource):
    """The TOML file that ``DINGRELAY_CONFIG`` names. It may not hold secrets."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: D102
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        path = os.environ.get("DINGRELAY_CONFIG")
        if not path:
            return {}
        try:
            content = tomllib.loads(Path(path).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"DINGRELAY_CONFIG: {type(error).__name__}: {error}") from None
        for name, app in content.get("apps", {}).items():
            for secret in APP_SECRETS:
                if secret in app:
                    raise SettingsError(
                        f"apps.{name}.{secret}: secrets come from the environment only"
                    )
        content.pop("max_attempts", None)  # of 0.2.0, which counted how often a job failed
        unknown = sorted(content.keys() - self.settings_cls.model_fields.keys())
        if unknown:
            raise SettingsError(f"{unknown[0]}: no such setting (in DINGRELAY_CONFIG)")
        if isinstance(cells := content.get("cells"), Mapping):
            try:
                content["cells"] = read_urls(cells)
            except SettingsError:
                raise
            except ValueError as error:
                raise SettingsError(str(error)) from None
        return content
