"""Forms as DingTalk returns them, against those that were sent.

`returned_for` is written from recorded answers (API §11.1), not from the code that compares. The
sandbox returns forms as recorded answers do, too.
"""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dingrelay_sandbox.templates import Template
from dingrelay_tasks.approval_create import ApprovalCreate
from dingrelay_workers.dingtalk.approval_form import Comparison, Control, compare
from dingrelay_workers.dingtalk.approval_schema import Schema, items
from support.examples import json_values
from unit.sandbox_caller import Caller

EQUAL, DIFFERENT, UNCLEAR = Comparison.EQUAL, Comparison.DIFFERENT, Comparison.UNCLEAR

TEMPLATE = {
    "事由": "TextField",
    "说明": "TextareaField",
    "天数": "NumberField",
    "金额": "MoneyField",
    "类型": "DDSelectField",
    "标签": "DDMultiSelectField",
    "日期": "DDDateField",
    '["开始时间","结束时间"]': "DDDateRangeField",
    "同行人": "InnerContactField",
    "部门": "DepartmentField",
    "图片": "DDPhotoField",
    "附件": "DDAttachment",
    "地址": "AddressField",
    "电话": "PhoneField",
    "关联": "RelateField",
}
TABLE = "明细"
CHOICES = {"DDSelectField": ["病假", "事假", "其他"], "DDMultiSelectField": ["甲", "乙", "丙"]}
COLUMNS = [
    {"label": name, "type": kind, "options": CHOICES.get(kind, [])}
    for name, kind in TEMPLATE.items()
    if kind != "RelateField"
]


def sent(form: Any) -> list[tuple[str, str]]:
    job = ApprovalCreate.parse({"process_code": "P", "originator": "u", "form": form})
    return job.form_values


def control(name: str, kind: str, value: Any, *, row: bool = False) -> dict[str, Any]:
    """A control of an answer, with what its kind adds; None is what was left empty."""
    fields: dict[str, Any] = {"value": "null" if value is None else value}
    extra: Any = None
    if value is not None:
        match kind:
            case "DDSelectField":
                extra = {"label": value, "key": f"option_{value}"}
            case "DDMultiSelectField":
                extra = [{"label": each, "key": f"option_{each}"} for each in json.loads(value)]
            case "DDDateRangeField":
                fields["value"] = json.dumps([*json.loads(value), None])
            case "InnerContactField":
                extra = [{"emplId": each, "name": f"N{each}"} for each in json.loads(value)]
                fields["value"] = ",".join(f"N{each}" for each in json.loads(value))
            case "DepartmentField":
                extra = [{"id": each, "name": f"D{each}"} for each in value.split(",")]
                fields["value"] = ",".join(f"D{each}" for each in value.split(","))
            case "DDPhotoField":
                fields["value"] = json.dumps(
                    [f"https://static/{each}" for each in json.loads(value)]
                )
            case _:
                pass
    if row:
        label = json.loads(name) if kind == "DDDateRangeField" else name
        fields |= {"label": label, "key": f"{kind}_X1"}
        return fields | ({"extendValue": extra} if extra else {})
    fields |= {"name": name, "id": f"{kind}_X1", "componentType": kind}
    return fields | ({"extValue": json.dumps(extra)} if extra else {})


