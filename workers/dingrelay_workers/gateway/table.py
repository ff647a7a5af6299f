"""Every route of the gateway. The router and the OpenAPI document are both built from this."""

from dingrelay_workers.approvals import routes as approval_routes
from dingrelay_workers.campaigns import routes as campaign_routes
from dingrelay_workers.directory import routes as directory
from dingrelay_workers.gateway import callbacks, docs, health, limits
from dingrelay_workers.gateway.jobs import bulk
from dingrelay_workers.gateway.jobs import routes as job_routes
from dingrelay_workers.http import job_routes as jobs
from dingrelay_workers.http.routes import Route
from dingrelay_workers.keys import routes as keys
from dingrelay_workers.webhooks import routes as webhook_routes

ROUTES: tuple[Route, ...] = (
    *jobs.ROUTES,
    *bulk.ROUTES,
    *job_routes.ROUTES,
    *approval_routes.ROUTES,
    *limits.ROUTES,
    *campaign_routes.ROUTES,
    *directory.ROUTES,
    *keys.ROUTES,
    *webhook_routes.ROUTES,
    *callbacks.ROUTES,
    *docs.ROUTES,
    *health.ROUTES,
)
