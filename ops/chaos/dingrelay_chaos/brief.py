"""Values of a schedule as short text: what is as usual is left out."""

from dataclasses import MISSING, fields, is_dataclass
from typing import Any


def brief(value: Any) -> str:
    """A frozen value without the fields that have their defaults."""
    if not is_dataclass(value) or isinstance(value, type):
        return str(value)
    shown = [_field(value, each) for each in fields(value)]
    return f"{type(value).__name__}({', '.join(filter(None, shown))})"


def _field(value: Any, field: Any) -> str:
    held = getattr(value, field.name)
    usual = field.default_factory() if field.default_factory is not MISSING else field.default
    if held == usual:
        return ""
    if isinstance(held, tuple) and held and is_dataclass(held[0]):
        return f"{field.name}=[{', '.join(brief(each) for each in held)}]"
    if isinstance(held, tuple) and all(isinstance(each, str) for each in held):
        return f"{field.name}={','.join(held)}"
    return f"{field.name}={held!r}"
