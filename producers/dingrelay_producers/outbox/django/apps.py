"""Django's description of the app."""

from django.apps import AppConfig


class OutboxConfig(AppConfig):
    """The app; its label keeps clear of applications that have an outbox of their own."""

    name = "dingrelay_producers.outbox.django"
    label = "dingrelay_outbox"
    verbose_name = "dingrelay outbox"
