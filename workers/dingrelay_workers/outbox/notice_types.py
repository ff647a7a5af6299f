"""The types of notices that business applications can subscribe to. Each noun declares its own (`Noun.notices`)."""

import re
from collections.abc import Collection, Mapping

from dingrelay_workers.noun import Family
from dingrelay_workers.nouns import NOUNS

FAMILIES: Mapping[str, Family] = {
    name: family for noun in NOUNS for name, family in noun.notices.items()
}
"""First word of a type → its family."""

TYPES: tuple[str, ...] = tuple(
    f"{name}.{type_}" for name, family in FAMILIES.items() for type_ in family.types
)
"""Every type but those of DingTalk's events, of which DingTalk makes the list."""

TEST = "webhook.test"
"""Sent on request only, whatever an endpoint subscribed to."""

DINGTALK = "dingtalk."
"""Begins the type of a notice that passes on an event of DingTalk's, such as
``dingtalk.user_add_org``."""

EVENT_TYPE = re.compile(r"^[A-Za-z0-9_.:-]{1,100}$", re.ASCII)
"""DingTalk's event types are words such as ``bpms_instance_change`` (API §7.1)."""


def is_type(name: str) -> bool:
    """Whether notices of this type may be written."""
    if name.startswith(DINGTALK):
        return EVENT_TYPE.fullmatch(name.removeprefix(DINGTALK)) is not None
    return name in TYPES or name == TEST


def families(pattern: str) -> Collection[Family | None]:
    """The families of which a subscription takes notices. None is one that another release knows."""
    return FAMILIES.values() if pattern == "*" else [FAMILIES.get(pattern.partition(".")[0])]


def has_sender(name: str) -> bool:
    """Whether notices of this type have a sender."""
    return any(family and family.has_sender for family in families(name))


def matches(pattern: str, name: str) -> bool:
    """Whether a subscription to `pattern` takes notices of this type.

    A pattern is a type, or ends in ``.*`` for all that begin so, or is ``*`` for all.
    """
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return name.startswith(pattern[:-1])
    return pattern == name
