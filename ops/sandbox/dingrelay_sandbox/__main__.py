"""``python -m dingrelay_sandbox`` starts the sandbox."""

import typer

from dingrelay_sandbox.command import register

app = typer.Typer(add_completion=False)
register(app)

if __name__ == "__main__":
    app()
