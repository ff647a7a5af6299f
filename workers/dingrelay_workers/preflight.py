"""What can be wrong with settings that only the workers understand."""

from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.limiter.rules import Rules


def check(settings: Settings) -> None:
    """Read the rules and the overrides of the error table once, before anything starts.

    Raises:
        SettingsError: names what cannot be read.
    """
    try:
        Rules.from_settings(settings.rules, settings.egress)
        Classifier(settings.codes)
    except ValueError as error:
        raise SettingsError(str(error)) from None
