import json
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from dingrelay_tasks.contract import ContractError
from dingrelay_workers.campaigns.documents import Template

NAMES = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="{}"), min_size=1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def text(content: Any) -> dict[str, Any]:
    return {"msgtype": "text", "text": {"content": content}}


def content(template: Template, *values: str) -> str:
    found: str = filled(template, *values)["text"]["content"]
    return found


def filled(template: Template, *values: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(template.fill(values).json)
    return message


def escaped(literal: str) -> str:
    return literal.replace("{", "{{").replace("}", "}}")


@given(TEXTS, st.lists(st.tuples(NAMES, TEXTS, TEXTS)))
def test_fields_are_filled(head: str, pieces: list[tuple[str, str, str]]) -> None:
    values = {name: value for name, value, _ in pieces}
    source = "x" + escaped(head) + "".join(f"{{{n}}}{escaped(tail)}" for n, _, tail in pieces)
    wanted = "x" + head + "".join(values[name] + tail for name, _, tail in pieces)
    template = Template(text(source))
    assert template.fields == tuple(values)
    assert content(template, *values.values()) == wanted


@given(st.text(st.sampled_from("{}a. ")))
def test_any_braces_are_a_template_or_a_contract_error(source: str) -> None:
    try:
        template = Template(text(source))
    except ContractError:
        event("refused")
    else:
        assert filled(template, *template.fields)["msgtype"] == "text"


def test_a_field_is_a_name_and_nothing_more() -> None:
    template = Template(text("{name.__class__} {0[0]} {name!r:>9}"))
    assert template.fields == ("name.__class__", "0[0]", "name!r:>9")
    assert content(template, "{a}", "b", "{{") == "{a} b {{"


def test_every_text_of_a_message_may_vary() -> None:
    message = {
        "msgtype": "action_card",
        "action_card": {
            "markdown": "for {name}",
            "btn_json_list": [{"title": "{title}", "action_url": "{url}"}],
        },
    }
    template = Template(message)
    assert template.fields == ("name", "title", "url")
    card = filled(template, "Ann", "Go", "https://a.test/?q=1")["action_card"]
    assert card["markdown"] == "for Ann"
    assert card["btn_json_list"] == [{"title": "Go", "action_url": "https://a.test/?q=1"}]
    with pytest.raises(ContractError, match=r"message.action_card.btn_json_list.0.action_url: "):
        template.fill(("Ann", "Go", "no url"))
    assert template.message == message


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (text("a } b"), r'message.text.content: a single "}" must be written "}}"'),
        (text("a { b"), r'message.text.content: a single "{" must be written "{{"'),
        (text("{ }"), "message.text.content: a field has no name"),
        (text(""), "message.text.content: "),
        (text(5), "message.text.content: "),
        (text("x" * 5_001), "message.text.content: "),
        (text("{a}") | {"extra": "{b}"}, "message.extra: "),
        ({"msgtype": "text", "text": {"content": "{a}", "other": "{b}"}}, "message.text.other: "),
        ({"msgtype": "fax"}, "message.msgtype: must be one of"),
        ({"msgtype": "markdown", "markdown": {"text": "{a}"}}, "message.markdown.title: "),
    ],
)
def test_templates_that_no_value_can_fill_are_refused(message: dict[str, Any], error: str) -> None:
    with pytest.raises(ContractError) as raised:
        Template(message)
    assert str(raised.value).startswith(error)


def test_a_text_that_values_make_too_long_is_refused() -> None:
    template = Template(text("x" * 4_999 + "{a}"))
    assert len(content(template, "y")) == 5_000
    with pytest.raises(ContractError, match=r"message.text.content: "):
        template.fill(("yy",))


def test_equal_results_have_equal_digests() -> None:
    template = Template(text("{a}{b}"))
    assert template.fill(("x", "yz")).digest == template.fill(("xy", "z")).digest
    assert template.fill(("x", "y")).digest != template.fill(("y", "x")).digest


def test_without_fields_the_message_is_what_is_sent() -> None:
    assert Template(text("{{a}}")).message == text("{a}")


def test_a_text_that_no_database_takes_is_refused() -> None:
    with pytest.raises(ContractError, match=r"message\.text\.content: holds a NUL character"):
        Template(text("a\0b"))
