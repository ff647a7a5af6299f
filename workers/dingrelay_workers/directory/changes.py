"""What happened to people, as a walk or an answer finds out."""

from dataclasses import dataclass, field

from dingrelay_workers.directory.models import Event


@dataclass(slots=True)
class Change:
    """What happened to a person, and in which fields if they only changed."""

    event: Event
    fields: set[str] = field(default_factory=set[str])


Changes = dict[str, Change]
"""Change by userid."""
