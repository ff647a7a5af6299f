"""Changes of people, as a walk or an answer finds them."""

from dataclasses import dataclass, field

from dingrelay_workers.directory.models import Event


@dataclass(slots=True)
class Change:
    """A change of a person, with its fields if they only changed."""

    event: Event
    fields: set[str] = field(default_factory=set[str])


Changes = dict[str, Change]
"""Change by userid."""
