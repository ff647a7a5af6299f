"""The form of an approval template, and the check of a filled-in one.

DingTalk returns a template's controls with their labels, options and which are required (API
§11.8). Only what it would refuse is an error here: anything that a schema leaves open, or that is
unknown to this file, is left to DingTalk.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en, joined
from dingrelay_workers.dingtalk.approval_form import (
    Form,
    as_json,
    as_list,
    as_text,
    is_empty,
    key_of,
    rows_of,
    squeezed,
)

MOST_ROWS = 100
"""Rows of a table (API §4.4)."""
MOST_LINKS = 9
"""Pictures or related approvals of one control (API §4.4)."""
MOST_NAMED = 3
"""Problems that one message names."""
ALIKE = 0.4
"""How alike two names are, between 0 and 1, for one to be taken for the other."""

_SIMPLE = frozenset({
    *("TextField", "TextareaField", "NumberField", "MoneyField", "StarRatingField"),
    *("DDSelectField", "DDMultiSelectField", "DDDateField", "DDDateRangeField", "PhoneField"),
    *("InnerContactField", "DepartmentField", "DDPhotoField", "DDAttachment", "RelateField"),
    *("AddressField", "TableField", "IdCardField", "TextNote", "CalculateField", "SeqNumberField"),
})  # fmt: skip
"""Controls that are what they seem; another one may bring fields that the schema doesn't tell."""
_NOT_FILLED = frozenset({"TextNote", "CalculateField", "SeqNumberField"})
_NUMBERS = frozenset({"NumberField", "MoneyField", "StarRatingField"})
_HIDING = ("hidden", "hide", "invisible", "disabled", "readonly", "readOnly", "defaultValue")
"""Properties with which a control may be required and still not be for the caller to fill in."""
_OWN_WORDS = frozenset({"其他", "其它", "other"})
"""How the option is called beside which a text of one's own may stand; its key is ``other``."""


@dataclass(frozen=True, slots=True)
class Field:
    """A control of a template.

    Attributes:
        label: as people see it.
        names: by what a form may name it, squeezed.
        required: whether it must hold something, whatever else the form holds.
        options: what it may hold, each with its spellings; empty if that is not known.
        columns: of a table.
    """

    label: str
    names: frozenset[str]
    kind: str
    required: bool
    options: tuple[frozenset[str], ...] = ()
    columns: "Schema | None" = None


@dataclass(frozen=True, slots=True)
class Schema:
    """The controls of a template, or of a table.

    Attributes:
        complete: whether a form can have no others.
    """

    fields: tuple[Field, ...]
    complete: bool

    @classmethod
    def of(cls, items: Sequence[Any]) -> "Schema | None":
        """The schema in the ``items`` of an answer; None if it is of a shape that is not known."""
        try:
            flat_items = list(_flat(items))
            conditional = {target for item in flat_items for target in _targets(item)}
            fields = tuple(_field(item, conditional) for item in flat_items)
        except (TypeError, AttributeError, RecursionError):
            return None
        return cls(fields, all(field.kind in _SIMPLE for field in fields)) if fields else None

    def problem(self, form: Form) -> ContractError | None:
        """The first problem of a form; None if it has none."""
        problems = [*self._names(form), *self._missing(form), *self._values(form)]
        if not problems:
            return None
        first_problem, *other_problems = problems
        also = (
            en("{}: {}", problem.field, problem.problem)
            for problem in other_problems[: MOST_NAMED - 1]
        )
        return ContractError(
            f"form.{first_problem.field}", joined("; ", (first_problem.problem, *also))
        )

    def _names(self, form: Form) -> Iterator[ContractError]:
        if not self.complete:
            return
        for name, _ in form:
            if self._find_field(name) is None:
                yield ContractError(name, en("is no field of the template{}", self._nearest(name)))

    def _missing(self, form: Form) -> Iterator[ContractError]:
        filled = {key_of(name) for name, value in form if not is_empty(value)}
        for field in self.fields:
            if field.required and not field.names & filled:
                yield ContractError(field.label, "is required by the template")

    def _values(self, form: Form) -> Iterator[ContractError]:
        for name, value in form:
            field = self._find_field(name)
            if field is None or is_empty(value):
                continue
            text = _wrong(field, value)
            if text:
                yield ContractError(name, text)
            elif field.columns:
                yield from field.columns.rows(name, value)

    def rows(self, name: str, value: str) -> Iterator[ContractError]:
        """The problems of a table's rows. Missing values are not checked."""
        for number, row in enumerate(rows_of(value) or []):
            controls = [(as_text(cell.name), as_text(cell.value)) for cell in row]
            for problem in [*self._names(controls), *self._values(controls)]:
                yield ContractError(f"{name}.{number}.{problem.field}", problem.problem)

    def _find_field(self, name: str) -> Field | None:
        """The field of a name; None if there is none, or more than one."""
        fields = [field for field in self.fields if key_of(name) in field.names]
        return fields[0] if fields else None

    def _nearest(self, name: str) -> str:
        labels = [field.label for field in self.fields if field.kind not in _NOT_FILLED]
        near = difflib.get_close_matches(name, labels, n=1, cutoff=ALIKE)
        return (
            en("; did you mean {}?", near[0])
            if near
            else en(", which has {}", ", ".join(labels[:20]))
        )


