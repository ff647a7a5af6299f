"""Finds people in the directory by mobile number, e-mail address or job number."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import select

from dingrelay_tasks import addresses
from dingrelay_tasks.addresses import AddressKind
from dingrelay_workers.database.database import Database, rows_among
from dingrelay_workers.directory.models import UserRow

_COLUMNS = {
    "mobile": (UserRow.mobile,),
    "email": (UserRow.email, UserRow.org_email),
    "job_number": (UserRow.job_number,),
}


def columns(fields: Mapping[str, Any]) -> dict[str, str | None]:
    """The address columns of a person's row, from the fields in DingTalk's answer."""
    return {
        "mobile": _compared("mobile", addresses.mobile_of(fields)),
        "email": _compared("email", fields.get("email")),
        "org_email": _compared("email", fields.get("org_email")),
        "job_number": _compared("job_number", fields.get("job_number")),
    }


async def find(
    database: Database, app: str, kind: AddressKind, values: Collection[str]
) -> dict[str, list[str]]:
    """The userids of those who have not left and have one of these addresses, by address.

    Args:
        database: of the directory.
        app: whose directory it is.
        kind: of the addresses.
        values: as `dingrelay_tasks.addresses` compares them.
    """
    userids_by_value: dict[str, set[str]] = {value: set() for value in values}
    async with database.read() as connection:
        for column in _COLUMNS[kind]:
            query = select(column, UserRow.userid)
            query = query.where(UserRow.app == app, UserRow.left_at.is_(None))
            for value, userid in await rows_among(connection, query, column, values):
                userids_by_value[str(value)].add(userid)
    return {value: sorted(userids) for value, userids in userids_by_value.items()}


def _compared(kind: AddressKind, text: object) -> str | None:
    """An address as it is compared; None where there is none."""
    if not isinstance(text, str) or not text:
        return None
    try:
        return addresses.PARSERS[kind](text.strip())
    except ValueError:
        return None  # what DingTalk keeps there is no address that anybody could ask for
