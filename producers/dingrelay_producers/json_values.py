"""Python's values as JSON has them."""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any


def json_values(value: Any) -> Any:
    """A value, such as a dataclass: moments as ISO 8601, sets as sorted lists, enums by their values."""
    if is_dataclass(value) and not isinstance(value, type):
        return json_values(asdict(value))
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {json_values(name): json_values(each) for name, each in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [json_values(each) for each in value]
    return value
