"""Campaigns, and what is asked of them."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from dingrelay_chaos.operations.operation import answered
from dingrelay_chaos.requests import CampaignRequest, Command
from dingrelay_chaos.system import System
from dingrelay_producers.errors import DingrelayError

CampaignVerb = Literal["pause", "resume", "cancel", "recall", "report", "start"]
CAMPAIGN_VERBS: tuple[CampaignVerb, ...] = (
    *("pause", "pause", "resume", "resume", "resume", "cancel", "recall", "report", "start"),
)
"""The same verb several times: it comes more often."""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A campaign, created and started."""

    tag: str
    users: tuple[str, ...]
    fields: bool
    rate: int | None

    def run(self, system: System, step: int) -> None:
        """Store and start it."""
        request = CampaignRequest(step, system.now(), self.tag, tuple(dict.fromkeys(self.users)))
        system.requests.campaigns.append(request)
        rows: list[object] = [{"userid": user, "name": user} for user in self.users]
        text = f"{self.tag} {{name}}" if self.fields else self.tag
        plan = system.client.campaign(
            name=self.tag,
            message={"msgtype": "text", "text": {"content": text}},
            recipients=rows,
            rate=self.rate,
        )
        # Ten people a chunk would need a setting; what is small here is the audience.
        with suppress(DingrelayError):
            campaign = plan.create()
            request.campaign = campaign.id
            campaign.start()
            request.started = True


@dataclass(frozen=True, slots=True)
class CampaignCommand:
    """What is asked of a campaign that there is."""

    verb: CampaignVerb
    target: int

    def run(self, system: System, step: int) -> None:
        """Ask for it."""
        campaign = system.requests.campaign_of(self.target)
        if not campaign:
            return
        answer = answered(lambda: _call(system.client.campaign_ref(campaign), self.verb))
        system.requests.commands.append(Command(step, system.now(), self.verb, campaign, answer))


def _call(of: object, verb: str) -> object:
    return getattr(of, verb)()
