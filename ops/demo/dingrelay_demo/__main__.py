"""``python -m dingrelay_demo`` is ``dingrelay demo``."""

import typer

from dingrelay_demo.command import register

app = typer.Typer(add_completion=False)
register(app)

if __name__ == "__main__":
    app()
