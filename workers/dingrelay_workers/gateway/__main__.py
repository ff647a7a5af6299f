"""``python -m dingrelay_workers.gateway FILE`` writes the OpenAPI document into a file."""

import sys
from pathlib import Path

from dingrelay_workers.gateway.docs import openapi
from dingrelay_workers.gateway.table import ROUTES

Path(sys.argv[1]).write_text(openapi.text(ROUTES), "utf-8")
