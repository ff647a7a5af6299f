"""Every route of the gateway. The router and the OpenAPI document are both built from this."""

from dingrelay_producers.gateway import directory, health, limits
from dingrelay_producers.gateway.campaigns import routes as campaign_routes
from dingrelay_producers.gateway.docs import page as docs_page
from dingrelay_producers.gateway.http.routes import Route
from dingrelay_producers.gateway.jobs import actions as job_actions
from dingrelay_producers.gateway.jobs import bulk
from dingrelay_producers.gateway.jobs import create as jobs
from dingrelay_producers.gateway.jobs import views as job_views
from dingrelay_producers.gateway.keys import handlers as keys

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
