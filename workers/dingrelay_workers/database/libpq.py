"""PostgreSQL's URLs, read by libpq itself: with several hosts, sockets, and all of its own parameters."""

import os
from typing import Any

from dingrelay_producers.settings import SettingsError
from dingrelay_tasks.sentence import en

PREPARED = "prepared_statements"
"""Our own parameter: ``off``, or ``auto``, which is also what holds without it."""
KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""Seconds, seconds and probes: how libpq notices a server that the network has lost. The system's default is hours."""
HOST_SECONDS = 2
"""Seconds for a connection to each of several hosts, libpq's least: one that is silent must not keep us from the next."""


def parameters(url: str) -> dict[str, Any]:
    """The arguments of `psycopg.connect`.

    Args:
        url: ``postgresql://…``.

    Raises:
        SettingsError: libpq can't read it; the text holds nothing of the URL, which may have a password.
        ModuleNotFoundError: the driver is not installed.
    """
    # It is an extra, and loads libpq.
    from psycopg import ProgrammingError  # noqa: PLC0415
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    address, _, query = url.partition("?")
    # A plus is a space there, as in 0.2.0 and in forms; libpq decodes no more than "%20".
    options = query.replace("+", "%20").split("&") if query else []
    prepared = [option.partition("=")[2] for option in options if option.startswith(f"{PREPARED}=")]
    if not {*prepared} <= {"auto", "off"}:
        raise SettingsError(en("DINGRELAY_DATABASE_URL: {} must be auto or off", PREPARED))
    libpq_options = [option for option in options if not option.startswith(f"{PREPARED}=")]
    try:
        arguments: dict[str, Any] = dict(conninfo_to_dict(f"{address}?{'&'.join(libpq_options)}"))
    except ProgrammingError:
        arguments = {"port": "unreadable"}
    hosts, ports = (arguments.get(name, "").split(",") for name in ("host", "port"))
    if any(port and not port.isdecimal() for port in ports) or len(ports) not in {1, len(hosts)}:
        raise SettingsError(
            en(
                "DINGRELAY_DATABASE_URL: is no URL of PostgreSQL's: "
                "postgresql://user:password@host:port,host:port/database?parameter=value"
            )
        )
    if len(hosts) > 1 and "PGCONNECT_TIMEOUT" not in os.environ:
        arguments.setdefault("connect_timeout", HOST_SECONDS)
    if "off" in prepared:
        arguments["prepare_threshold"] = None
    return KEEPALIVE | arguments
