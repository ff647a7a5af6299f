"""``python -m dingrelay_producers.cli`` is ``dingrelay``."""

from dingrelay_producers.cli import main

main()
