"""What stands between a runner and Forge in real networks: nginx with TLS, an HTTP proxy."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deployment.authority import Authority
from tests.deployment.deployment import ROOT
from tests.deployment.production import Service


@contextmanager
def nginx(
    folder: Path, authority: Authority, *, name: str, listen: str, web_port: int, more: str = ""
) -> Iterator[None]:
    """With the configuration of docs/nginx.conf, this deployment's names put in.

    more: further directives of the server, such as those that ask for client certificates.
    """
    certificate, key = authority.issue(name, f"DNS:{name}")
    site = (ROOT / "docs" / "nginx.conf").read_text()
    for documented, here in {
        "listen 443 ssl;": f"listen {listen} ssl; {more}",
        "forge.example.net": name,
        "/etc/ssl/forge/certificate.pem": str(certificate),
        "/etc/ssl/forge/key.pem": str(key),
        "127.0.0.1:8000": f"127.0.0.1:{web_port}",
    }.items():
        assert documented in site
        site = site.replace(documented, here)
    configuration = folder / "nginx.conf"
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind}; "
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Its processes would give up root, and may not enter a test's folder: a body that is too long
    # for memory could not be kept.
    user = "user root; " if os.geteuid() == 0 else ""
    configuration.write_text(
        f"{user}daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        f"events {{}}\nhttp {{ access_log {folder}/access.log; {temporary}\n{site}\n}}\n"
    )
    command = ["nginx", "-c", str(configuration), "-p", str(folder), "-e", f"{folder}/nginx.log"]
    service = Service(command, {"PATH": os.environ["PATH"]}, folder / "nginx.out")
    try:
        yield
    finally:
        service.end()


class ConnectProxy:
    """An HTTP proxy that knows `CONNECT` and the addresses of a few names; counts its tunnels."""

    def __init__(self, places: dict[str, tuple[str, int]]) -> None:
        self._places = places
        self.asked: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        self.asked.append(target)
        if method != "CONNECT" or target not in self._places:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._places[target])
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        ways = (_pipe(reader, upstream_writer), _pipe(upstream_reader, writer))
        await asyncio.gather(*ways, return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
