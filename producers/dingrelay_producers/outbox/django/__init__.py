"""The outbox for Django: an app whose migration makes the table, and `send`, which writes into it.

``INSTALLED_APPS`` has ``"dingrelay_producers.outbox.django"``. `dingrelay outbox relay` enqueues the rows.
"""

from dingrelay_producers.outbox.rows import new_row
from dingrelay_tasks.contract import Contract


def send(job: Contract, using: str | None = None) -> str:
    """Write a job into the outbox, in the transaction of ``transaction.atomic`` that is open, if one is.

    Args:
        job: the job.
        using: the database by its name in ``DATABASES``, if routers don't say.

    Returns:
        The id that the job will have, for `Client.job`.

    Raises:
        ContractError, InvalidArgument, SettingsError: as `new_row`; nothing is written.
    """
    from dingrelay_producers.outbox.django.models import OutboxRow

    job_id, row = new_row(job)
    OutboxRow(**row).save(using=using, force_insert=True)
    return job_id
