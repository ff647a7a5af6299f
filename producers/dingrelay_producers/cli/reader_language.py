"""Help and usage errors, which typer makes from English texts, in the reader's language."""

import re
import sys
from functools import cache
from typing import Any

import typer
import typer.core

from dingrelay_producers.language import tr, translated

TEXTS = ("help", "short_help", "epilog", "rich_help_panel", "show_default")
"""Attributes with help text of a command and its parameters."""

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
"""Texts that typer translates by gettext at import, and no others."""
OF_TYPER = (
    *_RICH.values(),
    "(dynamic)",
    "Aborted!",
    "default: {default}",
    "env var: {var}",
    "required",
    "Missing command.",
    "Install completion for the current shell.",
    "Show completion for the current shell, to copy it or customize the installation.",
)
"""Words of typer's own that it looks up itself, or that stand in the help of its options."""
USAGE_ERRORS = (
    "Missing option {hint}. {message}",
    "Missing option {hint}.",
    "Missing argument {hint}. {message}",
    "Missing argument {hint}.",
    "Missing parameter: {name}",
    "Missing command.",
    "Invalid value for {hint}: {message}",
    "Invalid value: {message}",
    "No such option: {name} (Possible options: {options})",
    "No such option: {name} Did you mean {options}?",
    "No such option: {name}",
    "No such command {name}. Did you mean {names}?",
    "No such command {name}.",
    "Got unexpected extra argument ({arguments})",
    "Got unexpected extra arguments ({arguments})",
    "Got unexpected extra argument(s) ({arguments})",
    "Option {name} requires an argument.",
    "Option {name} requires {number} arguments.",
    "Option {name} does not take a value.",
    "Argument {name} takes {number} values.",
    "Could not open file {name}: {message}",
    "{value} is not a valid integer.",
    "{value} is not a valid float.",
    "{value} is not a valid boolean.",
    "{value} is not one of {choices}.",
    "{value} is not in the range {range}.",
    "Directory {name} is a file.",
    "File {name} does not exist.",
    "Directory {name} does not exist.",
    "Choose from: {choices}",
    "Input should be a valid integer, unable to parse string as an integer",
    "Input should be a valid number, unable to parse string as a number",
    "Input should be a valid boolean, unable to interpret input",
    "Input should be greater than or equal to {bound}",
    "Input should be less than or equal to {bound}",
    "Input should be greater than {bound}",
    "Input should be less than {bound}",
    "Input should be {choices} or {last}",
    "Input should be {choice}",
    "'{name}': {message}",
    "not a rate such as 20/1s: {value}",
)
"""Errors that typer hands over as finished text only; of two that fit, the first counts."""

_USAGE = "Usage: "


def speak(command: Any, *, below: bool = True) -> None:
    """Give a command, and those below it, their texts in the language that is spoken."""
    for part in (command, *command.params):
        attributes = vars(part)
        english = attributes.setdefault(
            "_english",
            {name: attributes[name] for name in TEXTS if isinstance(attributes.get(name), str)},
        )
        attributes.update({name: tr(text) for name, text in english.items()})
        if hasattr(part, "display_type_rich"):
            attributes["display_type_rich"] = _values_of(type(part), part)
    vars(command).update(
        get_usage=_usage_of(type(command), command),
        get_help_option=_help_option_of(type(command), command),
    )
    for subcommand in getattr(command, "commands", {}).values() if below else ():
        speak(subcommand)


def speak_headings() -> None:
    """Name the parts of a help page in the language that is spoken.

    What has them is loaded by typer when it is first needed, which is before it asks for a usage line.
    """
    page = sys.modules.get("typer.rich_utils")
    if page is not None:
        allow_between_characters()
        vars(page).update({name: tr(text) for name, text in _RICH.items()})
    core: Any = typer.core
    vars(core)["_"] = tr  # gettext would go by the environment of the process


_OF_PYDANTIC = "Value error, "
"""A prefix of messages where typer has pydantic check a value, without use to the reader."""


def speak_error(error: Any) -> None:
    """Translate the message of a usage error."""
    message = _of_library(error.format_message().replace(_OF_PYDANTIC, ""))
    vars(error)["format_message"] = lambda: message


def _of_library(message: str) -> str:
    for template in USAGE_ERRORS:
        if match := _pattern(template).fullmatch(message):
            values = match.groupdict()
            if "message" in values:
                values["message"] = _of_library(values["message"])
            return tr(template).format(**values)
    return translated(message)


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+?)", re.escape(template)), re.DOTALL)


def _values_of(kind: Any, parameter: Any) -> Any:
    def display_type_rich(ctx: Any) -> Any:
        """The values, where they are named: that an option takes text or a number, its help says."""
        shown = kind.display_type_rich(parameter, ctx)
        return shown if shown and ("|" in shown or shown == parameter.metavar) else None

    return display_type_rich


def _help_option_of(kind: Any, command: Any) -> Any:
    def get_help_option(context: Any) -> Any:
        option = kind.get_help_option(command, context)
        if option is not None:
            option.help = tr("Show this message and exit.")
            vars(option)["display_type_rich"] = _values_of(type(option), option)
        return option

    return get_help_option


def _usage_of(kind: Any, command: Any) -> Any:
    def get_usage(context: Any) -> str:
        speak_headings()
        usage: str = kind.get_usage(command, context)
        return usage.replace(_USAGE, tr("Usage: "), 1)

    return get_usage


_WIDE = (
    r"\u2e80-\u2fff\u3003-\u3007\u3021-\u9fff\uf900-\ufaff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
)
_OPENING = "（「『“‘《〈【〔"
_CLOSING = "，。、；：？！）」』”’》〉】〕…—％"
_WORD = rf"\s*(?:[{_OPENING}]*(?:[{_WIDE}]|[^\s{_WIDE}{_OPENING}{_CLOSING}]+)[{_CLOSING}]*|\S)\s*"
"""A character, or what is written without blanks in another script, with the punctuation that may neither
begin nor end a line."""


def allow_between_characters() -> None:
    """Let rich begin a line with any Chinese character; without this it cuts a clause that is too long.

    To be called before rich prints: a script reads nothing of rich's.
    """
    from rich import _wrap

    # An attribute of rich's own. Should it go, lines end where rich likes.
    if hasattr(_wrap, "re_word"):
        _wrap.re_word = re.compile(_WORD)
