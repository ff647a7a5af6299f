"""Notices for subscribers, written in one step with the change that they are about."""

from dingrelay_workers.noun import Noun

NOUN = Noun(
    name="outbox",
    tables=("models",),
)
