"""Fields of forms that follow from what is said with a verb."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, get_args

from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from dingrelay_producers.language import tr
from dingrelay_producers.zone import zone
from dingrelay_tasks.contract import Document
from dingrelay_workers.console.declared import FormValues
from dingrelay_workers.console.visit import BadFilter, text_of


class VerbField(NamedTuple):
    """A field of a form.

    Attributes:
        name: of the model's field.
        kind: type of the input, in HTML.
        label: for people, in English.
    """

    name: str
    kind: str
    label: str
    required: bool


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone())


_INPUTS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    str: ("text", str),
    int: ("number", int),
    AwareDatetime: ("datetime-local", _moment),
}
"""Type of a field → input, and how its text is read. A moment is of the reader's zone."""


def fields_of(model: type[BaseModel]) -> list[VerbField]:
    """The fields of a form for a model."""
    return [
        VerbField(name, _input(field)[0], field.title or name, field.is_required())
        for name, field in model.model_fields.items()
    ]


def read_request(model: type[BaseModel], form: FormValues) -> BaseModel:
    """Read the request of a verb from a form.

    Raises:
        BadFilter: a value can't be read; names the field.
        ContractError: the model refuses it.
    """
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        text = text_of(form, name)
        if not text:
            continue
        try:
            values[name] = _input(field)[1](text)
        except ValueError:
            raise BadFilter(tr("{field}: can't be read", field=name)) from None
    assert issubclass(model, Document)
    return model.parse(values)


def _input(field: FieldInfo) -> tuple[str, Callable[[str], Any]]:
    hint: Any = field.annotation
    types = [hint, *get_args(hint)]
    return next(_INPUTS[each] for each in types if each in _INPUTS)