def returned_for(form: dict[str, Any]) -> list[Control]:
    values = dict(sent(form)) if form else {}
    controls = [control(name, kind, values.get(name) or None) for name, kind in TEMPLATE.items()]
    rows = [
        {
            "rowValue": [
                {"label": "说明", "value": "填写", "key": "TextNote_1"},
                *(
                    control(name, kind, dict(sent(row)).get(name) or None, row=True)
                    for name, kind in TEMPLATE.items()
                ),
            ],
            "rowNumber": f"TableField_{number}",
        }
        for number, row in enumerate(form.get(TABLE) or [])
        if any(value != "" for value in row.values())
    ]
    columns = [{"componentName": "TextField", "props": {"label": "x", "required": True}}]
    controls.append(
        {"name": TABLE, "componentType": "TableField", "value": json.dumps(rows or columns)}
    )
    controls.append({"name": "合计", "componentType": "CalculateField", "value": "400"})
    return [Control.read(entry) for entry in controls]


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
ids = st.lists(st.text("abc123", min_size=1, max_size=5), min_size=1, max_size=3, unique=True)
days = st.dates().map(str)
values: dict[str, st.SearchStrategy[Any]] = {
    "TextField": texts,
    "TextareaField": texts.map(lambda text: f"{text}\n{text}"),
    "NumberField": st.integers(-(10**9), 10**9),
    "MoneyField": st.decimals(0, 10**6, places=2).map(str),
    "DDSelectField": st.sampled_from(CHOICES["DDSelectField"]),
    "DDMultiSelectField": st.lists(st.sampled_from("甲乙丙"), min_size=1, unique=True),
    "DDDateField": days,
    "DDDateRangeField": st.lists(days, min_size=2, max_size=2),
    "InnerContactField": ids,
    "DepartmentField": ids.map(",".join),
    "DDPhotoField": ids,
    "DDAttachment": ids.map(lambda each: [{"fileId": i, "spaceId": "1"} for i in each]),
    "AddressField": st.just("北京,北京市,东城区"),
    "PhoneField": st.from_regex(r"1[0-9]{10}", fullmatch=True),
    "RelateField": ids,
}
FILE = {"spaceId": "1", "fileName": "a", "fileSize": "2", "fileType": "txt", "fileId": "3"}
users = st.lists(st.integers(1, 5).map("u{}".format), min_size=1, max_size=3, unique=True)
written = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8)
in_the_sandbox: dict[str, st.SearchStrategy[Any]] = values | {
    "TextField": written,
    "TextareaField": written,
    "InnerContactField": users,
    "DepartmentField": st.sampled_from(["2", "2,3"]),
    "DDAttachment": st.just([FILE]),
    "DDPhotoField": st.lists(written, min_size=1, max_size=3),
}
del in_the_sandbox["RelateField"]


def forms_of(
    values: dict[str, st.SearchStrategy[Any]],
) -> st.SearchStrategy[dict[str, Any]]:
    """Forms of the template, each with something in it; any field may be left empty."""
    fields: dict[str, st.SearchStrategy[Any]] = {
        name: values[kind] | st.just("") for name, kind in TEMPLATE.items() if kind in values
    }
    row = st.fixed_dictionaries({}, optional=fields).filter(bool)
    tables = {TABLE: st.lists(row, max_size=3)}
    return st.fixed_dictionaries({}, optional=fields | tables).filter(bool)


@given(forms_of(values))
def test_a_form_is_never_different_from_itself(form: dict[str, Any]) -> None:
    result = compare(sent(form), returned_for(form))
    assert result is not DIFFERENT
    assert result is EQUAL or has_pictures(form)


def has_pictures(form: dict[str, Any]) -> bool:
    """Or relations: they are kept at other addresses."""
    everything = [form, *(form.get(TABLE) or [])]
    return any(row.get(name) for row in everything for name in ("图片", "关联"))


@given(forms_of(values), st.data())
def test_another_value_is_never_equal(form: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(TEMPLATE)))
    kind = TEMPLATE[name]
    one = data.draw(values[kind])
    other = data.draw(values[kind])
    if dict(sent({name: one})) != dict(sent({name: other})):
        returned = returned_for({**form, name: other})
        same_set = kind in {"DDMultiSelectField", "InnerContactField", "DepartmentField"}
        if same_set and sorted(one) == sorted(other):
            return
        result = compare(sent({**form, name: one}), returned)
        assert result is not EQUAL or not str(one).strip()


def compared(form: Any, *returned: dict[str, Any]) -> Comparison:
    return compare(sent(form), [Control.read(entry) for entry in returned])


TEXT = {"componentType": "TextField", "name": "a", "value": "x"}
OPTION = '{"label":"是","key":"option_0"}'
ROW = {"t": [{"a": "x"}]}
TWO = ({"name": "a", "value": "x"}, {"name": "a", "value": "y"})
PHONE = {"a": "13800000000"}


