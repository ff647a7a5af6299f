"""The directory: a tree of departments with root 1, and made-up people in one or several of them."""

import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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


ROOT = 1
FANOUT = 8
"""Sub-departments of each department of a seeded tree."""
SECOND_DEPARTMENT_SHARE = 0.03
ROOT_SHARE = 0.005

Changes = dict[str, Any]
"""Fields set at run time; a None makes the field absent."""


@dataclass(slots=True)
class Department:
    """A department. The root has no parent."""

    id: int
    parent_id: int | None
    name: str
    changes: Changes = field(default_factory=dict[str, Any])


@dataclass(slots=True)
class Person:
    """A person; most of their fields are worked out from `number`."""

    userid: str
    number: int
    departments: tuple[int, ...]
    changes: Changes | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Something that changed.

    Attributes:
        type: DingTalk's name of its event.
        user: who; empty where a department changed.
        department: which; 0 where a person changed.
        places: the departments that it is about, those of before and those of now.
        before, after: the fields of a person that was there before and still is.
    """

    type: str
    places: frozenset[int]
    user: str = ""
    department: int = 0
    before: Mapping[str, Any] = field(default_factory=dict[str, Any])
    after: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Organisation:
    """People and departments, and who is where.

    Attributes:
        tell: what is done with each change. A seed replaces everybody without a change.
    """

    def __init__(self) -> None:
        self.notify: Callable[[Change], None] = lambda change: None
        self.seed_number = 0
        self.version = 0
        """Grows with every change."""
        self.departments: dict[int, Department] = {}
        self.people: dict[str, Person] = {}
        self._children: dict[int, list[int]] = {}
        self._members: dict[int, list[str]] = {}
        self._below: dict[int, frozenset[int]] = {}
        self._heads: dict[int, str] = {}
        """Heads of departments before the change that is under way."""
        self._indexes: dict[str, dict[str, str]] = {}
        """Indexes by field: value → user, built when first used."""
        self.seed(users=0, departments=1, seed=0)

    def seed(self, *, users: int, departments: int, seed: int) -> None:
        """Replace everybody: ``u1`` … ``uN`` in departments 1 (the root) … M."""
        rng = random.Random(seed)
        self.seed_number = seed
        self.departments.clear()
        self.people.clear()
        self._children.clear()
        self._members.clear()
        self._put_department(Department(ROOT, None, "钉钉沙箱集团"))
        for number in range(2, departments + 1):
            parent = (number - 2) // FANOUT + 1
            self._put_department(Department(number, parent, department_name(number, seed)))
        alone: dict[int, tuple[int, ...]] = {number: (number,) for number in self.departments}
        for number in range(1, users + 1):
            places = alone[ROOT]
            if number > 1 and departments > 1 and rng.random() >= ROOT_SHARE:
                places = alone[rng.randint(2, departments)]
            if departments > 2 and rng.random() < SECOND_DEPARTMENT_SHARE:
                places = tuple(sorted({*places, rng.randint(2, departments)}))
            self._put_person(Person(f"u{number}", number, places))
        self._changed()

    def children(self, department: int) -> list[Department]:
        """The direct sub-departments."""
        return [self.departments[child] for child in self._children.get(department, ())]

    def members(self, department: int) -> list[str]:
        """The direct members, in a stable order. Not to be changed."""
        return self._members.get(department, [])

    def below(self, department: int) -> frozenset[int]:
        """The department and all departments under it."""
        if department not in self._below:
            found = [department]
            for each in found:
                found.extend(self._children.get(each, ()))
            self._below[department] = frozenset(found)
        return self._below[department]

    def reach(self, departments: Iterable[int]) -> Iterator[str]:
        """Everybody in those of these departments that exist, and below, each once."""
        seen: set[str] = set()
        for top in departments:
            if top not in self.departments:
                continue
            for each in sorted(self.below(top)):
                for userid in self.members(each):
                    if userid not in seen:
                        seen.add(userid)
                        yield userid

    def find(self, field: str, value: str) -> str | None:
        """The user with that value, such as a mobile number."""
        index = self._indexes.get(field)
        if index is None:
            index = self._indexes[field] = {
                str(self.fields(person).get(field)): userid
                for userid, person in self.people.items()
            }
        return index.get(value)

    def fields(self, person: Person) -> dict[str, Any]:
        """Fields of a person; absent ones are empty."""
        known = profile(person.userid, person.number, self.seed_number)
        known["dept_id_list"] = list(person.departments)
        if person.changes:
            known |= person.changes
            known = {name: value for name, value in known.items() if value is not None}
        return known

    def put_user(self, userid: str, changes: Mapping[str, Any]) -> Person:
        """Add a person, or change some fields of one; None empties a field.

        Raises:
            LookupError: a department in ``dept_id_list`` does not exist.
        """
        merged = dict(changes)
        old = self.people.get(userid)
        default = old.departments if old else (ROOT,)
        places = tuple(int(place) for place in merged.pop("dept_id_list", default))
        for place in places:
            if place not in self.departments:
                raise LookupError(f"department {place} does not exist")
        person = old or Person(userid, zlib.crc32(userid.encode()), ())
        before, left = self.fields(person), person.departments
        person.changes = {**(person.changes or {}), **merged}
        if places != person.departments:
            # Who stays where they are keeps their place in the pages.
            self._drop_person(person)
            person.departments = places
            self._put_person(person)
        self._changed()
        kind = _kind(before, self.fields(person)) if old else "user_add_org"
        self._notify(person, kind, before, {*left, *places})
        self._notify_heads()
        return person

    def delete_user(self, userid: str) -> None:
        """Let a person leave.

        Raises:
            LookupError: there is no such person.
        """
        person = self.people.get(userid)
        if person is None:
            raise LookupError(f"user {userid} does not exist")
        self._drop_person(person)
        del self.people[userid]
        self._changed()
        self.notify(Change("user_leave_org", frozenset(person.departments), userid))
        self._notify_heads()

    def put_department(self, number: int, changes: Mapping[str, Any]) -> Department:
        """Add a department, or change some fields of one; it may move below another parent.

        Raises:
            LookupError: the parent does not exist, or is the department itself or below it.
        """
        merged = dict(changes)
        old = self.departments.get(number)
        parent = merged.pop("parent_id", old.parent_id if old else ROOT)
        if (parent is None) != (number == ROOT):
            raise LookupError("the root alone has no parent")
        if parent is not None and parent not in self.departments:
            raise LookupError(f"department {parent} does not exist")
        if parent is not None and old and parent in self.below(number):
            raise LookupError(f"department {number} can't be below itself")
        name = merged.pop("name", old.name if old else department_name(number, self.seed_number))
        if old and old.parent_id is not None:
            self._children[old.parent_id].remove(number)
        merged = {**(old.changes if old else {}), **merged}
        department = Department(number, parent, str(name), merged)
        self._put_department(department)
        self._changed()
        if department != old:
            kind = "org_dept_modify" if old else "org_dept_create"
            places = {number, parent or ROOT, (old and old.parent_id) or ROOT}
            self.notify(Change(kind, frozenset(places), department=number))
        return department

    def delete_department(self, number: int) -> None:
        """Dissolve a department; a person who was nowhere else is moved to the root.

        Raises:
            LookupError: there is no such department, or it is the root or has sub-departments.
        """
        department = self.departments.get(number)
        if department is None:
            raise LookupError(f"department {number} does not exist")
        if department.parent_id is None or self._children.get(number):
            raise LookupError(f"department {number} is the root or has sub-departments")
        moved: list[tuple[Person, dict[str, Any]]] = []
        for userid in list(self.members(number)):
            person = self.people[userid]
            moved.append((person, self.fields(person)))
            self._drop_person(person)
            rest = tuple(place for place in person.departments if place != number)
            person.departments = rest or (ROOT,)
            self._put_person(person)
        self._children[department.parent_id].remove(number)
        del self.departments[number]
        self._changed()
        for person, before in moved:
            self._notify(person, "user_modify_org", before, {number, *person.departments})
        places = frozenset({number, department.parent_id})
        self.notify(Change("org_dept_remove", places, department=number))
        self._notify_heads()

    def _put_department(self, department: Department) -> None:
        self.departments[department.id] = department
        if department.parent_id is not None:
            self._children.setdefault(department.parent_id, []).append(department.id)

    def _put_person(self, person: Person) -> None:
        self.people[person.userid] = person
        for place in person.departments:
            self._members.setdefault(place, []).append(person.userid)

    def _drop_person(self, person: Person) -> None:
        for place in person.departments:
            self._heads.setdefault(place, self._members[place][0])
            self._members[place].remove(person.userid)

    def _notify(
        self, person: Person, kind: str, before: Mapping[str, Any], places: Iterable[int]
    ) -> None:
        if kind:
            after = self.fields(person)
            self.notify(Change(kind, frozenset(places), person.userid, before=before, after=after))

    def _notify_heads(self) -> None:
        """A department whose first member is another one has another head: that is its own change."""
        heads, self._heads = self._heads, {}
        for place, before in heads.items():
            members = self._members.get(place)
            if place in self.departments and members and members[0] != before:
                self.notify(Change("org_dept_modify", frozenset({place}), department=place))

    def _changed(self) -> None:
        self.version += 1
        self._below.clear()
        self._indexes.clear()


def _kind(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The kind of a person's change: they began to use DingTalk, were changed, or nothing (empty)."""
    if before == after:
        return ""
    activated = after.get("active") is True and before.get("active") is not True
    if activated and {**before, "active": True} == after:
        return "user_active_org"
    return "user_modify_org"
