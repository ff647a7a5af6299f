"""Whether an approval instance holds the form that a job sent.

DingTalk does not tell a form as it was sent (API §11.1): controls without a value are ``"null"`` or
have none, tables are lists of ``rowValue``, contacts and departments are names with the ids in the
extended value, selects have a label and a key, a date range has its length as a third entry. So
each control is compared by what it is, and a comparison has three results. Only what can't be the
same form is `DIFFERENT`: an instance that is called different by mistake would be made twice.
"""

import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, cast

from dingrelay_tasks.sentence import en

MOST_DIGITS = 100
"""Digits before or after the point of a number; more are compared as a text."""


def is_empty(value: Any) -> bool:
    """Whether a control with this value holds nothing."""
    if isinstance(value, str):
        parsed = as_json(value)
        return value.strip() in {"", "null"} if parsed is None else is_empty(parsed)
    if isinstance(value, list):
        entries: list[Any] = value
        columns = bool(entries) and all(
            isinstance(entry, dict) and "props" in entry and "rowValue" not in entry
            for entry in entries
        )
        return columns or all(map(is_empty, entries))
    if isinstance(value, dict):
        return all(map(is_empty, cast("dict[str, Any]", value).values()))
    return value is None


def as_json(value: Any) -> Any:
    """The list or object that a value is, or spells; None if it does neither."""
    if isinstance(value, (list, dict)):
        return cast("Any", value)
    if not isinstance(value, str) or value.strip()[:1] not in {"[", "{"}:
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def as_list(value: Any) -> list[Any] | None:
    """The list that a value is, or spells; None if it does neither."""
    parsed: Any = as_json(value)
    if not isinstance(parsed, list):
        return None
    entries: list[Any] = parsed
    return entries


def as_text(value: Any) -> str:
    """A value as a text: itself, or as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def split(value: str) -> list[str]:
    """The parts of a text, whatever comma is between them."""
    return [part.strip() for part in re.split("[,，、]", value) if part.strip()]


def lines(text: str) -> str:
    """A text with one kind of line end."""
    return text.replace("\r\n", "\n")


def squeezed(text: str) -> str:
    """A text without what may be lost or respelled on the way: spaces, controls, width, escapes."""
    plain = unicodedata.normalize("NFKC", html.unescape(text)).replace("\\", "")
    return "".join(letter for letter in plain if letter.isprintable() and not letter.isspace())


def number(text: str) -> Decimal | None:
    """The number that a text spells; None if it spells none, or one that is too long."""
    try:
        value = Decimal(unicodedata.normalize("NFKC", text).replace(",", "").strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value.adjusted()) < MOST_DIGITS else None


Form = Sequence[tuple[str, str]]
"""Name and value, as DingTalk's string, of each field that was sent."""

LONGEST_UNCUT = 100
"""Characters of a text; a longer one may come back cut short."""
MASKED = "**"
"""Instead of what the reader may not see, such as the middle of a number."""