def kind_of(kind: str, name: str, value: str) -> dict[str, Any]:
    return {"name": name, "componentType": kind, "value": value}


def by_id(kind: str, name: str, value: str, extra: Any = None) -> dict[str, Any]:
    found = {"name": name, "id": f"{kind}_1", "value": value}
    return found | ({"extValue": extra} if extra else {})


def first_generation(kind: str, value: str, extra: str = "") -> dict[str, Any]:
    return {"name": "a", "component_type": kind, "value": value, "ext_value": extra or None}


@pytest.mark.parametrize(
    ("form", "returned", "result"),
    [
        # what was left empty, in either generation's way
        ({"a": "x"}, [TEXT, {"componentType": "TextField", "name": "b", "value": "null"}], EQUAL),
        ({"a": "x"}, [TEXT, {"componentType": "DDSelectField", "name": "b"}], EQUAL),
        ({"a": "x", "b": ""}, [TEXT], EQUAL),
        # what DingTalk fills in by itself, and what only a person can have
        ({"a": "x"}, [TEXT, {"componentType": "SeqNumberField", "name": "b", "value": "1"}], EQUAL),
        ({"a": "x"}, [TEXT, {"name": "b", "value": "1"}], EQUAL),
        ({"a": "x"}, [TEXT, {"componentType": "TextField", "name": "b", "value": "1"}], UNCLEAR),
        # texts
        ({"a": "y"}, [TEXT], DIFFERENT),
        ({"a": " x\r"}, [TEXT], UNCLEAR),
        ({"a": "x😀"}, [TEXT], UNCLEAR),
        ({"a": "x"}, [{**TEXT, "value": "null"}], DIFFERENT),
        ({"b": "x"}, [TEXT], UNCLEAR),
        ({" a ": "x"}, [TEXT], EQUAL),
        ({"id1": "x"}, [{**TEXT, "id": "id1"}], EQUAL),
        # numbers
        ({"n": 10}, [kind_of("NumberField", "n", "10.0")], EQUAL),
        ({"n": "1.005"}, [kind_of("MoneyField", "n", "1.01")], UNCLEAR),
        ({"n": 10}, [kind_of("NumberField", "n", "11")], DIFFERENT),
        ({"n": "1e999999999"}, [kind_of("NumberField", "n", "1")], UNCLEAR),
        ({"n": "10.0"}, [{"name": "n", "value": "10"}], UNCLEAR),
        # selects
        ({"s": "option_0"}, [by_id("DDSelectField", "s", "是", OPTION)], EQUAL),
        ({"s": "否"}, [by_id("DDSelectField", "s", "是")], DIFFERENT),
        ({"s": "自己写的"}, [by_id("DDSelectField", "s", "其它", {"key": "other"})], UNCLEAR),
        # dates
        ({"d": "2025-05-27 10:00"}, [by_id("DDDateField", "d", "2025-05-27 10:00:00")], EQUAL),
        ({"d": "2025-05-27 10:00"}, [by_id("DDDateField", "d", "2025-05-27")], UNCLEAR),
        ({"d": "2025-05-27"}, [by_id("DDDateField", "d", "2025-05-28")], DIFFERENT),
        ({"d": "1764033600000"}, [by_id("DDDateField", "d", "2025-05-28")], UNCLEAR),
        (
            {"开始时间": ["2022-02-25", "2022-02-26"]},
            [
                by_id(
                    "DDDateRangeField",
                    '["开始时间", "结束时间"]',
                    '["2022-02-25","2022-02-26",null]',
                )
            ],
            EQUAL,
        ),
        # people are returned by name; their ids may be missing
        ({"a": ["1"]}, [first_generation("InnerContactField", "肖", '[{"emplId":"1"}]')], EQUAL),
        ({"a": "1"}, [first_generation("InnerContactField", "肖", '[{"emplId":"1"}]')], EQUAL),
        (
            {"a": ["2"]},
            [first_generation("InnerContactField", "肖", '[{"emplId":"1"}]')],
            DIFFERENT,
        ),
        ({"a": ["2"]}, [first_generation("InnerContactField", "肖")], UNCLEAR),
        ({"p": ["2"]}, [{"name": "p", "value": "肖"}], UNCLEAR),
        # pictures may come back under other addresses
        ({"f": ["u"]}, [by_id("DDPhotoField", "f", '["v"]')], UNCLEAR),
        ({"f": ["u"]}, [by_id("DDPhotoField", "f", "null")], UNCLEAR),
        # a form as it was sent, which the sandbox once returned
        (ROW, [kind_of("TextField", "t", '[[ {"name": "a", "value": "x"} ]]')], EQUAL),
        (ROW, [kind_of("TextField", "t", '[[{"name":"a","value":"y"}]]')], DIFFERENT),
        # two controls of one name
        (list(TWO), [TEXT, {**TEXT, "value": "y"}], EQUAL),
        (list(TWO[::-1]), [TEXT, {**TEXT, "value": "y"}], UNCLEAR),
        ({"a": "x"}, [TEXT, TEXT], UNCLEAR),
        ({"a": "x"}, [], UNCLEAR),
        # spellings that may be those of what was sent
        (PHONE, [first_generation("PhoneField", '{"value":"13800000000","code":1}')], UNCLEAR),
        (PHONE, [first_generation("PhoneField", "138****0000")], UNCLEAR),
        (PHONE, [first_generation("PhoneField", "+86-13800000001")], DIFFERENT),
        ({"a": "密码 123"}, [first_generation("TextField", "密码 ***")], UNCLEAR),
        ({"a": 'say "x"'}, [first_generation("TextField", 'say \\"x\\"')], UNCLEAR),
        ({"a": "2022-05-30"}, [first_generation("DDDateField", "2022-05-29T16:00Z")], UNCLEAR),
        ({"a": "2022-05-30"}, [first_generation("DDDateField", "2022-05-29T16:00+0000")], UNCLEAR),
        ({"a": "2022-05-30"}, [first_generation("DDDateField", "2022-05-29 16:00")], DIFFERENT),
        ({"a": "年假"}, [first_generation("DDSelectField", '["年假"]')], UNCLEAR),
        ({"a": "年假"}, [first_generation("DDSelectField", '{"label":"年假","key":"o"}')], UNCLEAR),
        (
            {"a": ["u1"]},
            [first_generation("InnerContactField", "肖", '[{"userId":"88"}]')],
            UNCLEAR,
        ),
        ({"a": ["u1"]}, [first_generation("InnerContactField", "肖", '[{"userId":"u1"}]')], EQUAL),
    ],
)
def test_a_form_is_compared_with_what_was_returned(
    form: Any, returned: list[dict[str, Any]], result: Comparison
) -> None:
    assert compared(form, *returned) is result


