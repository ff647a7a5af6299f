"""What a person is like: worked out from their number, so that a million people weigh little."""

from typing import Any

SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余"
    "于杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪廖石金贾夏韦付方邹熊白孟秦邱侯江尹薛闫段雷"
)
GIVEN = (
    "伟芳娜敏静秀丽强磊洋艳勇军杰娟涛明超霞平刚桂英华玉兰建国文斌婷宇浩轩子涵欣怡梓萱"
    "思远博雅晨曦俊峰海燕志鹏嘉琪雨桐天佑诗韵泽楠一诺可心睿哲"
)
TITLES = ("工程师", "高级工程师", "销售经理", "客户代表", "会计", "人事专员", "产品经理", "设计师")
PLACES = ("杭州", "北京", "上海", "深圳", "成都", "武汉")
DEPARTMENT_KINDS = ("研发", "销售", "市场", "财务", "人事", "客服", "采购", "法务", "运营", "设计")
REGIONS = ("华东", "华南", "华北", "西南", "华中", "东北", "西北", "海外")

_HIRED_FROM_MS = 1_420_070_400_000
_DAY_MS = 86_400_000


def mixed(number: int, salt: int) -> int:
    """A well spread number made of two; the same on every machine."""
    value = (number * 0x9E3779B1 + salt * 0x85EBCA77 + 0x27220A95) & 0xFFFFFFFF
    value ^= value >> 15
    value = (value * 0x2C1B3C6D) & 0xFFFFFFFF
    return value ^ (value >> 13)


def person_name(number: int, seed: int) -> str:
    """A Chinese name of two or three characters."""
    spread = mixed(number, seed)
    name = SURNAMES[spread % len(SURNAMES)] + GIVEN[(spread >> 7) % len(GIVEN)]
    return name if spread % 5 == 0 else name + GIVEN[(spread >> 14) % len(GIVEN)]


def department_name(number: int, seed: int) -> str:
    """A department's name; the number keeps it unique."""
    spread = mixed(number, seed + 1)
    region, kind = REGIONS[spread % len(REGIONS)], DEPARTMENT_KINDS[(spread >> 8) % 10]
    return f"{region}{kind}{number}部"


def profile(userid: str, number: int, seed: int) -> dict[str, Any]:
    """The fields of a person that do not depend on a department (API §3.1).

    A field that is empty is absent, as at DingTalk.
    """
    spread = mixed(number, seed + 2)
    fields: dict[str, Any] = {
        "userid": userid,
        "unionid": f"union{mixed(number, seed + 3):08x}{number:x}",
        "name": person_name(number, seed),
        "state_code": "86",
        "mobile": f"1{3 + spread % 7}{number % 10**9:09d}",
        "hide_mobile": spread % 11 == 0,
        "job_number": f"{number:07d}",
        "title": TITLES[spread % len(TITLES)],
        "work_place": PLACES[(spread >> 4) % len(PLACES)],
        "hired_date": _HIRED_FROM_MS + (spread % 3_650) * _DAY_MS,
        "active": spread % 50 != 0,
        "admin": number == 1,
        "boss": number == 1,
        "exclusive_account": False,
        "real_authed": spread % 20 != 0,
        "senior": False,
    }
    if spread % 3:
        fields["email"] = f"{userid}@example.com"
    if spread % 4 == 0:
        fields["avatar"] = f"https://static.example.com/avatar/{number}.png"
    if spread % 6 == 0:
        fields["telephone"] = f"0571-{number % 10**8:08d}"
    if spread % 10 == 0:
        fields["remark"] = "兼任安全员"
    return fields
