"""Every route of the gateway. The router and the OpenAPI document are both built from this."""

from dingrelay_producers.gateway import (
    bulk,
    campaign_routes,
    directory,
    docs_page,
    health,
    job_actions,
    job_views,
    jobs,
    keys,
    limits,
)
from dingrelay_producers.gateway.routes import Route

ROUTES: tuple[Route, ...] = (
    *jobs.ROUTES,
    *bulk.ROUTES,
    *job_views.ROUTES,
    *job_actions.ROUTES,
    *limits.ROUTES,
    *campaign_routes.ROUTES,
    *directory.ROUTES,
    *keys.ROUTES,
    *docs_page.ROUTES,
    *health.ROUTES,
)