def rows_of(*values: str) -> dict[str, Any]:
    table = [
        {"rowValue": [{"label": "物品", "value": value, "key": "TextField_1"}]} for value in values
    ]
    return {"name": "明细", "componentType": "TableField", "value": json.dumps(table)}


@pytest.mark.parametrize(
    ("form", "returned", "result"),
    [
        ([{"物品": "电脑"}], rows_of("电脑"), EQUAL),
        ([{"物品": "电脑"}, {"物品": ""}], rows_of("电脑"), EQUAL),
        ([{"物品": "电脑"}], rows_of("电脑", "null"), EQUAL),
        ([{"物品": "电脑"}], rows_of("鼠标"), DIFFERENT),
        ([{"物品": "电脑"}], rows_of("电脑", "电脑"), DIFFERENT),
        ([{"物品": "电脑"}, {"物品": "鼠标"}], rows_of("鼠标", "电脑"), UNCLEAR),
        ([{"物品": "电脑"}], {**rows_of(), "value": '[{"props":{"label":"物品"}}]'}, DIFFERENT),
        ("", {**rows_of(), "value": '[{"props":{"label":"物品"}}]'}, EQUAL),
        ("", rows_of("电脑"), UNCLEAR),
        ([{"物品": "电脑"}], {**rows_of(), "value": "[[1]]"}, UNCLEAR),
    ],
)
def test_tables_compare_by_row(form: Any, returned: dict[str, Any], result: Comparison) -> None:
    assert compared({"明细": form}, returned) is result


