"""People by mobile number, e-mail address and job number."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from dingrelay_tasks import addresses

revision = "0011"
down_revision = "0010"

PARSERS = {
    "mobile": addresses.mobile,
    "email": addresses.email,
    "org_email": addresses.email,
    "job_number": addresses.job_number,
}
NAMES = tuple(PARSERS)
PAGE = 1_000
"""People that are read and written at once."""


def upgrade() -> None:
    """Add the columns, and fill them for those who are there."""
    for name in NAMES:
        op.add_column("users", sa.Column(name, sa.Text))
    _fill(op.get_bind())
    for name in NAMES:
        op.create_index(f"ix_users_app_{name}", "users", ["app", name])


def _fill(connection: sa.Connection) -> None:
    users = sa.table("users", *(sa.column(name) for name in ("app", "userid", "fields", *NAMES)))
    change = (
        sa.update(users)
        .where(users.c.app == sa.bindparam("of_app"), users.c.userid == sa.bindparam("of_user"))
        .values({name: sa.bindparam(f"to_{name}") for name in NAMES})
    )
    last = ("", "")
    while True:
        page = connection.execute(
            sa.select(users.c.app, users.c.userid, users.c.fields)
            .where(sa.tuple_(users.c.app, users.c.userid) > sa.tuple_(*last))
            .order_by(users.c.app, users.c.userid)
            .limit(PAGE)
        ).all()
        if not page:
            return
        rows = [{"of_app": row.app, "of_user": row.userid, **_compared(row.fields)} for row in page]
        connection.execute(change, rows)
        last = (page[-1].app, page[-1].userid)


def _compared(fields: Any) -> dict[str, str | None]:
    known: Mapping[str, Any] = json.loads(fields) if isinstance(fields, str) else fields
    given = {**known, "mobile": addresses.mobile_of(known)}
    found: dict[str, str | None] = {}
    for name in NAMES:
        text = given.get(name)
        try:
            parse = PARSERS[name]
            found[f"to_{name}"] = parse(text.strip()) if isinstance(text, str) and text else None
        except ValueError:
            found[f"to_{name}"] = None
    return found