class Comparison(StrEnum):
    """How two forms, or two values of a control, relate."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNCLEAR = en("cannot tell")


EQUAL, DIFFERENT, UNCLEAR = Comparison.EQUAL, Comparison.DIFFERENT, Comparison.UNCLEAR


@dataclass(frozen=True, slots=True)
class Control:
    """A control of an instance's form, or of a row of its tables.

    Attributes:
        name: its label; a list of two for a date range, or that list as JSON.
        value: a text at the top of a form, any JSON inside a table.
        kind: its type, such as ``TextField``; empty if that is not known.
        extra: its extended value, read as JSON where it is a text.
        aliases: its id and its business alias, where it has them.
    """

    name: Any
    value: Any
    kind: str = ""
    extra: Any = None
    aliases: tuple[str, ...] = ()

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> "Control":
        """Parse a control from either generation of the API, or from a row of a table."""

        def first(*names: str) -> Any:
            return next((entry[name] for name in names if entry.get(name) is not None), None)

        key = first("id", "key")
        aliases = tuple(str(alias) for alias in (key, first("bizAlias", "biz_alias")) if alias)
        kind = first("componentType", "component_type", "componentName") or _kind_of_id(key)
        extra = first("extValue", "ext_value", "extendValue")
        parsed = as_json(extra)
        return cls(
            first("name", "label") or "",
            entry.get("value"),
            str(kind),
            extra if parsed is None else parsed,
            aliases,
        )


def compare(sent: Form, controls: Iterable[Control]) -> Comparison:
    """Whether a form that was sent can be the one that an instance holds.

    Controls that were not sent are no difference: DingTalk returns every control of the template,
    and fills some by itself. But a value that only a person or another job can have filled in makes
    it unclear.
    """
    return _worst(_fields(sent, [control for control in controls if control.kind not in _NO_INPUT]))


def _worst(results: Iterable[Comparison]) -> Comparison:
    comparisons = set(results)
    return next(
        (comparison for comparison in (DIFFERENT, UNCLEAR) if comparison in comparisons), EQUAL
    )


def _fields(sent: Form, controls: Sequence[Control]) -> Iterator[Comparison]:
    by_name: dict[str, list[str]] = {}
    for name, value in sent:
        by_name.setdefault(key_of(name), []).append(value)
    unsent = list(controls)
    for name, values in by_name.items():
        namesakes = [control for control in controls if key_of(control.name) == name]
        namesakes = namesakes or [control for control in controls if name in _other_names(control)]
        unsent = [control for control in unsent if control not in namesakes]
        if len(namesakes) == len(values) == 1:
            yield _compare(values[0], namesakes[0])
        elif len(namesakes) == len(values):
            yield _same_name(values, namesakes)
        elif any(not is_empty(value) for value in values):
            yield UNCLEAR
    if any(control.kind in _BY_KIND and _holds(control) for control in unsent):
        yield UNCLEAR


def _same_name(sent: Sequence[str], controls: Sequence[Control]) -> Comparison:
    """Several controls have one name; which is which is only known if they come in order."""
    pairs = zip(sent, controls, strict=True)
    return EQUAL if all(_compare(*pair) is EQUAL for pair in pairs) else UNCLEAR


def key_of(name: Any) -> str:
    """A label such that what a person would call the same is the same."""
    labels = as_list(name)
    return "\0".join(squeezed(str(part)) for part in ([name] if labels is None else labels))


def _other_names(control: Control) -> set[str]:
    """Other names of a control: the first label of a range, its ids."""
    return {key_of(control.name).partition("\0")[0], *map(squeezed, control.aliases)}


def _compare(sent: str, control: Control) -> Comparison:
    if control.kind == "TableField":
        return _table(sent, control)
    if is_empty(sent):
        ignored = is_empty(control.value) or control.kind not in _BY_KIND
        return EQUAL if ignored else UNCLEAR
    if is_empty(control.value):
        return DIFFERENT if control.kind in _KEPT else UNCLEAR
    return _BY_KIND.get(control.kind, _of_unknown_kind)(sent, control)


def _same(sent: str, value: Any) -> bool:
    """The same text, or the same JSON in whatever spelling."""
    if sent == as_text(value):
        return True
    parsed = as_json(sent)
    return parsed is not None and parsed == as_json(value)


def _as_text(sent: str, control: Control) -> Comparison:
    text = as_text(control.value)
    if _same(sent, control.value) or lines(sent) == lines(text):
        return EQUAL
    if squeezed(sent) == squeezed(text) or any(ord(letter) > 0xFFFF for letter in sent):
        return UNCLEAR
    if MASKED in text:
        return UNCLEAR
    cut = len(text) >= LONGEST_UNCUT and squeezed(sent).startswith(squeezed(text))
    return UNCLEAR if cut else DIFFERENT


def _as_number(sent: str, control: Control) -> Comparison:
    number_sent, shown = number(sent), number(as_text(control.value))
    if number_sent is None or shown is None:
        return EQUAL if _same(sent, control.value) else UNCLEAR
    if number_sent == shown:
        return EQUAL
    # A control may keep fewer digits than were sent, rounded or cut.
    step = Decimal(1).scaleb(min(int(shown.as_tuple().exponent), 0))
    return UNCLEAR if abs(number_sent - shown) < step else DIFFERENT


def _as_select(sent: str, control: Control) -> Comparison:
    if as_json(control.value) is not None:
        return EQUAL if _same(sent, control.value) else UNCLEAR
    return _options(as_list(sent) or [sent], [control.value], [control.extra])


def _as_multi_select(sent: str, control: Control) -> Comparison:
    extras: list[Any] = control.extra if isinstance(control.extra, list) else []
    options_sent, options_shown = as_list(sent), as_list(control.value)
    if options_sent is None or options_shown is None:
        return EQUAL if _same(sent, control.value) else UNCLEAR
    return _options(options_sent, options_shown, extras)


def _options(sent: Sequence[Any], shown: Sequence[Any], extras: Sequence[Any]) -> Comparison:
    """Options are returned by their label, and beside it by label and key."""
    spellings: list[set[str]] = [{as_text(value)} for value in shown]
    for spelling, extra in zip(spellings, extras, strict=False):
        if isinstance(extra, dict):
            label_and_key = cast("dict[str, Any]", extra)
            spelling |= {
                as_text(label_and_key[name])
                for name in ("label", "key", "value")
                if name in label_and_key
            }
    unmatched = list(spellings)
    for option in map(as_text, sent):
        match = next((spelling for spelling in unmatched if option in spelling), None)
        if match is not None:
            unmatched.remove(match)
    if not unmatched and len(sent) == len(shown):
        return EQUAL
    if any("other" in spelling for spelling in spellings):
        return UNCLEAR  # free text, which may be returned as the option's label
    loose = sorted(squeezed(as_text(option)) for option in sent)
    return UNCLEAR if loose == sorted(squeezed(as_text(option)) for option in shown) else DIFFERENT


DATE = re.compile(r"\s*(\d{4})\D{1,2}(\d{1,2})(?:\D{1,2}(\d{1,2}))?(?!\d)\D?\s*(.*)", re.DOTALL)
_ZONE = re.compile(r"\d(?:Z|[+-]\d\d:?\d\d)\s*$")
_TIME = re.compile(r"T?(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\.0+)?")


def _as_date(sent: str, control: Control) -> Comparison:
    return EQUAL if _same(sent, control.value) else _dates(sent, as_text(control.value))


def _dates(sent: str, shown: str) -> Comparison:
    date_sent, date_shown = DATE.fullmatch(sent), DATE.fullmatch(shown)
    # The time of another zone may be on another day.
    if date_sent is None or date_shown is None or _ZONE.search(sent) or _ZONE.search(shown):
        return EQUAL if sent == shown else UNCLEAR
    for time_sent, time_shown in zip(date_sent.groups()[:3], date_shown.groups()[:3], strict=True):
        if time_sent is None or time_shown is None:
            return EQUAL if time_sent == time_shown and date_sent[4] == date_shown[4] else UNCLEAR
        if int(time_sent) != int(time_shown):
            return DIFFERENT
    if date_sent[4].strip() == date_shown[4].strip():
        return EQUAL
    times = _TIME.fullmatch(date_sent[4].strip()), _TIME.fullmatch(date_shown[4].strip())
    if times[0] is None or times[1] is None:
        return UNCLEAR
    time_sent, time_shown = ([int(part or 0) for part in time.groups()] for time in times if time)
    return (
        EQUAL
        if time_sent == time_shown
        else UNCLEAR
        if time_sent[:2] == time_shown[:2]
        else DIFFERENT
    )


def _as_range(sent: str, control: Control) -> Comparison:
    if _same(sent, control.value):
        return EQUAL
    ends_sent, ends_shown = as_list(sent), as_list(control.value)
    if ends_sent is None or ends_shown is None or len(ends_sent) < 2 or len(ends_shown) < 2:
        return UNCLEAR
    ends = zip(map(as_text, ends_sent[:2]), map(as_text, ends_shown[:2]), strict=True)
    return _worst(_dates(*pair) for pair in ends)


def _as_people(sent: str, control: Control) -> Comparison:
    # Only this field surely is the userid: a number of DingTalk's own stands beside.
    comparison = _by_id(sent, control, ("emplId", "userId", "userid", "itemId"))
    surely = _ids(as_list(control.extra), ("emplId",))
    return comparison if surely or comparison is EQUAL else UNCLEAR


def _as_departments(sent: str, control: Control) -> Comparison:
    return _by_id(sent, control, ("id", "itemId", "deptId"))


def _by_id(sent: str, control: Control, names: Sequence[str]) -> Comparison:
    """People and departments come back as names; who they are is beside."""
    ids_sent, ids = (
        _ids(as_list(sent), names) or set(split(sent)),
        _ids(as_list(control.extra), names),
    )
    if not ids:
        return EQUAL if _same(sent, control.value) else UNCLEAR
    return EQUAL if ids_sent == ids else DIFFERENT


def _ids(entries: Sequence[Any] | None, names: Sequence[str]) -> set[str]:
    """The id of each entry; none if an entry has no id that is known."""
    ids: set[str] = set()
    for entry in entries or ():
        if isinstance(entry, dict):
            fields = cast("dict[str, Any]", entry)
            entry = next((fields[name] for name in names if fields.get(name)), None)  # noqa: PLW2901
        if not isinstance(entry, (str, int)):
            return set()
        ids.add(str(entry))
    return ids


def _as_address(sent: str, control: Control) -> Comparison:
    parts_sent = [squeezed(as_text(part)) for part in as_list(sent) or split(sent)]
    shown_parts = [squeezed(part) for part in split(as_text(control.value))]
    if _same(sent, control.value) or parts_sent == shown_parts:
        return EQUAL
    if len(parts_sent) != len(shown_parts):
        return UNCLEAR
    alike = all(a in b or b in a for a, b in zip(parts_sent, shown_parts, strict=True))
    return UNCLEAR if alike else DIFFERENT


_NUMBER = re.compile(r"[\d\s()+-]*\d[\d\s()+-]*")


def _as_phone(sent: str, control: Control) -> Comparison:
    if _same(sent, control.value):
        return EQUAL
    shown = as_text(control.value)
    if not _NUMBER.fullmatch(sent) or not _NUMBER.fullmatch(shown):
        return UNCLEAR
    digits_sent, digits = re.sub(r"\D", "", sent), re.sub(r"\D", "", shown)
    return UNCLEAR if digits_sent.endswith(digits) or digits.endswith(digits_sent) else DIFFERENT


def _as_link(sent: str, control: Control) -> Comparison:
    """Pictures, files and related approvals, of which DingTalk may tell other addresses."""
    return EQUAL if _same(sent, control.value) else UNCLEAR


def _of_unknown_kind(sent: str, control: Control) -> Comparison:
    if _same(sent, control.value):
        return EQUAL
    if control.kind or control.extra is not None:
        return UNCLEAR
    if as_json(control.value) is not None and rows_of(control.value):
        return _table(sent, control)
    if as_json(sent) is not None or as_json(control.value) is not None:
        return UNCLEAR
    text = as_text(control.value)
    number_sent = number(sent)
    alike = squeezed(sent) in squeezed(text) or squeezed(text) in squeezed(sent)
    if alike or (number_sent is not None and number_sent == number(text)):
        return UNCLEAR
    return _as_text(sent, control)


def _table(sent: str, control: Control) -> Comparison:
    rows_sent, shown_rows = rows_of(sent), rows_of(control.value)
    if rows_sent is None or shown_rows is None:
        return EQUAL if _same(sent, control.value) else UNCLEAR
    rows = [row for row in rows_sent if any(not is_empty(cell.value) for cell in row)]
    filled_rows = [row for row in shown_rows if _filled(row)]
    if len(rows) != len(filled_rows):
        return DIFFERENT if rows and len(rows) == len(rows_sent) else UNCLEAR
    result = _worst(map(_row, rows, filled_rows))
    if result is not DIFFERENT:
        return result
    # The same rows in another order.
    likely = [[_row(row, shown_row) is not DIFFERENT for shown_row in filled_rows] for row in rows]
    both = all(map(any, likely)) and all(map(any, zip(*likely, strict=True)))
    return UNCLEAR if both else DIFFERENT


def _row(sent: Sequence[Control], controls: Sequence[Control]) -> Comparison:
    return compare([(as_text(cell.name), as_text(cell.value)) for cell in sent], controls)


def _holds(control: Control) -> bool:
    if control.kind == "TableField":
        return any(map(_filled, rows_of(control.value) or []))
    return not is_empty(control.value)


def _filled(row: Sequence[Control]) -> bool:
    return any(cell.kind not in _NO_INPUT and not is_empty(cell.value) for cell in row)


def rows_of(value: Any) -> list[list[Control]] | None:
    """The rows of a table, as sent or returned; None if it is none."""
    entries = [] if is_empty(value) else as_list(value)
    if entries is None:
        return None
    rows: list[list[Control]] = []
    for entry in entries:
        controls: Any = entry
        if isinstance(entry, dict):
            fields = cast("dict[str, Any]", entry)
            if "rowValue" not in fields and "props" in fields:
                continue  # a column of an empty table
            controls = fields.get("rowValue")
            if controls is None:
                controls = [{"name": name, "value": field} for name, field in fields.items()]
        if not isinstance(controls, list) or not all(
            isinstance(control, dict) for control in controls
        ):
            return None
        rows.append([Control.read(control) for control in controls])
    return rows


def _kind_of_id(key: Any) -> str:
    """The type in ids such as ``DDSelectField_1XO0NHHZ6KJK0``, for rows that don't tell it."""
    kind = re.split("[-_]", str(key or ""), maxsplit=1)[0]
    return kind if kind in _BY_KIND or kind in _NO_INPUT or kind == "TableField" else ""


_NO_INPUT = frozenset({"TextNote", "CalculateField", "SeqNumberField"})
"""Controls that DingTalk fills by itself."""

_BY_KIND: Mapping[str, Callable[[str, Control], Comparison]] = {
    "TextField": _as_text,
    "TextareaField": _as_text,
    "NumberField": _as_number,
    "MoneyField": _as_number,
    "StarRatingField": _as_number,
    "DDSelectField": _as_select,
    "DDMultiSelectField": _as_multi_select,
    "DDDateField": _as_date,
    "DDDateRangeField": _as_range,
    "InnerContactField": _as_people,
    "DepartmentField": _as_departments,
    "AddressField": _as_address,
    "PhoneField": _as_phone,
    "DDPhotoField": _as_link,
    "DDAttachment": _as_link,
    "RelateField": _as_link,
    "TableField": _table,
}

_KEPT = frozenset(_BY_KIND) - {"DDPhotoField", "DDAttachment", "RelateField", "AddressField"}
"""Controls that still hold something if something was sent for them."""
