"""Finds people in the directory by userid, mobile number, e-mail address, job number or name."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from sqlalchemy import select

from dingrelay_producers.client.campaign_documents import Identifier
from dingrelay_tasks import addresses
from dingrelay_tasks.addresses import AddressKind
from dingrelay_workers.database.database import Database, rows_among
from dingrelay_workers.directory.models import UserRow


def _words(text: str) -> str:
    return " ".join(text.split())


def _userid(text: str) -> str:
    return text


PARSERS: Mapping[Identifier, Callable[[str], str]] = {
    "userid": _userid,
    "mobile": addresses.mobile,
    "email": addresses.email,
    "job_number": addresses.job_number,
    "name": _words,
}
"""How each kind is compared."""
_COLUMNS = {
    "userid": (UserRow.userid,),
    "mobile": (UserRow.mobile,),
    "email": (UserRow.email, UserRow.org_email),
    "job_number": (UserRow.job_number,),
    "name": (UserRow.name,),
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
    database: Database, app: str, kind: Identifier, values: Collection[str], *, left: bool = False
) -> dict[str, list[str]]:
    """The userids of those who have one of these identifiers and have not left, or `left`, by identifier.

    Args:
        database: of the directory.
        app: whose directory it is.
        kind: of the identifiers.
        values: as `PARSERS` compares them.
        left: whether it is those who have left.
    """
    userids_by_value: dict[str, set[str]] = {value: set() for value in values}
    values_by_spelling: dict[str, set[str]] = {value: {value} for value in values}
    if kind == "name":
        # Blanks pad Chinese names of two characters.
        for value in (value for value in values if " " in value):
            values_by_spelling.setdefault(value.replace(" ", ""), set()).add(value)
    async with database.read() as connection:
        for column in _COLUMNS[kind]:
            query = select(column, UserRow.userid)
            here = UserRow.left_at.is_(None)
            query = query.where(UserRow.app == app, ~here if left else here)
            for spelling, userid in await rows_among(connection, query, column, values_by_spelling):
                for value in values_by_spelling[str(spelling)]:
                    userids_by_value[value].add(userid)
    return {value: sorted(userids) for value, userids in userids_by_value.items()}


def _compared(kind: AddressKind, text: object) -> str | None:
    """An address as it is compared; None where there is none."""
    if not isinstance(text, str) or not text:
        return None
    try:
        return addresses.PARSERS[kind](text.strip())
    except ValueError:
        return None  # what DingTalk keeps there is no address that anybody could ask for
