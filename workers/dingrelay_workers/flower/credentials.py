"""Credentials for Flower: the user and password that it asks for."""

from dingrelay_producers.settings import LOOPBACK, Settings, SettingsError


def flower_credentials(settings: Settings, *, address: str) -> list[str]:
    """The allowed user, as ``user:password``; empty in a sandbox, where access is open.

    Raises:
        SettingsError: a password is needed and not set, or Flower can't compare it.
    """
    user, password = settings.flower_user, settings.flower_password.get_secret_value()
    if not password:
        if settings.env == "sandbox" and address in LOOPBACK:
            return []
        raise SettingsError(
            "DINGRELAY_FLOWER_PASSWORD: required, except in the sandbox on a loopback address"
        )
    if not user or ":" in user or not user.isascii():
        raise SettingsError("DINGRELAY_FLOWER_USER: must be ASCII and without a colon")
    if not password.isascii():
        raise SettingsError("DINGRELAY_FLOWER_PASSWORD: must be ASCII, others Flower can't compare")
    return [f"{user}:{password}"]
