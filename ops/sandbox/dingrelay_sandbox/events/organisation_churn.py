"""An organisation that lives: changes at random, the same for the same seed."""

import random
from collections.abc import Callable
from contextlib import suppress

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
        kinds: dict[Callable[[], object], int] = {
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
            # There is nothing to choose from, or it can't be changed so.
            with suppress(LookupError):
                kind()
                return kind.__name__.removeprefix("_")
        raise ValueError("the organisation is too small to change")

    def _person(self) -> str:
        return self._rng.choice(list(self._organisation.people))

    def _place(self, but: int = 0) -> int:
        return self._rng.choice([each for each in self._organisation.departments if each != but])

    def _rename(self) -> None:
        userid = self._person()
        changes = {
            "name": f"改名{self._made}",
            "title": f"职位{self._rng.randint(1, 99)}",
            "email": f"{userid}.{self._made}@example.com",
            "mobile": f"139{self._rng.randrange(10**8):08d}",
        }
        name = self._rng.choice(list(changes))
        self._organisation.put_user(userid, {name: changes[name]})

    def _move(self) -> None:
        userid = self._person()
        only = self._organisation.people[userid].departments
        place = self._place(but=only[0] if len(only) == 1 else 0)
        self._organisation.put_user(userid, {"dept_id_list": [place]})

    def _join(self) -> None:
        userid = f"new-{self._seed}-{self._made}"
        self._organisation.put_user(userid, {"dept_id_list": [self._place()], "active": False})

    def _leave(self) -> None:
        userid = self._person()
        self._organisation.delete_user(userid)
        self._left.append(userid)

    def _come_back(self) -> None:
        userid = self._rng.choice(self._left)
        self._left.remove(userid)
        self._organisation.put_user(userid, {"dept_id_list": [self._place()]})

    def _activate(self) -> None:
        waiting = [
            userid
            for userid, person in self._organisation.people.items()
            if person.changes and person.changes.get("active") is False
        ]
        self._organisation.put_user(self._rng.choice(waiting), {"active": True})

    def _open_department(self) -> None:
        number = FIRST_DEPARTMENT + self._made
        changes = {"name": f"新部门{self._made}", "parent_id": self._place()}
        self._organisation.put_department(number, changes)

    def _change_department(self) -> None:
        number = self._place(but=ROOT)
        if self._rng.random() < 0.5:
            self._organisation.put_department(number, {"name": f"改名部门{self._made}"})
            return
        parent = self._organisation.departments[number].parent_id
        self._organisation.put_department(number, {"parent_id": self._place(but=parent or 0)})

    def _close_department(self) -> None:
        self._organisation.delete_department(self._place(but=ROOT))