@given(
    json_values(["rowValue", "label", "value", "props", "emplId"]),
    st.sampled_from(sorted({*TEMPLATE.values(), "TableField", "", "New"})),
)
def test_any_returned_control_is_compared(value: Any, kind: str) -> None:
    returned = {"name": "a", "componentType": kind, "value": value, "extValue": value}
    for form in ({"a": "x"}, {"a": "1"}, {"a": ["x"]}, {"a": [{"b": "x"}]}, {"a": ""}):
        assert compared(form, returned) in Comparison
        assert compared(form, {**returned, "value": json.dumps(value)}) in Comparison


PROCESS = "PROC-ALL"
V1 = "/v1.0/workflow/processInstances"


@pytest.fixture(scope="module")
def sandbox() -> Caller:
    caller = Caller()
    table = {"label": TABLE, "type": "TableField", "columns": COLUMNS}
    template = {"process_code": PROCESS, "fields": [*COLUMNS, table]}
    caller.state.approvals.templates[PROCESS] = Template.model_validate(template)
    return caller


def controls_of(sandbox: Caller, form: list[tuple[str, str]], generation: str) -> list[Control]:
    values = [{"name": name, "value": value} for name, value in form]
    sandbox.now += 1
    sandbox.log_in()
    if generation == "v1":
        body = {"originatorUserId": "u1", "deptId": -1, "formComponentValues": values}
        made = sandbox.post(V1, {"processCode": PROCESS, **body})
        assert made.status == 200, made.body
        answer = sandbox.get(V1, processInstanceId=made.body["instanceId"])
        controls = answer.body["result"]["formComponentValues"]
    else:
        body = {"originator_user_id": "u1", "dept_id": -1, "form_component_values": values}
        made = sandbox.post("/topapi/processinstance/create", {"process_code": PROCESS, **body})
        assert made.code == "0", made.body
        body = {"process_instance_id": made.body["process_instance_id"]}
        answer = sandbox.post("/topapi/processinstance/get", body)
        controls = answer.body["process_instance"]["form_component_values"]
    return [Control.read(control) for control in controls]


@pytest.mark.parametrize("generation", ["v1", "topapi"])
@settings(max_examples=40)
@given(form=forms_of(in_the_sandbox))
def test_a_form_equals_itself(sandbox: Caller, generation: str, form: dict[str, Any]) -> None:
    result = compare(sent(form), controls_of(sandbox, sent(form), generation))
    assert result is not DIFFERENT
    assert result is EQUAL or has_pictures(form)


def schema_of(sandbox: Caller) -> Schema:
    sandbox.now += 1
    sandbox.log_in()
    answer = sandbox.get("/v1.0/workflow/forms/schemas/processCodes", processCode=PROCESS)
    schema = Schema.of(items(answer.body) or [])
    assert schema is not None
    return schema


@settings(max_examples=40)
@given(form=forms_of(in_the_sandbox))
def test_a_form_that_is_taken_is_not_called_wrong(sandbox: Caller, form: dict[str, Any]) -> None:
    assert schema_of(sandbox).problem(sent(form)) is None


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"事": "x"}, "form.事"),
        ({"类型": "年假"}, "form.类型"),
        ({"标签": ["丁"]}, "form.标签"),
        ({"天数": "三"}, "form.天数"),
        ({"日期": "明天"}, "form.日期"),
        ({"明细": [{"类型": "年假"}]}, "form.明细.0.类型"),
    ],
)
def test_a_refused_form_is_named(sandbox: Caller, form: dict[str, Any], field: str) -> None:
    problem = schema_of(sandbox).problem(sent(form))
    assert problem.field == field
    values = [{"name": name, "value": value} for name, value in sent(form)]
    body = {"originatorUserId": "u1", "deptId": -1, "formComponentValues": values}
    refused = sandbox.post(V1, {"processCode": PROCESS, **body})
    assert refused.code == "formConverterError", json.dumps(refused.body)
