"""kombu's transport for RabbitMQ over TLS, which compares each broker's certificate with that broker's name.

kombu keeps one name for all brokers of a URL, and takes ``localhost`` for an address.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, pyamqp

from dingrelay_producers.redis_address import TLS_OPTION

ALIAS = "amqps"
_KOMBUS = "kombu.transport.pyamqp:SSLTransport"


class AmqpsTransport(pyamqp.SSLTransport):
    """RabbitMQ over TLS."""

    def establish_connection(self: Any) -> Any:
        """A connection to the broker whose turn it is."""
        client = self.client
        name, ssl, options = client.hostname, client.ssl, client.transport_options
        # They are all passed on to py-amqp, which does not know it.
        client.transport_options = {key: options[key] for key in options if key != TLS_OPTION}
        if isinstance(ssl, dict) and "server_hostname" in ssl:
            client.ssl = {**ssl, "server_hostname": name}
        try:
            return super().establish_connection()  # type: ignore[no-untyped-call]
        finally:
            # kombu has put an address in the place of ``localhost``, for the next time as well.
            client.hostname, client.ssl, client.transport_options = name, ssl, options


def install() -> None:
    """Let kombu find it by its scheme."""
    if TRANSPORT_ALIASES[ALIAS] == _KOMBUS:
        TRANSPORT_ALIASES[ALIAS] = f"{__name__}:AmqpsTransport"
