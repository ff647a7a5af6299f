"""Approval templates: the controls of their forms, and who approves (API §4.4, §11.8)."""

import zlib
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

TABLE = "TableField"


class Control(BaseModel, extra="forbid", frozen=True):
    """One control of a form.

    Attributes:
        label: what the form calls it; a date range has two labels, as a JSON list.
        type: DingTalk's name of the kind of control, such as ``NumberField``.
        required: whether a form without a value is refused.
        options: what a select offers; the only values that it takes.
        columns: the controls of a table's row.
        biz_alias: the name that an application may give it.
    """

    label: str
    type: str = "TextField"
    required: bool = False
    options: tuple[str, ...] = ()
    columns: tuple["Control", ...] = ()
    biz_alias: str = ""

    @property
    def id(self) -> str:
        """DingTalk's id of it: the kind and something that no one can guess."""
        return f"{self.type}_{zlib.crc32(self.label.encode()):08X}"


def _control(value: Any) -> Any:
    return {"label": value} if isinstance(value, str) else value


class Template(BaseModel, extra="forbid", frozen=True):
    """An approval template.

    Attributes:
        fields: the controls, a text field where a label alone is given; without any the template
            takes whatever form comes.
        approvers: whose consent its own flow asks for, one after the other; empty for the first
            person of the organisation.
        target_select: the steps of which the originator must choose the approvers, by their
            keys.
        revocable: whether an instance may be withdrawn.
    """

    process_code: str
    name: str = "审批"
    fields: tuple[Annotated[Control, BeforeValidator(_control)], ...] = ()
    approvers: tuple[str, ...] = ()
    target_select: tuple[str, ...] = ()
    revocable: bool = True


def _made(process_code: str, name: str, *fields: tuple[str, str] | Control) -> Template:
    """A template of labels with their types, or of whole controls."""
    controls = tuple(
        each if isinstance(each, Control) else Control(label=each[0], type=each[1])
        for each in fields
    )
    return Template(process_code=process_code, name=name, fields=controls)


_REASON, _NOTE = ("事由", "TextareaField"), ("备注", "TextareaField")
_START, _END, _DAYS = (
    ("开始日期", "DDDateField"),
    ("结束日期", "DDDateField"),
    ("天数", "NumberField"),
)
_ITEMS = Control(
    label="明细",
    type=TABLE,
    columns=(Control(label="项目"), Control(label="金额", type="MoneyField")),
)
_KINDS_OF_LEAVE = Control(
    label="请假类型", type="DDSelectField", options=("年假", "事假", "病假", "调休", "其他")
)
_PURCHASED = Control(
    label="采购明细",
    type=TABLE,
    columns=(
        Control(label="名称", required=True),
        Control(label="规格", type="DDSelectField", options=("大", "中", "小")),
        Control(label="数量", type="NumberField", required=True),
        Control(label="经办人", type="InnerContactField"),
        Control(label="图片", type="DDPhotoField"),
    ),
)
LEAVE = _made("PROC-LEAVE", "请假", _REASON, _KINDS_OF_LEAVE, _START, _END, _DAYS, _ITEMS, _NOTE)
EXPENSE = _made(
    "PROC-EXPENSE", "报销", _REASON, ("金额", "MoneyField"), _ITEMS, ("日期", "DDDateField"), _NOTE
)
TRAVEL = _made(
    "PROC-TRAVEL", "出差", _REASON, ("目的地", "TextField"), _START, _END, _DAYS, _ITEMS, _NOTE
)
PURCHASE = _made(
    "PROC-PURCHASE",
    "采购",
    Control(label="采购事由", type="TextareaField", required=True),
    Control(
        label="采购类型",
        type="DDSelectField",
        required=True,
        options=("办公用品", "设备", "服务"),
    ),
    Control(label="标签", type="DDMultiSelectField", options=("加急", "年度预算", "无")),
    ("期望日期", "DDDateField"),
    ('["开始时间","结束时间"]', "DDDateRangeField"),
    ("负责人", "InnerContactField"),
    ("使用部门", "DepartmentField"),
    ("总价", "MoneyField"),
    ("联系电话", "PhoneField"),
    ("收货地址", "AddressField"),
    ("图片", "DDPhotoField"),
    ("附件", "DDAttachment"),
    ("相关审批", "RelateField"),
    _PURCHASED,
    _NOTE,
)
DEFAULT_TEMPLATES = (LEAVE, EXPENSE, TRAVEL, PURCHASE, _made("PROC-ANY", "通用"))
"""Those of a new sandbox: PURCHASE has a control of each kind, ANY takes any form."""
