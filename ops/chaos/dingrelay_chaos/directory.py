"""The directory at one moment: who is there, by which name, and where."""

from dataclasses import dataclass, field

from dingrelay_chaos.database import Database


@dataclass(frozen=True, slots=True)
class Directory:
    """What SQL holds of those who have not left.

    Attributes:
        people: userid → name.
        places: userid → departments.
        departments: id → name and parent.
    """

    people: dict[str, str | None] = field(default_factory=dict[str, str | None])
    places: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    departments: dict[int, tuple[str | None, int | None]] = field(
        default_factory=dict[int, tuple[str | None, int | None]]
    )

    @classmethod
    def read(cls, database: Database) -> "Directory":
        """The directory as of now."""
        people = database.rows("select userid, name from users where left_at is null")
        places: dict[str, set[int]] = {}
        for row in database.rows("select department, userid from memberships"):
            places.setdefault(row["userid"], set()).add(int(row["department"]))
        departments = database.rows(
            "select id, name, parent from departments where left_at is null"
        )
        return cls(
            people={row["userid"]: row["name"] for row in people},
            places=places,
            departments={int(row["id"]): (row["name"], row["parent"]) for row in departments},
        )
