"""Forms come back as recordings show them, not as they were sent (API §11.1)."""

import json
from typing import Any

import pytest

from dingrelay_sandbox.templates import Control, Template
from unit.sandbox_caller import Caller

INSTANCES = "/v1.0/workflow/processInstances"
OLD = "/topapi/processinstance"
SCHEMAS = "/v1.0/workflow/forms/schemas/processCodes"
PICTURE = "https://example.com/receipt.png"
FILE = {"spaceId": "1", "fileName": "a.pdf", "fileSize": 3, "fileType": "pdf", "fileId": "2"}


def rows(*given: dict[str, str]) -> str:
    return json.dumps([[{"name": k, "value": v} for k, v in row.items()] for row in given])


FULL = {
    "采购事由": "换新",
    "采购类型": "设备",
    "标签": '["加急","无"]',
    "期望日期": "2026-12-01",
    '["开始时间","结束时间"]': '["2026-12-01","2026-12-02 10:00"]',
    "负责人": '["u2","u3"]',
    "使用部门": "2,3",
    "总价": "12000.50",
    "图片": json.dumps([PICTURE]),
    "附件": json.dumps([FILE]),
    "采购明细": rows(
        {"名称": "电脑", "规格": "大", "数量": "3", "经办人": '["u2"]'}, {"名称": "线", "数量": "1"}
    ),
}
LEAST = {"采购事由": "换新", "采购类型": "设备"}


def create(caller: Caller, form: dict[str, Any], code: str = "PROC-PURCHASE") -> str:
    values = [{"name": name, "value": value} for name, value in form.items()]
    return caller.create(processCode=code, formComponentValues=values)


def old_form(caller: Caller, instance: str) -> dict[str, dict[str, Any]]:
    found = caller.post(f"{OLD}/get", {"process_instance_id": instance}).body["process_instance"]
    return {each["name"]: each for each in found["form_component_values"]}


def new_form(caller: Caller, instance: str) -> dict[str, dict[str, Any]]:
    found = caller.get(INSTANCES, processInstanceId=instance).body["result"]
    return {each["name"]: each for each in found["formComponentValues"]}


def test_controls_that_were_never_named_come_back_as_the_text_null(caller: Caller) -> None:
    form = old_form(caller, create(caller, LEAST))
    assert list(form) == [
        each.label for each in caller.state.approvals.templates["PROC-PURCHASE"].fields
    ]
    assert {form[name]["value"] for name in ("总价", "标签", "负责人", "图片", "附件", "备注")} == {
        "null"
    }
    assert all("ext_value" not in each for each in form.values() if each["value"] == "null")


@pytest.mark.parametrize("empty", ["", "null"])
def test_an_empty_value_comes_back_as_the_text_null(caller: Caller, empty: str) -> None:
    form = {**LEAST, "备注": empty, "总价": empty, "图片": "[]", "负责人": "[]"}
    controls = new_form(caller, create(caller, form))
    assert {controls[name]["value"] for name in ("备注", "总价", "图片", "负责人")} == {"null"}


def test_a_template_without_controls_returns_what_was_sent_as_text(caller: Caller) -> None:
    controls = new_form(caller, create(caller, {"a": "1", "b": ""}, "PROC-ANY"))
    assert {name: each["value"] for name, each in controls.items()} == {"a": "1", "b": "null"}


def test_both_generations_have_the_same_under_their_own_names(caller: Caller) -> None:
    instance = create(caller, FULL)
    old, new = old_form(caller, instance), new_form(caller, instance)
    names = {"id": "id", "name": "name", "value": "value"}
    names |= {"component_type": "componentType", "ext_value": "extValue"}
    assert {name: {names[k]: v for k, v in each.items()} for name, each in old.items()} == new


def test_selects_have_their_option_beside_the_label(caller: Caller) -> None:
    controls = old_form(caller, create(caller, FULL))
    assert controls["采购类型"]["value"] == "设备"
    assert json.loads(controls["采购类型"]["ext_value"]) == {"label": "设备", "key": "option_1"}
    assert controls["标签"]["value"] == '["加急","无"]'
    assert json.loads(controls["标签"]["ext_value"]) == [
        {"label": "加急", "key": "option_0"},
        {"label": "无", "key": "option_2"},
    ]


