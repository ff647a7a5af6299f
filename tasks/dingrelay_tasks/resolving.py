"""Finding out whose an address is: in the directory, and at DingTalk where that does not know."""

from collections.abc import Mapping, Sequence

from dingrelay_tasks.addresses import CHINA, AddressKind, Reason
from dingrelay_tasks.context import Context, Json
from dingrelay_tasks.outcomes import OutOfScope


async def resolve(addresses: Mapping[AddressKind, Sequence[str]], ctx: Context) -> Json:
    """Look up the users who have these addresses.

    No guesses: an address that several people have resolves to none of them.

    Args:
        addresses: of each kind, as `addresses` compares them.
        ctx: of the job that names them.

    Returns:
        ``users``, and ``unresolved`` as in `MessageSendResult`.
    """
    users: list[str] = []
    unresolved: list[Json] = []
    for kind, values in addresses.items():
        known = await ctx.directory.find(kind, values)
        for value in values:
            if len(known[value]) > 1:
                unresolved.append({kind: value, "reason": "ambiguous", "users": known[value]})
                continue
            userid, reason = (known[value][0], "") if known[value] else await _ask(kind, value, ctx)
            if userid is None:
                unresolved.append({kind: value, "reason": reason})
            else:
                users.append(userid)
    return {"users": users, "unresolved": unresolved}


async def _ask(kind: AddressKind, value: str, ctx: Context) -> tuple[str | None, Reason]:
    """What DingTalk says of an address that the directory does not know.

    DingTalk is queried for Chinese mobile numbers only; for others it has no API (API §3.1, §11.3).
    """
    country, _, number = value.partition("-")
    if kind != "mobile" or country != f"+{CHINA}":
        return None, "unknown"
    try:
        return await ctx.contacts.by_mobile(number), "unknown"
    except OutOfScope:
        return None, "hidden"
