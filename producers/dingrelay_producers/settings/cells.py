"""Settings of cells: their names, their servers and their apps."""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dotenv import dotenv_values
from pydantic import BaseModel, SecretStr

from dingrelay_producers.redis_address import SCHEMES, RedisAddress
from dingrelay_producers.settings.apps import SettingsError, read_secret
from dingrelay_tasks.contract import AppName
from dingrelay_tasks.sentence import en

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
"""Name of a cell: its variables end with it, in capital letters."""
FILE = "_file"
"""How the variable of a file ends, so that no cell's name may."""
SERVERS = ("redis_url", "broker_url", "database_url")
HOME = "home"
"""Name used as the cell in the settings of servers that all cells share."""
POSTGRES_PORT = 5432
NAMED = 8
"""Cells that an error names."""


class CellSettings(BaseModel, extra="forbid", frozen=True, hide_input_in_errors=True):
    """One cell: a Redis, a broker, a database and a fleet of workers, for some of the apps.

    A URL with a password comes from the environment only: ``DINGRELAY_REDIS_URL_<CELL>`` and its like,
    or either with ``_FILE``.
    """

    redis_url: SecretStr = SecretStr("")
    """Like ``DINGRELAY_REDIS_URL``; no other cell may have the same."""
    broker_url: SecretStr = SecretStr("")
    """Like ``DINGRELAY_BROKER_URL``; the cell's Redis when empty."""
    database_url: SecretStr = SecretStr("")
    """Like ``DINGRELAY_DATABASE_URL``; a file of SQLite with the cell's name when empty."""
    apps: tuple[AppName, ...] = ()
    """The apps that are this cell's."""
    default: bool = False
    """Whether the apps that no cell names are this one's."""


def database(cell: str) -> str:
    """The URL of a cell's database where none is named."""
    return f"sqlite:///dingrelay-{cell}.db"


def owners(cells: Mapping[str, CellSettings]) -> tuple[dict[str, str], str]:
    """App → the cell that names it; and the cell that has all others, empty if none has.

    Raises:
        ValueError: two name an app, or are the default; the field is named.
    """
    owner: dict[str, str] = {}
    others = ""
    for name, cell in cells.items():
        for app in cell.apps:
            if app in owner:
                raise ValueError(
                    en("cells.{}.apps: {} is in cells.{} already", name, app, owner[app])
                )
            owner[app] = name
        if cell.default and others:
            raise ValueError(en("cells.{}.default: cells.{} is the default already", name, others))
        others = name if cell.default else others
    return owner, others


def check_cells(cells: Mapping[str, CellSettings]) -> None:
    """Check the cells' names, and that no two cells share an app or a server.

    URLs are validated with those of the other settings.

    Raises:
        ValueError: names the field that is wrong, and never what a URL is.
    """
    for name, cell in cells.items():
        if not NAME.fullmatch(name) or f"_{name}".endswith(FILE) or name == HOME:
            raise ValueError(
                en(
                    "cells.{:.40}: the name of a cell is up to 32 of a-z 0-9 _, begins with a "
                    "letter, does not end with file, and is not {}",
                    name,
                    HOME,
                )
            )
        if not cell.redis_url.get_secret_value():
            raise ValueError(en("cells.{}.redis_url: required", name))
        if not cell.apps and not cell.default:
            raise ValueError(en("cells.{}.apps: name some, or say default = true", name))
    owners(cells)
    for field in SERVERS:
        _check_apart(cells, field)


def _check_apart(cells: Mapping[str, CellSettings], field: str) -> None:
    """Two cells that shared a server would carry out each other's jobs, each with limits of its own."""
    owner: dict[tuple[Any, ...], str] = {}
    for name, cell in cells.items():
        defaults = {
            "redis_url": "",
            "broker_url": cell.redis_url.get_secret_value(),
            "database_url": database(name),
        }
        where = _where(getattr(cell, field).get_secret_value() or defaults[field])
        if where in owner:
            raise ValueError(en("cells.{}.{}: is that of cells.{}", name, field, owner[where]))
        owner[where] = name


def _where(url: str) -> tuple[Any, ...]:
    """The identity of a server: equal for all its URLs, whatever their schemes, passwords and options."""
    scheme = url.partition("://")[0].lower()
    if scheme in SCHEMES:
        address = RedisAddress.parse(url)
        hosts = sorted((host.lower(), port) for host, port in address.hosts)
        return "redis", tuple(hosts), address.path, address.master, address.database
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return ("other", url)
    if scheme.startswith("postgresql"):
        query = parse_qs(parts.query)
        host = host or query.get("host", [""])[0]
        return "postgresql", host, port or POSTGRES_PORT, parts.path.strip("/")
    return scheme, host, port, parts.path


def read_urls(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a TOML file with the URLs that the environment, or `.env`, has for them.

    Args:
        cells: as the file has them.

    Raises:
        SettingsError: the file has a password, or a file of a secret can't be read; the field is named.
    """
    variables = {**dotenv_values(".env"), **os.environ}
    found: dict[str, Any] = {}
    for name, given in cells.items():
        if not isinstance(given, Mapping):
            found[name] = given
            continue
        cell = dict(given)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        for field in SERVERS:
            variable = f"DINGRELAY_{field.upper()}_{name.upper()}"
            if _has_password(cell.get(field)):
                raise SettingsError(
                    en(
                        "cells.{}.{}: a password comes from the environment only, in {}",
                        name,
                        field,
                        variable,
                    )
                )
            if path := variables.get(f"{variable}_FILE"):
                cell[field] = read_secret(f"{variable}_FILE", path)
            if url := variables.get(variable):
                cell[field] = url
        found[name] = cell
    return found


def _has_password(url: Any) -> bool:
    text = url if isinstance(url, str) else ""
    return bool(re.search(r"://[^/]*:[^/]*@|[?&;]\w*password=", text))