def test_people_and_departments_come_back_as_names(caller: Caller) -> None:
    controls = old_form(caller, create(caller, FULL))
    organisation = caller.state.organisation
    names = [organisation.fields(organisation.people[each])["name"] for each in ("u2", "u3")]
    assert controls["负责人"]["value"] == ",".join(names)
    assert [each["emplId"] for each in json.loads(controls["负责人"]["ext_value"])] == ["u2", "u3"]
    assert controls["使用部门"]["value"] == ",".join(
        organisation.departments[n].name for n in (2, 3)
    )


def test_a_table_comes_back_as_rows_of_cells(caller: Caller) -> None:
    table = old_form(caller, create(caller, FULL))["采购明细"]
    first, second = json.loads(table["value"])
    assert [(cell["label"], cell["value"]) for cell in second["rowValue"]] == [
        ("名称", "线"),
        ("数量", "1"),
    ]
    cells = {cell["label"]: cell for cell in first["rowValue"]}
    assert (cells["数量"]["componentType"], cells["数量"]["value"]) == ("NumberField", "3")
    assert cells["规格"]["extendValue"] == {"label": "大", "key": "option_0"}
    assert cells["经办人"]["extendValue"][0]["emplId"] == "u2"
    assert all(cell["key"].startswith(cell["componentType"]) for cell in cells.values())
    assert first["rowNumber"] != second["rowNumber"]
    assert json.loads(table["ext_value"]) == {"statValue": [], "componentName": "TableField"}


@pytest.mark.parametrize("form", [LEAST, {**LEAST, "采购明细": "[]"}])
def test_an_empty_table_comes_back_as_its_columns(caller: Caller, form: dict[str, str]) -> None:
    table = old_form(caller, create(caller, form))["采购明细"]
    columns = json.loads(table["value"])
    assert [each["props"]["label"] for each in columns] == [
        "名称",
        "规格",
        "数量",
        "经办人",
        "图片",
    ]
    assert columns[0]["componentName"] == "TextField"
    assert columns[0]["props"]["required"] is True
    assert "ext_value" not in table


def test_pictures_lie_elsewhere_and_the_rest_comes_back_as_text(caller: Caller) -> None:
    controls = old_form(caller, create(caller, FULL))
    (picture,) = json.loads(controls["图片"]["value"])
    assert picture != PICTURE
    assert (controls["总价"]["value"], controls["期望日期"]["value"]) == ("12000.50", "2026-12-01")
    assert json.loads(controls["附件"]["value"]) == [FILE]


def test_the_report_has_what_was_sent(caller: Caller) -> None:
    instance = create(caller, FULL)
    assert dict(caller.state.approvals.instances[instance].request.form) == FULL


@pytest.mark.parametrize(
    ("wrong", "label"),
    [
        ({"采购事由": ""}, "采购事由"),
        ({"采购类型": "船"}, "采购类型"),
        ({"标签": '["船"]'}, "标签"),
        ({"标签": "加急"}, "标签"),
        ({"期望日期": "01.12.2026"}, "期望日期"),
        ({"期望日期": "2026-13-01"}, "期望日期"),
        ({'["开始时间","结束时间"]': '["2026-12-01"]'}, '["开始时间","结束时间"]'),
        ({"负责人": '["stranger"]'}, "负责人"),
        ({"负责人": "u2"}, "负责人"),
        ({"使用部门": "999"}, "使用部门"),
        ({"使用部门": "研发"}, "使用部门"),
        ({"总价": "many"}, "总价"),
        ({"图片": json.dumps([PICTURE] * 10)}, "图片"),
        ({"附件": json.dumps([{**FILE, "fileId": ""}])}, "附件"),
        ({"附件": "{}"}, "附件"),
        ({"相关审批": '["nothing"]'}, "相关审批"),
        ({"采购明细": '[{"名称":"电脑"}]'}, "采购明细"),
        ({"采购明细": rows({"名称": "电脑"})}, "数量"),
        ({"采购明细": rows({"名称": "电脑", "数量": "x"})}, "数量"),
        ({"采购明细": rows({"名称": "电脑", "数量": "1", "颜色": "红"})}, "颜色"),
        ({"颜色": "红"}, "颜色"),
    ],
)
def test_a_wrong_control_is_named(caller: Caller, wrong: dict[str, str], label: str) -> None:
    form = [{"name": name, "value": value} for name, value in {**LEAST, **wrong}.items()]
    new = {"processCode": "PROC-PURCHASE", "originatorUserId": "u1", "deptId": -1}
    refused = caller.post(INSTANCES, {**new, "formComponentValues": form})
    assert (refused.status, refused.code) == (400, "formConverterError")
    assert refused.body["message"].endswith(label)
    old = {"process_code": "PROC-PURCHASE", "originator_user_id": "u1", "dept_id": -1}
    assert caller.post(f"{OLD}/create", {**old, "form_component_values": form}).code == "810003"
    assert caller.state.approvals.instances == {}


