"""The people who write, approve and test campaigns: the same ones at every door."""

from dingrelay_producers.actor import current_actor
from dingrelay_producers.errors import CampaignConflict
from dingrelay_producers.settings import Settings
from dingrelay_tasks.sentence import en


def acting_person(settings: Settings) -> str:
    """The userid of the person who acts: who signed in, who owns the key, who the user of the shell is; "" for no person."""
    actor = current_actor()
    if actor.door in {"cli", "python"}:
        return settings.campaigns.shell_person(actor.id)
    return actor.person


def author(settings: Settings) -> str:
    """The person who acts, or the key or user of the shell that is no person's."""
    return acting_person(settings) or current_actor().id


def approver(settings: Settings, campaign: str) -> str:
    """The person who decides on a campaign.

    Raises:
        CampaignConflict: a key without an owner acts, or a user of the shell who is no person.
    """
    person = acting_person(settings)
    if person:
        return person
    actor = current_actor()
    if actor.door == "http":
        problem = en("must be approved by a person: the key {} has no owner", actor.id)
    else:
        problem = en(
            "must be approved by a person: [campaigns] shell_users does not say who {} is", actor.id
        )
    raise CampaignConflict(campaign, problem)
