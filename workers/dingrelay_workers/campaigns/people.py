"""The people who write, approve and test campaigns: the same ones at every door."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import SHELL, current_actor
from dingrelay_producers.errors import CampaignConflict
from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.sections import CampaignSettings
from dingrelay_tasks.sentence import en
from dingrelay_workers.directory.audience import who_is_absent
from dingrelay_workers.http.api_keys import KEY_ID


def acting_person(settings: Settings) -> str:
    """The userid of the person who acts: who signed in, who owns the key, who the user of the shell is; "" for no person."""
    actor = current_actor()
    if actor.door in {"cli", "python"}:
        return settings.campaigns.shell_person(actor.id)
    return actor.person


def author(settings: Settings) -> str:
    """The person who acts, or the key or user of the shell that is no person's."""
    return acting_person(settings) or current_actor().id


def with_issuers(issuers: Sequence[str] | None) -> list[str]:
    """These issuers and those of the actor."""
    return list(dict.fromkeys([*(issuers or ()), *current_actor().issuers]))


def person_of(rule: CampaignSettings, human: str) -> str:
    """The userid of one of `Actor.hands`; "" for a user of a shell who is no person."""
    if human.startswith(SHELL):
        return rule.shell_person(human.removeprefix(SHELL))
    return human


def humans_of(
    rule: CampaignSettings, writers: Sequence[str] | None, issuers: Sequence[str] | None
) -> set[str]:
    """The humans who are behind a campaign: its writers, and the issuers of a key without an owner.

    An administrator issues keys to many, so the issuers of a key that has an owner are none of them.
    """
    humans = {*(writers or ())}
    if any(map(KEY_ID.fullmatch, humans)):
        humans |= {person_of(rule, human) or human.removeprefix(SHELL) for human in issuers or ()}
    return humans


async def deciders(settings: Settings, connection: AsyncConnection, campaign: str) -> Sequence[str]:
    """The person who decides on a campaign, and those who may act in that person's name: who issued the key or the link.

    Raises:
        CampaignConflict: it is not known of one who that is: of a key without an owner, or a user of the shell; or one
            is in no directory, who may still hold the secret of the key.
    """
    actor = current_actor()
    people = [
        acting_person(settings),
        *(person_of(settings.campaigns, human) for human in actor.issuers),
    ]
    if all(people):
        absent = await who_is_absent(connection, people)
        if people[0] in absent:
            problem = en("must be approved by a person in the directory: {} is not", people[0])
            raise CampaignConflict(campaign, problem)
        if absent:
            problem = en(
                "must be approved with another key or link: {} issued this one, and is not in the directory",
                min(absent),
            )
            raise CampaignConflict(campaign, problem)
        return people
    if actor.door == "http" and not actor.person:
        raise CampaignConflict(
            campaign, en("must be approved by a person: the key {} has no owner", actor.id)
        )
    users = [human.removeprefix(SHELL) for human in actor.issuers if human.startswith(SHELL)]
    unknown = [user for user in users if not settings.campaigns.shell_person(user)]
    if unknown:
        problem = en(
            "must be approved by a person: {} issued the key or link, and [campaigns] shell_users does not say who that is",
            unknown[0],
        )
    else:
        problem = en(
            "must be approved by a person: [campaigns] shell_users does not say who {} is", actor.id
        )
    raise CampaignConflict(campaign, problem)