def test_an_approval_may_refer_to_another(caller: Caller) -> None:
    first = create(caller, LEAST)
    second = create(caller, {**LEAST, "相关审批": json.dumps([first])})
    assert json.loads(new_form(caller, second)["相关审批"]["value"]) == [first]


def test_the_schema_has_labels_options_and_what_is_required(caller: Caller) -> None:
    content = caller.get(SCHEMAS, processCode="PROC-PURCHASE").body["result"]["schemaContent"]
    items = {each["props"]["label"]: each for each in content["items"]}
    assert content["title"] == "采购"
    assert items["采购事由"]["props"]["required"] is True
    assert items["总价"]["componentName"] == "MoneyField"
    options = [json.loads(each) for each in items["采购类型"]["props"]["options"]]
    assert options[1] == {"value": "设备", "key": "option_1"}
    columns = {each["props"]["label"]: each for each in items["采购明细"]["children"]}
    assert (columns["数量"]["componentName"], columns["数量"]["props"]["required"]) == (
        "NumberField",
        True,
    )
    assert items["采购事由"]["props"]["placeholder"] == "请输入"
    assert set(columns["数量"]["props"]) == {"id", "label", "required", "bizAlias"}
    controls = new_form(caller, create(caller, LEAST))
    assert {name: each["id"] for name, each in controls.items()} == {
        name: each["props"]["id"] for name, each in items.items()
    }
    assert caller.get(SCHEMAS, processCode="PROC-NONE").code == "processCodeError"


def test_a_template_of_labels_has_text_fields(caller: Caller) -> None:
    template = Template.model_validate({"process_code": "P", "fields": ["a", {"label": "b"}]})
    assert template.fields == (Control(label="a"), Control(label="b"))
    caller.state.approvals.templates["P"] = template
    assert new_form(caller, create(caller, {"a": "[1]"}, "P"))["a"]["value"] == "[1]"


def test_templates_that_may_be_started_come_in_pages(caller: Caller) -> None:
    path = "/v1.0/workflow/processes/userVisibilities/templates"
    first = caller.get(path, userId="u1", maxResults="3", nextToken="0").body["result"]
    rest = caller.get(path, maxResults="100", nextToken=str(first["nextToken"])).body["result"]
    codes = [each["processCode"] for each in [*first["processList"], *rest["processList"]]]
    assert codes == list(caller.state.approvals.templates)
    assert "nextToken" not in rest


def test_a_table_of_a_template_without_controls_comes_back_as_a_table(caller: Caller) -> None:
    form = {"明细": rows({"项目": "车费", "金额": "3"}), "说明": "[1]", "空": ""}
    for found, kind in (
        (old_form(caller, create(caller, form, "PROC-ANY")), "component_type"),
        (new_form(caller, create(caller, form, "PROC-ANY")), "componentType"),
    ):
        assert [found[name][kind] for name in form] == ["TableField", "TextField", "TextField"]
        assert [found[name]["value"] for name in ("说明", "空")] == ["[1]", "null"]
        (row,) = json.loads(found["明细"]["value"])
        cells = {cell["label"]: cell["value"] for cell in row["rowValue"]}
        assert cells == {"项目": "车费", "金额": "3"}
