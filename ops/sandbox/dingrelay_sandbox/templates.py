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


class _Named:
    """The controls that the templates of a new sandbox share."""

    reason = Control(label="事由", type="TextareaField")
    start = Control(label="开始日期", type="DDDateField")
    end = Control(label="结束日期", type="DDDateField")
    days = Control(label="天数", type="NumberField")
    note = Control(label="备注", type="TextareaField")
    items = Control(
        label="明细",
        type=TABLE,
        columns=(Control(label="项目"), Control(label="金额", type="MoneyField")),
    )


LEAVE = Template(
    process_code="PROC-LEAVE",
    name="请假",
    fields=(
        _Named.reason,
        Control(
            label="请假类型",
            type="DDSelectField",
            options=("年假", "事假", "病假", "调休", "其他"),
        ),
        _Named.start,
        _Named.end,
        _Named.days,
        _Named.items,
        _Named.note,
    ),
)
EXPENSE = Template(
    process_code="PROC-EXPENSE",
    name="报销",
    fields=(
        _Named.reason,
        Control(label="金额", type="MoneyField"),
        _Named.items,
        Control(label="日期", type="DDDateField"),
        _Named.note,
    ),
)
TRAVEL = Template(
    process_code="PROC-TRAVEL",
    name="出差",
    fields=(
        _Named.reason,
        Control(label="目的地"),
        _Named.start,
        _Named.end,
        _Named.days,
        _Named.items,
        _Named.note,
    ),
)
PURCHASE = Template(
    process_code="PROC-PURCHASE",
    name="采购",
    fields=(
        Control(label="采购事由", type="TextareaField", required=True),
        Control(
            label="采购类型",
            type="DDSelectField",
            required=True,
            options=("办公用品", "设备", "服务"),
        ),
        Control(label="标签", type="DDMultiSelectField", options=("加急", "年度预算", "无")),
        Control(label="期望日期", type="DDDateField"),
        Control(label='["开始时间","结束时间"]', type="DDDateRangeField"),
        Control(label="负责人", type="InnerContactField"),
        Control(label="使用部门", type="DepartmentField"),
        Control(label="总价", type="MoneyField"),
        Control(label="联系电话", type="PhoneField"),
        Control(label="收货地址", type="AddressField"),
        Control(label="图片", type="DDPhotoField"),
        Control(label="附件", type="DDAttachment"),
        Control(label="相关审批", type="RelateField"),
        Control(
            label="采购明细",
            type=TABLE,
            columns=(
                Control(label="名称", required=True),
                Control(label="规格", type="DDSelectField", options=("大", "中", "小")),
                Control(label="数量", type="NumberField", required=True),
                Control(label="经办人", type="InnerContactField"),
                Control(label="图片", type="DDPhotoField"),
            ),
        ),
        _Named.note,
    ),
)
DEFAULT_TEMPLATES = (
    LEAVE,
    EXPENSE,
    TRAVEL,
    PURCHASE,
    Template(process_code="PROC-ANY", name="通用"),
)
"""Those of a new sandbox: PURCHASE has a control of each kind, ANY takes any form."""
