"""Approval templates: the controls of their forms, and who approves (API §4.4, §11.8)."""

import tomllib
import zlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

TABLE = "TableField"


class Control(BaseModel, extra="forbid", frozen=True):
    """One control of a form.

    Attributes:
        label: what the form calls it; a date range has two labels, as a JSON list.
        type: DingTalk's name of the kind of control, such as ``NumberField``.
        required: whether a form without a value is refused.
        options: what a select offers; the only values that it takes.
        columns: the controls of a table's row.
        biz_alias: the name that an application may give it.
    """

    label: str
    type: str = "TextField"
    required: bool = False
    options: tuple[str, ...] = ()
    columns: tuple["Control", ...] = ()
    biz_alias: str = ""

    @property
    def id(self) -> str:
        """DingTalk's id of it: the kind and something that no one can guess."""
        return f"{self.type}_{zlib.crc32(self.label.encode()):08X}"


def _control(value: Any) -> Any:
    return {"label": value} if isinstance(value, str) else value


class Template(BaseModel, extra="forbid", frozen=True):
    """An approval template.

    Attributes:
        fields: the controls, a text field where a label alone is given; without any the template
            takes whatever form comes.
        approvers: whose consent its own flow asks for, one after the other; empty for the first
            person of the organisation.
        target_select: the steps of which the originator must choose the approvers, by their
            keys.
        revocable: whether an instance may be withdrawn.
    """

    process_code: str
    name: str = "审批"
    fields: tuple[Annotated[Control, BeforeValidator(_control)], ...] = ()
    approvers: tuple[str, ...] = ()
    target_select: tuple[str, ...] = ()
    revocable: bool = True


with Path(__file__).with_name("templates.toml").open("rb") as _file:
    DEFAULT_TEMPLATES = tuple(map(Template.model_validate, tomllib.load(_file)["template"]))
"""Templates of a new sandbox."""
