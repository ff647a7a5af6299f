"""Faults of a form, by a template's schema in the shapes of public answers."""

import json
from typing import Any

import pytest
from hypothesis import given

from dingrelay_tasks.approval_create import ApprovalCreate
from dingrelay_workers.dingtalk.approval_schema import Schema, items
from support.examples import json_values


def item(kind: str, label: Any, **props: Any) -> dict[str, Any]:
    return {"componentName": kind, "props": {"id": f"{kind}-{label}", "label": label, **props}}


def option(value: str, key: str) -> str:
    return json.dumps({"value": value, "key": key}, ensure_ascii=False)


TABLE = item("TableField", "明细") | {
    "children": [
        item("TextField", "项目", required=True),
        item("NumberField", "数量"),
        item("DDSelectField", "单位", options=["个", "箱"]),
    ]
}
ITEMS: list[dict[str, Any]] = [
    item("TextField", "事由", required=True, bizAlias="reason"),
    item("NumberField", "天数"),
    item("DDSelectField", "类型", options=[option("病假", "option_0"), option("事假", "option_1")]),
    item("DDMultiSelectField", "标签", options=[{"key": "a", "value": "甲"}, "乙"]),
    item("DDDateField", "日期"),
    item("DDDateRangeField", ["开始时间", "结束时间"]),
    item("DDPhotoField", "图片"),
    item("TextNote", None, content="说明"),
    TABLE,
]


def wrong(form: Any, *more: dict[str, Any]) -> tuple[str, str] | None:
    schema = Schema.of([*ITEMS, *more])
    assert schema is not None
    job = ApprovalCreate.parse({"process_code": "P", "originator": "u", "form": form})
    problem = schema.problem(job.form_values)
    return (problem.field, problem.problem) if problem else None


@pytest.mark.parametrize(
    "form",
    [
        {"事由": "出差"},
        {" 事由 ": "出差"},
        {"reason": "出差"},
        {"TextField-事由": "出差"},
        {
            "事由": "出差",
            "天数": "1,000.5",
            "类型": "option_1",
            "标签": ["甲", "乙"],
            "日期": "2025-05",
        },
        {"事由": "出差", '["开始时间","结束时间"]': ["2025-05-27", "2025-05-28"]},
        {"事由": "出差", "开始时间": ["2025-05-27", "2025-05-28"]},
        {"事由": "出差", "天数": "", "类型": "null", "标签": [], "日期": ""},
        {"事由": "出差", "明细": [{"项目": "车票", "数量": 3, "单位": "个"}, {"数量": 1}]},
        {"事由": "出差", "图片": ["u"] * 9, "明细": [{"项目": "x"}] * 100},
    ],
)
def test_valid_forms_are_not_refused(form: Any) -> None:
    assert wrong(form) is None


@pytest.mark.parametrize(
    ("form", "field", "text"),
    [
        ({"事由": "x", "天": 1}, "form.天", "is no field of the template; did you mean 天数?"),
        ({"事由": "x", "zzz": 1}, "form.zzz", "is no field of the template, which has 事由, 天数"),
        ({"天数": 1}, "form.事由", "is required by the template"),
        ({"事由": " ", "天数": 1}, "form.事由", "is required by the template"),
        ({"事由": "x", "类型": "年假"}, "form.类型", "'年假' is none of the options 病假, 事假"),
        ({"事由": "x", "标签": ["甲", "丙"]}, "form.标签", "'丙' is none of the options"),
        ({"事由": "x", "天数": "三天"}, "form.天数", "must be a number, not '三天'"),
        ({"事由": "x", "日期": "明天"}, "form.日期", "must be a date such as"),
        ({"事由": "x", "明细": "车票"}, "form.明细", "must be a list of rows"),
        ({"事由": "x", "明细": [{"项目": "x"}] * 101}, "form.明细", "has 101 rows"),
        ({"事由": "x", "明细": [{"项": "x"}]}, "form.明细.0.项", "did you mean 项目?"),
        ({"事由": "x", "明细": [{}, {"单位": "打"}]}, "form.明细.1.单位", "none of the options"),
        ({"事由": "x", "图片": ["u"] * 10}, "form.图片", "has 10 entries"),
        ({"类型": "年假"}, "form.事由", "is required by the template; 类型: '年假' is none"),
    ],
)
def test_forms_that_dingtalk_would_refuse_are_named(form: Any, field: str, text: str) -> None:
    problem = wrong(form)
    assert problem[0] == field
    assert text in problem[1]


HIDING = [
    item("TextField", "另", required=True, hidden=True),
    item("TextField", "另", required=True, defaultValue="x"),
    item("CalculateField", "另", required=True),
    item("SeqNumberField", "另", required=True),
    item("SignatureField", "另", required=True),
    item("TextField", "另", required="false"),
]


@pytest.mark.parametrize("control", HIDING)
def test_optional_controls_are_not_required(control: dict[str, Any]) -> None:
    assert wrong({"事由": "x"}, control) is None


def test_controls_that_show_for_some_choices_are_not_required() -> None:
    target = item("TextField", "另", required=True)
    linkage = [
        {"value": "a", "targets": [{"fieldId": target["props"]["id"], "behavior": "NORMAL"}]}
    ]
    switch = item("DDSelectField", "开关", behaviorLinkage=linkage)
    assert wrong({"事由": "x"}, target, switch) is None
    assert wrong({"事由": "x"}, target) == ("form.另", "is required by the template")


@pytest.mark.parametrize(
    "props",
    [
        {"options": ["病假", "其他"]},
        {"options": [option("病假", "option_0"), option("自填", "other")]},
        {"options": ["病假", 7]},
        {"options": ["病假"], "dataSource": {"type": "form"}},
        {"options": "病假"},
        {},
    ],
)
def test_options_that_may_not_be_all_are_not_checked(props: dict[str, Any]) -> None:
    assert wrong({"事由": "x", "另": "年假"}, item("DDSelectField", "另", **props)) is None


@pytest.mark.parametrize("kind", ["DDBizSuite", "DDHolidayField", "NewField", "FormRelateField"])
def test_a_control_that_may_bring_others_lets_any_name_pass(kind: str) -> None:
    assert wrong({"事由": "x", "请假类型": "年假"}, item(kind, "套件")) is None


def test_controls_in_columns_belong_to_the_form() -> None:
    inner = item("NumberField", "内")
    layout = {"componentName": "ColumnLayout", "props": {"id": "c"}, "children": [inner]}
    assert wrong({"事由": "x", "内": 1}, layout) is None
    problem = wrong({"事由": "x", "内": "一"}, layout)
    assert problem[0] == "form.内"


def test_the_controls_are_found_in_an_answer_of_either_spelling() -> None:
    content = {"items": ITEMS}
    assert items({"result": {"schemaContent": content}}) == ITEMS
    assert items({"result": {"schemaContent": json.dumps(content)}}) == ITEMS
    for unread in ({}, {"result": None}, {"result": {"schemaContent": "x"}}, {"result": [1]}):
        assert items(unread) is None


@pytest.mark.parametrize("entries", [[], ["x"], [{"props": {}}, 1], [{"children": [1]}]])
def test_a_schema_of_another_shape_is_none(entries: list[Any]) -> None:
    assert Schema.of(entries) is None


SHAPES = ["componentName", "props", "children", "label", "options", "behaviorLinkage", "id"]


@given(json_values(SHAPES))
def test_any_schema_of_dingtalk_is_read(props: Any) -> None:
    schema = Schema.of([{"componentName": "DDSelectField", "props": props}, props])
    if schema:
        schema.problem([("a", "x"), ("b", "[1]")])
