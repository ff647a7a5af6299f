"""Every route of the gateway. The router and the OpenAPI document are both built from this."""

from dingrelay_producers.gateway import directory, health, limits
from dingrelay_producers.gateway.approvals import routes as approval_routes
from dingrelay_producers.gateway.callbacks import routes as callbacks
from dingrelay_producers.gateway.campaigns import routes as campaign_routes
from dingrelay_producers.gateway.docs import page as docs_page
from dingrelay_producers.gateway.http.routes import Route
from dingrelay_producers.gateway.jobs import actions as job_actions
from dingrelay_producers.gateway.jobs import bulk
from dingrelay_producers.gateway.jobs import create as jobs
from dingrelay_producers.gateway.jobs import views as job_views
from dingrelay_producers.gateway.keys import handlers as keys
from dingrelay_producers.gateway.webhooks import routes as webhook_routes

ROUTES: tuple[Route, ...] = (
    *jobs.ROUTES,
    *bulk.ROUTES,
    *job_views.ROUTES,
    *job_actions.ROUTES,
    *approval_routes.ROUTES,
    *limits.ROUTES,
    *campaign_routes.ROUTES,
    *directory.ROUTES,
    *keys.ROUTES,
    *webhook_routes.ROUTES,
    *callbacks.ROUTES,
    *docs_page.ROUTES,
    *health.ROUTES,
)
