"""A server from its first to its last moment: a socket, the workers, uvicorn, and all of it put away."""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import UserError
from .app import Log, new_app
from .pool import Pool
from .settings import ServerSettings
from .worker import Record

KEEP_ALIVE = 5  # seconds that a connection without a request stays open
HEADERS = 10.0  # seconds in which the headers of a request must have come
MOST_HEADERS = 16 << 10  # bytes
BACKLOG = 512  # connections that may wait to be accepted


class TimedProtocol(H11Protocol):
    """uvicorn's own, which closes a connection whose headers take too long: it waits for them for ever."""

    seconds = HEADERS
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come: it has so long for its first request."""
        super().connection_made(transport)
        # asyncio leaves Nagle's algorithm on for this kind of socket: 40 ms an answer
        self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._timer = self.loop.call_later(self.seconds, self.transport.close)

    def data_received(self, data: bytes) -> None:
        """Bytes of headers, or of a body, whose time the application keeps."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self.seconds, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def listening(settings: ServerSettings) -> socket.socket:
    """A socket at the address of the settings. Raises `UserError` where it is taken or not here."""
    kind = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=kind, backlog=BACKLOG)
    except OSError as error:
        place = f"{settings.host} port {settings.port}"
        reason = error.strerror or str(error)
        raise UserError(f"--host and --port must be free to listen at. Got {place}: {reason}.") from None


def serve(
    bundle: Path,
    settings: ServerSettings,
    log: Log,
    started: Callable[[str], None],
    record: Record | None = None,
) -> None:
    """Answer requests until SIGINT or SIGTERM; `started` is told the URL, `record` takes every answer.

    Raises `UserError`, and `BundleError` where the bundle cannot be used.
    """
    with listening(settings) as place:
        pool = Pool(bundle, workers=settings.workers, queue=settings.queue, record=record)
        try:
            server = Server(_configuration(new_app(pool, settings, log), settings))
            host, port = place.getsockname()[:2]
            started(f"http://{f'[{host}]' if ':' in host else host}:{port}")
            # uvicorn raises the signal that ended it again
            with suppress(KeyboardInterrupt, SystemExit):
                server.run(sockets=[place])
        finally:
            pool.close()


def _configuration(app: Any, settings: ServerSettings) -> Config:
    logger = logging.getLogger("uvicorn")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return Config(
        app,
        http=type("Protocol", (TimedProtocol,), {"seconds": min(HEADERS, settings.timeout)}),
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=settings.connections,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=MOST_HEADERS,
        backlog=BACKLOG,
    )
