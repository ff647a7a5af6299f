"""Detects recipients that an app's messages surely can't reach, before a call."""

from dingrelay_workers.noun import Noun

NOUN = Noun(
    name="recipients",
    personal_data=("personal_data:LIMITS", "personal_data:RANGES", "personal_data:SESSIONS"),
)
