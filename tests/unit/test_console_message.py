"""The message of a broadcast as a form, and as a phone shows it."""

import pytest

from dingrelay_workers.campaigns.documents import Template
from dingrelay_workers.console.message_form import FIELDS, form_of, label_of, message_of
from dingrelay_workers.console.phone import ShownMessage, markdown, plain

URL = "https://example.com/a"
FORMS = {
    "text": {"text.content": "{name}，明天停电\n请注意"},
    "markdown": {"markdown.title": "停电", "markdown.text": "## 通知\n- {name}"},
    "link": {"link.title": "t", "link.text": "x", "link.messageUrl": URL, "link.picUrl": "@m"},
    "action_card": {
        "action_card.markdown": "x",
        "action_card.1.title": "Yes",
        "action_card.1.url": URL,
    },
    "oa": {
        "oa.head.text": "HR",
        "oa.head.bgcolor": "FF2F6BFF",
        "oa.body.form": "Place：Hall 2\nTime：9:00",
        "oa.body.rich.num": "15.6",
        "oa.message_url": URL,
    },
    "image": {"image.media_id": "@m"},
    "file": {"file.media_id": "@m"},
}


@pytest.mark.parametrize("kind", FIELDS)
def test_a_form_becomes_a_message_that_dingtalk_takes_and_back(kind: str) -> None:
    form = {"msgtype": kind, **FORMS[kind]}
    message = message_of(form)
    Template(message)
    assert form_of(message) == form


def test_several_buttons_become_a_list_of_buttons() -> None:
    form = {"msgtype": "action_card", **FORMS["action_card"]}
    form |= {"action_card.3.title": "No", "action_card.3.url": URL}
    message = message_of(form)
    Template(message)
    assert [each["title"] for each in message["action_card"]["btn_json_list"]] == ["Yes", "No"]
    assert form_of(message)["action_card.2.title"] == "No"


def test_only_the_fields_of_the_chosen_type_count() -> None:
    form = {"msgtype": "text", "text.content": " a\r\nb ", "link.title": "t", "text.other": "x"}
    assert message_of(form) == {"msgtype": "text", "text": {"content": "a\nb"}}
    assert message_of({"msgtype": "made-up"}) == {"msgtype": "text", "text": {}}
    assert form_of({}) == {"msgtype": "text"}


def test_a_refusal_names_the_field_as_the_form_does() -> None:
    assert label_of("message.oa.body.form.0.value").startswith("Table")
    assert label_of("message.link.title") == "Title"
    assert (label_of("message.msgtype"), label_of("other")) == ("Message", "other")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("## A\nb\nc", '<p class="h2">A</p><p>b c </p>'),
        ("a  \nb", "<p>a<br>b </p>"),
        ("- **b** *i*", '<p class="li">• <strong>b</strong> <em>i</em></p>'),
        ("3. x", '<p class="li">3. x</p>'),
        ("> q", "<blockquote>q</blockquote>"),
        ("[x](https://e.example)", '<span class="link" title="https://e.example">x</span>'),
        ("<font color=#f00>red</font>", "<p>red </p>"),
        ("{name}: {{x}}", '<mark class="field">{name}</mark>: {x}'),
    ],
)
def test_markdown_is_shown_as_on_a_phone(text: str, shown: str) -> None:
    assert shown in markdown(text)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[<b>](javascript:alert(1))",
        '![x](" onerror=alert(1))',
        "**<i>**",
        "{<script>}",
        "# <img src=x>",
        "</font><script>",
    ],
)
def test_html_in_a_text_is_shown_and_not_run(text: str) -> None:
    for shown in (markdown(text), markdown(text, fields=False), plain(text)):
        for piece in ("<script", "<img", "<i>", "<b>", "href", '" onerror'):
            assert piece not in shown


def test_braces_of_a_filled_in_message_are_text() -> None:
    assert plain("{name} {{x}}", fields=False) == "{name} {{x}}"


def test_missing_parts_of_a_message_are_empty() -> None:
    shown = ShownMessage.of({"msgtype": "oa", "oa": {"head": {"text": "x"}}})
    assert shown["oa"]["head"]["text"] == "x"
    assert not shown["oa"]["body"]["rich"]["num"]
