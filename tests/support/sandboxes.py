"""Settings and variables for processes that use the sandbox in place of DingTalk, and a sandbox with TLS.

Run as a program, with the files of a certificate and its key, it is met as DingTalk is in production: over TLS
only. It prints the port of the plain door, which the test asks for what has happened, and that of the encrypted one.
"""

import asyncio
import signal
import ssl
import sys
from typing import Any

from aiohttp import web

from dingrelay_producers.settings import AppSettings, Settings
from dingrelay_sandbox.apps import App
from dingrelay_sandbox.door import Door
from dingrelay_sandbox.limits import Latency
from dingrelay_sandbox.server import create_app
from dingrelay_sandbox.state import SandboxState, Start

APP = {"app_key": "sandbox-key", "app_secret": "sandbox-secret", "agent_id": "1000001"}


def sandbox_settings(
    url: str, redis_url: str, *, secret: str = APP["app_secret"], **fields: Any
) -> Settings:
    """Settings of the sandbox's first app; the fields replace those set here."""
    app = AppSettings.model_validate({**APP, "app_secret": secret})
    given = {"env": "sandbox", "redis_url": redis_url, "apps": {"default": app}}
    return Settings.load(**given | {"DINGTALK_OAPI_URL": url, "DINGTALK_API_URL": url} | fields)


def sandbox_variables(url: str, redis_url: str, database_url: str, **more: str) -> dict[str, str]:
    """The same for a process of its own."""
    return {
        "DINGRELAY_ENV": "sandbox",
        "DINGRELAY_REDIS_URL": redis_url,
        "DINGRELAY_DATABASE_URL": database_url,
        "DINGTALK_OAPI_URL": url,
        "DINGTALK_API_URL": url,
        **{f"DINGTALK_{name.upper()}": value for name, value in APP.items()},
        **more,
    }


APP_KEY, APP_SECRET, AGENT_ID = "dingcontainers", "secret-of-the-containers", "4242"


async def serve(cert: str, key: str) -> None:
    """Listen until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    app = App(app_key=APP_KEY, app_secret=APP_SECRET, agent_id=AGENT_ID)
    start = Start(users=200, departments=10, latency=Latency.parse("0"), app=app)
    state = SandboxState(start)
    served = create_app(state)
    runner = web.AppRunner(served, access_log=None, shutdown_timeout=0.2, handle_signals=False)
    door = state.door = Door(runner, "127.0.0.1", 0)
    await runner.setup()
    await door.open()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    sys.stdout.write(" ".join(str(address[1]) for address in runner.addresses) + "\n")
    sys.stdout.flush()
    await stopping.wait()
    door.close()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:3]))
