"""The outbox's table for Django: column by column that of `dingrelay_producers.outbox.tables`."""

from django.db import models

from dingrelay_producers.outbox.rows import TABLE


class OutboxRow(models.Model):
    """A job that is to be enqueued; the columns are described at the other model."""

    number = models.BigAutoField(primary_key=True)
    id = models.CharField(max_length=36)
    kind = models.CharField(max_length=64)
    job = models.TextField()
    written_at = models.BigIntegerField()
    trace = models.TextField(null=True)  # noqa: DJ001 - as that of SQLAlchemy
    tried_at = models.BigIntegerField(null=True)
    leased_until = models.BigIntegerField(null=True)
    refused = models.TextField(null=True)  # noqa: DJ001 - NULL is a row that waits

    class Meta:
        db_table = TABLE

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"
