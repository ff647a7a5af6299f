"""The form of an approval: what is submitted, and what comes back (API §4.4, §11.1)."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dingrelay_sandbox.answers import Refusal
from dingrelay_sandbox.approvals import Form, Instance
from dingrelay_sandbox.form_values import FormError, check_form, control_of, spell
from dingrelay_sandbox.organisation import Organisation
from dingrelay_sandbox.state import SandboxState
from dingrelay_sandbox.templates import Template

LONGEST_VALUE = 65_535


@dataclass(frozen=True, slots=True)
class Component:
    """One control of an answer. `extra` is the JSON text of what stands beside the value."""

    id: str
    name: str
    type: str
    value: str
    extra: str | None = None
    biz_alias: str = ""


def read_form(
    state: SandboxState,
    components: Sequence[Mapping[str, Any]],
    template: Template,
    most: int,
    refused: Callable[[str], Refusal],
) -> Form:
    """The form: known controls, each once, with values that are texts and that the controls take.

    Args:
        state: who and what a form may name.
        components: as they came.
        template: what the form belongs to.
        most: how many controls a form may have.
        refused: the refusal for the control with this label.
    """
    if not components or len(components) > most:
        raise refused("")
    form: dict[str, str] = {}
    for component in components:
        name, value = component.get("name"), component.get("value")
        if not isinstance(name, str):
            raise refused("")
        if not isinstance(value, str) or len(value) > LONGEST_VALUE or name in form:
            raise refused(name)
        form[name] = value
    if template.fields:
        try:
            check_form(template.fields, form, state)
        except FormError as error:
            raise refused(error.label) from None
    return tuple(form.items())


def spelled_form(instance: Instance, organisation: Organisation) -> Iterator[Component]:
    """The form as DingTalk tells it: every control of the template, empty ones as ``"null"``."""
    submitted = dict(instance.request.form)
    controls = instance.request.template.fields
    if not controls:
        controls = tuple(control_of(name, value) for name, value in submitted.items())
    for control in controls:
        spelled = spell(control, submitted.get(control.label), organisation)
        extra = None if spelled.extra is None else json.dumps(spelled.extra, ensure_ascii=False)
        alias = control.biz_alias
        yield Component(control.id, control.label, control.type, spelled.value, extra, alias)
