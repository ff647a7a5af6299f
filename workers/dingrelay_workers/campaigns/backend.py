"""Campaigns as the clients of `dingrelay_producers` use them: the commands, from Python."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, cast

from dingrelay_producers.client.campaign_backend import (
    CampaignPreview,
    CampaignStatus,
    Chosen,
    CreatedCampaign,
    Plan,
)
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import Contract
from dingrelay_workers.campaigns import documents, estimate, removal
from dingrelay_workers.campaigns.audience import Audience, Source
from dingrelay_workers.campaigns.control import Control
from dingrelay_workers.campaigns.follow_up import FollowUp
from dingrelay_workers.campaigns.models import CampaignRow, State
from dingrelay_workers.campaigns.opened import opened_services, opened_store
from dingrelay_workers.campaigns.report import Report
from dingrelay_workers.campaigns.spec import CampaignSpec
from dingrelay_workers.database.database import BUSY_TIMEOUT_MS


class SqlBackend:
    """The campaigns. `CampaignRef` and `CampaignPlan` say what its methods mean.

    It opens its connections for each call, since the caller's event loop lives no longer.

    Args:
        settings: of this process.
        migrated: whether the tables are already up to date.
        busy_timeout_ms: how long a change of state waits for other writers on SQLite.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        migrated: bool = False,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
    ) -> None:
        self._settings = settings
        self._store = partial(opened_store, settings, migrated=migrated)
        self._services = partial(
            opened_services, settings, migrated=migrated, busy_timeout_ms=busy_timeout_ms
        )

    async def create(self, plan: Plan, campaign: str | None = None) -> CreatedCampaign:
        """Store a draft, with this id if one is given."""
        spec = CampaignSpec.of(plan)
        async with self._store() as store:
            created = await store.create(
                spec, _audience(plan), campaign=campaign, malformed=plan.malformed
            )
        return CreatedCampaign(
            id=created.campaign.id,
            excluded=created.excluded,
            skipped=created.malformed,
        )

    async def preview(self, plan: Plan | str) -> CampaignPreview:
        """The estimated cost of a plan, or of the campaign with this id."""
        async with self._store() as store:
            if isinstance(plan, str):
                found = await estimate.of_draft(self._settings, store, plan)
            else:
                found = await estimate.of_audience(
                    self._settings,
                    store.database,
                    CampaignSpec.of(plan),
                    _audience(plan),
                    malformed=plan.malformed,
                )
        return CampaignPreview(
            **asdict(found.size),
            **asdict(found.pace),
            quota_used=found.month.used,
            quota_limit=found.month.limit,
            quota_share=found.month.share,
            fits=found.month.fits,
            duplicates=found.duplicates,
            malformed=found.malformed,
            excluded=found.gathered.excluded if found.gathered else 0,
        )

    async def status(self, campaign: str) -> CampaignStatus:
        """How a campaign stands."""
        async with self._store() as store:
            return _status(await store.get(campaign))

    async def list(self, chosen: Chosen, *, limit: int) -> Sequence[CampaignStatus]:
        """The latest campaigns, latest first."""
        async with self._store() as store:
            return [_status(row) for row in await store.list(limit=limit, chosen=chosen)]

    async def start(self, campaign: str) -> None:
        """Let a draft run."""
        async with self._services() as (database, redis):
            await Control(database, redis).start(campaign)

    async def pause(self, campaign: str) -> None:
        """Hold it."""
        async with self._services() as (database, redis):
            await Control(database, redis).pause(campaign)

    async def resume(self, campaign: str) -> None:
        """Let it run on."""
        async with self._services() as (database, redis):
            await Control(database, redis).resume(campaign)

    async def cancel(self, campaign: str) -> None:
        """End it for good."""
        async with self._services() as (database, redis):
            await Control(database, redis).cancel(campaign)

    async def delete(self, campaign: str, *, wait: bool) -> None:
        """Delete one that has ended; without `wait` the fleet deletes its rows."""
        if not wait:
            async with self._services() as (database, redis):
                await Control(database, redis).delete(campaign)
            return
        async with self._store() as store:
            await removal.hide(store.database, campaign)
            await removal.remove(store.database, campaign)

    async def report(self, campaign: str) -> dict[str, Any]:
        """The outcomes of its people, as JSON values."""
        async with self._store() as store:
            return documents.report(await Report(store.database).summary(campaign))

    async def recall(self, campaign: str) -> Sequence[Contract]:
        """The jobs that take back what was sent."""
        async with self._store() as store:
            return (await FollowUp(store).recall(campaign)).jobs

    async def confirm(self, campaign: str, *, sample: int | None) -> Sequence[Contract]:
        """The jobs that ask which people it reached."""
        async with self._store() as store:
            return (await FollowUp(store).confirm(campaign, sample=sample)).jobs

    async def test(
        self, campaign: str, users: Sequence[str], fields: Mapping[str, str] | None
    ) -> Contract:
        """The job that sends its message to testers."""
        async with self._store() as store:
            return await FollowUp(store).test(campaign, users, fields)


def _audience(plan: Plan) -> Audience:
    return Audience(
        rows=cast("Source | None", plan.recipients),
        users=plan.users,
        departments=plan.departments,
        everyone=plan.everyone,
        encoding=plan.encoding,
        without_rows=cast("Source | None", plan.without),
        without_users=plan.without_users,
        without_departments=plan.without_departments,
    )


def _status(row: CampaignRow) -> CampaignStatus:
    return CampaignStatus(
        id=row.id,
        name=row.name,
        app=row.app,
        sender=row.sender,
        state=State(row.state),
        reason=row.reason,
        recipients=row.recipients,
        duplicates=row.duplicates,
        malformed=row.malformed,
        planned=row.chunks,
        ended=row.settled,
        calls=row.calls,
        accepted=row.accepted,
        left_out=row.left_out,
        failed=row.failed,
        created_at=row.created_at,
        start_at=row.start_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
