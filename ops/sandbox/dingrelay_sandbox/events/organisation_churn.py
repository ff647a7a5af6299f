"""An organisation that lives: changes at random, the same for the same seed."""

import random
from collections.abc import Callable

from dingrelay_sandbox.organisation import ROOT, Organisation

FIRST_DEPARTMENT = 500_000
"""Numbers of departments that come about so."""
MOST_TRIES = 50


class Churn:
    """Makes one change after the other.

    Args:
        organisation: what changes.
        seed: of the random numbers.
    """

    def __init__(self, organisation: Organisation, seed: int) -> None:
        self._organisation = organisation
        self._rng = random.Random(seed)
        self._seed = seed
        self._made = 0
        self._left: list[str] = []

    def step(self) -> str:
        """Make a change of some kind; its name."""
        kinds: dict[Callable[[], bool], int] = {
            self._rename: 30,
            self._move: 20,
            self._join: 15,
            self._leave: 12,
            self._come_back: 5,
            self._activate: 8,
            self._open_department: 4,
            self._change_department: 4,
            self._close_department: 2,
        }
        for _ in range(MOST_TRIES):
            (kind,) = self._rng.choices(list(kinds), list(kinds.values()))
            self._made += 1
            if kind():
                return kind.__name__.removeprefix("_")
        raise ValueError("the organisation is too small to change")

    def _person(self) -> str | None:
        people = self._organisation.people
        if not people:
            return None
        return self._rng.choice(list(people))

    def _place(self) -> int:
        return self._rng.choice(list(self._organisation.departments))

    def _rename(self) -> bool:
        userid = self._person()
        if userid is None:
            return False
        changes = {
            "name": f"改名{self._made}",
            "title": f"职位{self._rng.randint(1, 99)}",
            "email": f"{userid}.{self._made}@example.com",
            "mobile": f"139{self._rng.randrange(10**8):08d}",
        }
        name = self._rng.choice(list(changes))
        self._organisation.put_user(userid, {name: changes[name]})
        return True

    def _move(self) -> bool:
        userid, place = self._person(), self._place()
        if userid is None or self._organisation.people[userid].departments == (place,):
            return False
        self._organisation.put_user(userid, {"dept_id_list": [place]})
        return True

    def _join(self) -> bool:
        userid = f"new-{self._seed}-{self._made}"
        self._organisation.put_user(userid, {"dept_id_list": [self._place()], "active": False})
        return True

    def _leave(self) -> bool:
        userid = self._person()
        if userid is None:
            return False
        self._organisation.delete_user(userid)
        self._left.append(userid)
        return True

    def _come_back(self) -> bool:
        if not self._left:
            return False
        userid = self._left.pop(self._rng.randrange(len(self._left)))
        self._organisation.put_user(userid, {"dept_id_list": [self._place()]})
        return True

    def _activate(self) -> bool:
        waiting = [
            userid
            for userid, person in self._organisation.people.items()
            if person.changes and person.changes.get("active") is False
        ]
        if not waiting:
            return False
        self._organisation.put_user(self._rng.choice(waiting), {"active": True})
        return True

    def _open_department(self) -> bool:
        number = FIRST_DEPARTMENT + self._made
        changes = {"name": f"新部门{self._made}", "parent_id": self._place()}
        self._organisation.put_department(number, changes)
        return True

    def _change_department(self) -> bool:
        number = self._place()
        if number == ROOT:
            return False
        if self._rng.random() < 0.5:
            self._organisation.put_department(number, {"name": f"改名部门{self._made}"})
            return True
        parent = self._place()
        department = self._organisation.departments[number]
        if parent in self._organisation.below(number) or parent == department.parent_id:
            return False
        self._organisation.put_department(number, {"parent_id": parent})
        return True

    def _close_department(self) -> bool:
        number = self._place()
        if number == ROOT or self._organisation.children(number):
            return False
        self._organisation.delete_department(number)
        return True
