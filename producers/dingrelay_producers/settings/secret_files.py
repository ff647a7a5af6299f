"""Secrets that are in files, which a variable names."""

from pathlib import Path

from dingrelay_producers.settings.errors import SettingsError


def read_secret(variable: str, path: str) -> str:
    """What the file that a variable names holds, without blanks around it.

    Raises:
        SettingsError: it can't be read; names the variable.
    """
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{variable}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{variable}: must be text in UTF-8") from None