def items(answer: Mapping[str, Any]) -> list[Any] | None:
    """The controls in DingTalk's answer; None if it is of another shape than documented."""
    result = _object(answer.get("result"))
    content = _object(result.get("schemaContent"))
    return as_list(content.get("items"))


def _object(value: Any) -> dict[str, Any]:
    """An object, or the text of one."""
    parsed: Any = as_json(value)
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}


def _flat(entries: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The controls, with those that stand in columns or suites; not the columns of tables.

    Raises:
        TypeError: an entry is no object.
    """
    for entry in entries:
        if not isinstance(entry, dict):
            raise TypeError
        item = cast("dict[str, Any]", entry)
        yield item
        if _kind(item) != "TableField":
            yield from _flat(item.get("children") or [])


def _kind(item: Mapping[str, Any]) -> str:
    return str(item.get("componentName") or item.get("componentType") or "")


def _targets(item: Mapping[str, Any]) -> Iterator[str]:
    """The ids of controls that show or hide as this one is filled in."""
    for linkage in _object(item.get("props")).get("behaviorLinkage") or []:
        for target in linkage.get("targets") or []:
            yield str(target.get("fieldId"))


def _field(item: Mapping[str, Any], conditional: set[str]) -> Field:
    props, kind = _object(item.get("props")), _kind(item)
    label = props.get("label")
    labels: list[Any] = as_list(label) or [label or ""]
    aliases = [str(props[name]) for name in ("id", "bizAlias") if props.get(name)]
    names = {key_of(labels), *map(squeezed, [*aliases, *map(str, labels)])}
    free = kind in _NOT_FILLED or kind not in _SIMPLE or any(props.get(name) for name in _HIDING)
    required = str(props.get("required")).lower() == "true"
    columns = Schema.of(item.get("children") or []) if kind == "TableField" else None
    return Field(
        str(labels[0]),
        frozenset(names),
        kind,
        required and not free and not conditional & {*aliases},
        _options(props) if kind in {"DDSelectField", "DDMultiSelectField"} else (),
        columns,
    )


def _options(props: Mapping[str, Any]) -> tuple[frozenset[str], ...]:
    """The options by their spellings; none if others may be right, too."""
    listed: list[Any] = as_list(props.get("options")) or []
    if props.get("dataSource") or props.get("asyncCondition"):
        return ()
    options: list[frozenset[str]] = []
    for option in listed:
        spelled = _object(option)
        spellings = [spelled[name] for name in ("value", "label", "key") if spelled.get(name)] or [
            option
        ]
        if not all(isinstance(spelling, str) for spelling in spellings):
            return ()
        if (spelled.get("key") or option) in _OWN_WORDS:
            return ()
        options.append(frozenset(map(squeezed, spellings)))
    return tuple(options)


def _wrong(field: Field, value: str) -> str:
    """The problem of a non-empty value; empty if it has none."""
    entries = as_list(value)
    if field.options:
        choices = [value] if entries is None else entries
        labels = frozenset[str]().union(*field.options)
        wrong = [str(choice) for choice in choices if squeezed(str(choice)) not in labels]
        if wrong:
            return en("{!r} is none of the options {}", wrong[0], _labels(field.options))
    if field.kind in _NUMBERS and not _is_number(value):
        return en("must be a number, not {!r}", value[:40])
    if field.kind == "DDDateField" and not re.search(r"\d{4}", value):
        return en("must be a date such as 2025-05-27, not {!r}", value[:40])
    if field.kind == "TableField":
        if entries is None:
            return en("must be a list of rows")
        if len(entries) > MOST_ROWS:
            return en("has {} rows, at most {} are allowed", len(entries), MOST_ROWS)
    most = field.kind in {"DDPhotoField", "RelateField"} and MOST_LINKS
    if most and entries is not None and len(entries) > most:
        return en("has {} entries, at most {} are allowed", len(entries), most)
    return ""


def _labels(options: Sequence[frozenset[str]]) -> str:
    words = [next(iter(sorted(spellings, key=len))) for spellings in options[:20]]
    return ", ".join(words)


def _is_number(value: str) -> bool:
    plain = re.sub(r"[,%¥$元\s]", "", unicodedata.normalize("NFKC", value))
    try:
        Decimal(plain)
    except InvalidOperation:
        return False
    return True
