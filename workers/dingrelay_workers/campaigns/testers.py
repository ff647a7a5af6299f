"""The people who get a test of a campaign: a test is no broadcast."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import current_actor
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.models import CampaignRow
from dingrelay_workers.campaigns.people import acting_person
from dingrelay_workers.database.database import change_rows
from dingrelay_workers.roles.service import approvers

MOST = 5
"""People who get tests of one campaign, however many tests."""


def named_or_self(settings: Settings, users: Sequence[str]) -> list[str]:
    """The testers that are named, or the person who acts.

    Raises:
        ContractError: none is named, and a key or a user of the shell acts who is no person.
    """
    testers = list(dict.fromkeys(users)) or [acting_person(settings)]
    if testers == [""]:
        problem = en("are needed: it is not known which person {} is", current_actor().id)
        raise ContractError("users", problem)
    return testers


async def admit(
    settings: Settings,
    connection: AsyncConnection,
    row: CampaignRow,
    testers: Sequence[str],
    *,
    marked: bool,
) -> None:
    """Count people among the testers of a campaign, before a test is sent to them.

    Args:
        settings: name the reviewers.
        connection: in a transaction with the lock of the campaign.
        row: the campaign.
        testers: writers or reviewers of it, or the person who acts.
        marked: whether the message says that it is a test.

    Raises:
        ContractError: one is none of these, or they are too many.
    """
    person = acting_person(settings)
    reviewers = settings.campaigns.reviewers or await approvers(connection, row.app, row.app)
    permitted = {*(row.writers or ()), *reviewers, person}
    for tester in testers:
        if tester not in permitted:
            problem = en("{} is neither a writer nor a reviewer of the campaign", tester)
            raise ContractError("users", problem)
    if not marked and list(testers) != [person]:
        problem = en("a message that can't be marked as a test goes to oneself only")
        raise ContractError("users", problem)
    before = row.testers or []
    after = list(dict.fromkeys([*before, *testers]))
    if len(after) > MOST:
        problem = en("{} people at most get tests of a campaign: {}", MOST, ", ".join(before))
        raise ContractError("users", problem)
    if after != before:
        await change_rows(connection, CampaignRow, CampaignRow.id == row.id, testers=after)
