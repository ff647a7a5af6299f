"""Help and usage errors, which typer makes from English texts, in the reader's language."""

import re
import sys
from gettext import gettext
from typing import Any

from rich import _wrap

from dingrelay_producers.language import tr, translated

TEXTS = ("help", "short_help", "epilog", "rich_help_panel", "show_default")
"""What a command, and each of its parameters, shows a person."""

_RICH = {
    "DEPRECATED_STRING": "(deprecated) ",
    "DEFAULT_STRING": "[default: {}]",
    "ENVVAR_STRING": "[env var: {}]",
    "REQUIRED_LONG_STRING": "[required]",
    "ARGUMENTS_PANEL_TITLE": "Arguments",
    "OPTIONS_PANEL_TITLE": "Options",
    "COMMANDS_PANEL_TITLE": "Commands",
    "ERRORS_PANEL_TITLE": "Error",
    "ABORTED_TEXT": "Aborted.",
    "RICH_HELP": "Try [blue]'{command_path} {help_option}'[/] for help.",
}
"""What typer asks gettext for when it is imported, and no more."""

_USAGE = "Usage: "


def speak(command: Any, *, below: bool = True) -> None:
    """Give a command, and those below it, their texts in the language that is spoken."""
    for part in (command, *command.params):
        own = vars(part)
        english = own.setdefault(
            "_english", {name: own[name] for name in TEXTS if isinstance(own.get(name), str)}
        )
        own.update({name: tr(text) for name, text in english.items()})
    vars(command).update(
        get_usage=_usage_of(type(command), command),
        get_help_option=_help_option_of(type(command), command),
    )
    for each in getattr(command, "commands", {}).values() if below else ():
        speak(each)


def speak_headings() -> None:
    """Name the parts of a help page in the language that is spoken."""
    page = sys.modules.get("typer.rich_utils")
    if page is not None:  # else it asks gettext itself once it is needed
        vars(page).update({name: gettext(text) for name, text in _RICH.items()})


_OF_PYDANTIC = "Value error, "
"""A prefix of messages where typer has pydantic check a value, without use to the reader."""


def speak_error(error: Any) -> None:
    """Translate the message of a usage error."""
    message = translated(error.format_message().replace(_OF_PYDANTIC, ""))
    vars(error)["format_message"] = lambda: message


def _help_option_of(kind: Any, command: Any) -> Any:
    def get_help_option(context: Any) -> Any:
        option = kind.get_help_option(command, context)
        if option is not None:
            option.help = tr("Show this message and exit.")
        return option

    return get_help_option


def _usage_of(kind: Any, command: Any) -> Any:
    def get_usage(context: Any) -> str:
        usage: str = kind.get_usage(command, context)
        return usage.replace(_USAGE, tr("Usage: "), 1)

    return get_usage


_WIDE = (
    r"\u2e80-\u2fff\u3003-\u3007\u3021-\u9fff\uf900-\ufaff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
)
_OPENING = "（「『“‘《〈【〔"
_CLOSING = "，。、；：？！）」』”’》〉】〕…—％"
_WORD = re.compile(
    rf"\s*(?:[{_OPENING}]*(?:[{_WIDE}]|[^\s{_WIDE}{_OPENING}{_CLOSING}]+)[{_CLOSING}]*|\S)\s*"
)
"""A character, or what is written without blanks in another script, with the punctuation that may neither
begin nor end a line."""


def allow_between_characters() -> None:
    """Let rich begin a line with any Chinese character; without this it cuts a clause that is too long."""
    # An attribute of rich's own. Should it go, lines end where rich likes.
    if hasattr(_wrap, "re_word"):
        _wrap.re_word = _WORD
