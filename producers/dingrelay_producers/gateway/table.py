"""Every route of the gateway. The router and the OpenAPI document are both built from this."""

from dingrelay_producers.gateway import docs_page, health, jobs
from dingrelay_producers.gateway.routes import Route

ROUTES: tuple[Route, ...] = (
    *jobs.ROUTES,
    *docs_page.ROUTES,
    *health.ROUTES,
)
