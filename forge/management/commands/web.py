"""`manage.py web`: serve pages, API, runners and their broker tunnels."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import uvicorn
from django.core.management.base import BaseCommand

from forge.websocket import MAXIMUM_MESSAGE_BYTES
from projects.checks import report_trouble

# Live streams and tunnels never end by themselves; their readers come back to the next process.
GRACE_SECONDS = 3
# Longer than nginx (60) and other proxies keep an idle connection: who closes first is the proxy.
# The other way round, a request that is on its way while this side closes becomes a 502, and a POST
# is not tried again. https://nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive_timeout
KEEP_ALIVE_SECONDS = 75
# How long one of several processes may be deaf before it is replaced. It is while it starts: a host
# with much to do would otherwise kill each new one before it serves, and begin again without end.
HEALTH_SECONDS = 60


class Command(BaseCommand):
    help = "Serve pages, API, runners and their broker tunnels, behind a TLS proxy in production."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--uds", help="a unix socket's path, instead of host and port")
        parser.add_argument("--workers", type=int, default=1, help="how many processes serve")

    def handle(self, *args: Any, **options: Any) -> None:
        place = options["uds"] or f"http://{options['host']}:{options['port']}"
        self.stdout.write(f"Forge serves at {place}")
        report_trouble()
        uvicorn.run(
            "forge.asgi:application",
            host=options["host"],
            port=options["port"],
            uds=options["uds"],
            workers=options["workers"],
            lifespan="off",
            access_log=False,
            # Django's own logging; a line for every tunnel of a large fleet would drown it.
            log_config=None,
            log_level="warning",
            # Forge reads a proxy's headers itself, and only with FORGE_BEHIND_PROXY.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_worker_healthcheck=HEALTH_SECONDS,
            # By name: each of several processes imports them, after Django's setup in that module.
            http="forge.asgi:BoundedHttp",
            ws="forge.asgi:BoundedWebSocket",
            ws_max_size=MAXIMUM_MESSAGE_BYTES,
            # Compressing hints and events would cost more than it saves.
            ws_per_message_deflate=False,
        )
