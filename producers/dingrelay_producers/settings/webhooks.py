"""What the settings say of webhooks."""

import ipaddress
from typing import TYPE_CHECKING

from dingrelay_producers.settings.errors import SettingsError

if TYPE_CHECKING:
    from dingrelay_producers.settings.settings import Settings

SHORTEST_WEBHOOK_KEY = 32
SANDBOX_WEBHOOK_KEY = "the-webhook-key-of-sandboxes-and-tests"
"""Outside production a webhook needs no setting; its secrets are then no secrets."""


def keys(settings: "Settings") -> tuple[str, ...]:
    """What the secrets of webhooks are made from, the newest first.

    Raises:
        SettingsError: none is configured, in production.
    """
    configured = _listed(settings.webhook_key.get_secret_value())
    if configured:
        return configured
    if settings.env != "production":
        return (SANDBOX_WEBHOOK_KEY,)
    raise SettingsError(
        "DINGRELAY_WEBHOOK_KEY: required for webhooks; make one with `openssl rand -hex 32`"
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def check(settings: "Settings") -> None:
    """Refuse what webhooks can't do with.

    Raises:
        ValueError: names the variable.
    """
    if any(
        len(key) < SHORTEST_WEBHOOK_KEY for key in _listed(settings.webhook_key.get_secret_value())
    ):
        raise ValueError(
            f"DINGRELAY_WEBHOOK_KEY: must be {SHORTEST_WEBHOOK_KEY} characters or more"
        )
    for network in _listed(settings.webhook_networks):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError(
                "DINGRELAY_WEBHOOK_NETWORKS: must be networks such as 10.0.0.0/8, comma-separated"
            ) from None
    if settings.call_timeout >= settings.job_timeout:
        raise ValueError("DINGRELAY_CALL_TIMEOUT: must be shorter than DINGRELAY_JOB_TIMEOUT")
