"""``python -m dingrelay_producers.gateway FILE`` writes the OpenAPI document into a file."""

import sys
from pathlib import Path

from dingrelay_producers.gateway.docs import openapi
from dingrelay_producers.gateway.table import ROUTES

Path(sys.argv[1]).write_text(openapi.text(ROUTES), "utf-8")
