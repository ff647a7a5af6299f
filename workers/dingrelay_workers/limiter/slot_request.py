"""The request of a call that waits for its slot."""


class SlotRequest:
    """A slot for one call, and for so many recipients.

    It may be resized while it waits: each request to the buckets has its size of that moment,
    and the grant holds the size that was paid for.

    Attributes:
        recipients: people that the call reaches; 0 for one that reaches none.
    """

    __slots__ = ("recipients",)

    def __init__(self, recipients: int = 0) -> None:
        self.recipients = recipients

    def resize(self, recipients: int) -> None:
        """Ask for so many recipients from the next question on."""
        self.recipients = recipients

    @property
    def costs(self) -> dict[str, int]:
        """The costs of the call, by unit."""
        if self.recipients:
            return {"calls": 1, "recipients": self.recipients}
        return {"calls": 1}
