"""Forms on their way through the sandbox, which returns them as recorded answers do."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dingrelay_sandbox.templates import Template
from dingrelay_tasks.approval_create import ApprovalCreate
from dingrelay_workers.dingtalk.approval_form import Comparison, Control, compare
from dingrelay_workers.dingtalk.approval_schema import Schema, items
from unit.sandbox_caller import Caller

V1 = "/v1.0/workflow/processInstances"
PLAIN: list[dict[str, Any]] = [
    {"label": "事由", "type": "TextareaField"},
    {"label": "标题"},
    {"label": "天数", "type": "NumberField"},
    {"label": "金额", "type": "MoneyField"},
    {"label": "类型", "type": "DDSelectField", "options": ["病假", "事假", "其他"]},
    {"label": "标签", "type": "DDMultiSelectField", "options": ["甲", "乙", "丙"]},
    {"label": "日期", "type": "DDDateField"},
    {"label": '["开始时间","结束时间"]', "type": "DDDateRangeField"},
    {"label": "同行人", "type": "InnerContactField"},
    {"label": "部门", "type": "DepartmentField"},
    {"label": "附件", "type": "DDAttachment"},
    {"label": "图片", "type": "DDPhotoField"},
    {"label": "地址", "type": "AddressField"},
    {"label": "电话", "type": "PhoneField"},
]
TEMPLATE = Template.model_validate(
    {
        "process_code": "PROC-ALL",
        "fields": [*PLAIN, {"label": "明细", "type": "TableField", "columns": PLAIN}],
    }
)
FILE = {"spaceId": "1", "fileName": "a", "fileSize": "2", "fileType": "txt", "fileId": "3"}

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8)
days = st.dates().map(str)
users = st.lists(st.integers(1, 5).map("u{}".format), min_size=1, max_size=3, unique=True)
values: dict[str, st.SearchStrategy[Any]] = {
    "TextareaField": texts,
    "TextField": texts,
    "NumberField": st.integers(-(10**9), 10**9),
    "MoneyField": st.decimals(0, 10**6, places=2).map(str),
    "DDSelectField": st.sampled_from(["病假", "事假", "其他"]),
    "DDMultiSelectField": st.lists(st.sampled_from("甲乙丙"), min_size=1, unique=True),
    "DDDateField": days,
    "DDDateRangeField": st.lists(days, min_size=2, max_size=2),
    "InnerContactField": users,
    "DepartmentField": st.sampled_from(["2", "2,3"]),
    "DDAttachment": st.just([FILE]),
    "DDPhotoField": st.lists(texts, min_size=1, max_size=3),
    "AddressField": st.just("北京,北京市,东城区"),
    "PhoneField": st.from_regex(r"1[0-9]{10}", fullmatch=True),
}
fields: dict[str, st.SearchStrategy[Any]] = {
    control["label"]: values[control.get("type", "TextField")] | st.just("") for control in PLAIN
}
row = st.fixed_dictionaries({}, optional=fields).filter(bool)
forms = st.fixed_dictionaries({}, optional=fields | {"明细": st.lists(row, max_size=3)})


@pytest.fixture(scope="module")
def sandbox() -> Caller:
    caller = Caller()
    caller.state.approvals.templates[TEMPLATE.process_code] = TEMPLATE
    return caller


def controls_of(sandbox: Caller, form: list[tuple[str, str]], generation: str) -> list[Control]:
    values = [{"name": name, "value": value} for name, value in form]
    sandbox.now += 1
    sandbox.log_in()
    if generation == "v1":
        body = {"originatorUserId": "u1", "deptId": -1, "formComponentValues": values}
        made = sandbox.post(V1, {"processCode": TEMPLATE.process_code, **body})
        assert made.status == 200, made.body
        answer = sandbox.get(V1, processInstanceId=made.body["instanceId"])
        controls = answer.body["result"]["formComponentValues"]
    else:
        body = {"originator_user_id": "u1", "dept_id": -1, "form_component_values": values}
        made = sandbox.post(
            "/topapi/processinstance/create", {"process_code": TEMPLATE.process_code, **body}
        )
        assert made.code == "0", made.body
        body = {"process_instance_id": made.body["process_instance_id"]}
        answer = sandbox.post("/topapi/processinstance/get", body)
        controls = answer.body["process_instance"]["form_component_values"]
    return [Control.read(control) for control in controls]


@pytest.mark.parametrize("generation", ["v1", "topapi"])
@settings(max_examples=40)
@given(form=forms.filter(bool))
def test_a_form_equals_itself(sandbox: Caller, generation: str, form: dict[str, Any]) -> None:
    job = ApprovalCreate.parse({"process_code": "P", "originator": "u1", "form": form})
    result = compare(job.form_values, controls_of(sandbox, job.form_values, generation))
    assert result is not Comparison.DIFFERENT
    # Pictures are kept at other addresses.
    if not any(each.get("图片") for each in [form, *(form.get("明细") or [])]):
        assert result is Comparison.EQUAL


def schema_of(sandbox: Caller) -> Schema:
    sandbox.now += 1
    sandbox.log_in()
    answer = sandbox.get(
        "/v1.0/workflow/forms/schemas/processCodes", processCode=TEMPLATE.process_code
    )
    schema = Schema.of(items(answer.body) or [])
    assert schema is not None
    return schema


@settings(max_examples=40)
@given(form=forms.filter(bool))
def test_a_form_that_is_taken_is_not_called_wrong(sandbox: Caller, form: dict[str, Any]) -> None:
    job = ApprovalCreate.parse({"process_code": "P", "originator": "u1", "form": form})
    assert schema_of(sandbox).problem(job.form_values) is None


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
    job = ApprovalCreate.parse({"process_code": "P", "originator": "u1", "form": form})
    problem = schema_of(sandbox).problem(job.form_values)
    assert problem.field == field
    values = [{"name": name, "value": value} for name, value in job.form_values]
    body = {"originatorUserId": "u1", "deptId": -1, "formComponentValues": values}
    refused = sandbox.post(V1, {"processCode": TEMPLATE.process_code, **body})
    assert refused.code == "formConverterError", json.dumps(refused.body)
