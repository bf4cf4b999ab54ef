"""The routes of a server as an ASGI application: /predict, /model, /health and /metrics.

A request is answered within its time whatever it sends. Every request leaves one record for the log, which
holds no address, no name and nothing of the image or of what was said of it.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from .. import __version__
from ..predictor import USE
from .guard import Guard
from .metrics import CONTENT_TYPE, Metrics
from .pool import Busy, Late, Pool
from .settings import ServerSettings
from .worker import UNLOGGED

Log = Callable[[dict[str, Any]], None]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ROUTES = ("/predict", "/model", "/health", "/metrics")
GONE_AWAY = 499  # as nginx counts requests whose client does not wait for the answer
CLOSING = {401, 408, 413, 421, 429}
BODY = {"requestBody": {"required": True, "content": {"*/*": {"schema": {"format": "binary"}}}}}


class Refused(Exception):
    """A request that is not answered: its status and the reason."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


def _refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal; where a body may still come its connection is closed, since nobody is going to read it."""
    closing = {"connection": "close"} if status in CLOSING else {}
    return JSONResponse({"error": reason}, status, {**closing, **(headers or {})})


REFUSALS: dict[Any, Callable[[Request, Any], Response]] = {
    Refused: lambda _, refused: _refusal(refused.status, refused.reason),
    Busy: lambda _, busy: _refusal(503, "too many requests are waiting", {"retry-after": "1"}),
    Late: lambda _, late: _refusal(504, "the image could not be answered in time"),
    ClientDisconnect: lambda _, gone: _refusal(GONE_AWAY, "the client went away"),
    HTTPException: lambda _, error: _refusal(error.status_code, str(error.detail), error.headers),
    Exception: lambda _, error: _refusal(500, "a fault of the server"),
}


def new_app(pool: Pool, settings: ServerSettings, log: Log) -> Callable[..., Awaitable[None]]:
    """The application of a pool of workers; `log` takes a record for each request."""
    app = FastAPI(title="kdtf", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    metrics = Metrics()
    model = {
        "sha256": pool.card["sha256"],
        "kdtf": __version__,
        "coverage": (pool.card.get("prediction_sets") or {}).get("coverage"),
        "limits": pool.card.get("answer_limits", []),
    }

    @app.post("/predict", openapi_extra=BODY)
    async def predict(request: Request) -> Response:
        deadline = request.scope["kdtf.deadline"]
        content = await _body(request, settings.max_bytes, deadline)
        answer = await pool.ask(content, deadline)
        request.scope["kdtf.unlogged"] = answer.pop(UNLOGGED, "")
        if "error" in answer:
            raise Refused(422, answer["error"])
        metrics.count_answer(answer)
        return JSONResponse({**answer, "model": model, "use": USE})

    @app.get("/model")
    async def card() -> Response:
        return JSONResponse(pool.card)

    @app.get("/health")
    async def health() -> Response:
        whole = pool.alive == settings.workers
        return JSONResponse({"status": "ok" if whole else "degraded"}, 200 if pool.alive else 503)

    @app.get("/metrics")
    async def numbers() -> Response:
        gauges = {
            "workers": ("Processes that run.", pool.alive),
            "workers_replaced": ("Processes that were late or ended.", pool.replaced),
            "waiting": ("Requests that wait for an answer.", pool.waiting),
        }
        return PlainTextResponse(metrics.text(gauges), media_type=CONTENT_TYPE)

    for kind, respond in REFUSALS.items():
        app.add_exception_handler(kind, respond)
    return Gate(app, Guard(settings), metrics, settings, log)


async def _body(request: Request, most: int, deadline: float) -> bytes:
    """The bytes of a request. Raises `Refused` for none, for more than `most` and for those that are late."""
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > most:
        raise Refused(413, f"an image must have at most {most:,} bytes")
    content = bytearray()
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            async for part in request.stream():
                content += part
                if len(content) > most:
                    raise Refused(413, f"an image must have at most {most:,} bytes")
    except TimeoutError:
        raise Refused(408, "the image did not arrive in time") from None
    request.scope["kdtf.bytes"] = len(content)
    if not content:
        raise Refused(400, "the body must be the bytes of an image file")
    return bytes(content)


class Gate:
    """What every request passes: the guard, the clock, the log and the counts."""

    def __init__(self, app: FastAPI, guard: Guard, metrics: Metrics, settings: ServerSettings, log: Log):
        self._app, self._guard, self._metrics = app, guard, metrics
        self._settings, self._log = settings, log

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI's call."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        began = time.monotonic()
        scope["kdtf.deadline"] = began + self._settings.timeout
        status, error = 0, ""

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._respond(scope, receive, sent)
        except Exception as fault:  # answered with 500 already; its text could hold anything
            error = type(fault).__name__
        finally:
            self._note(scope, status or GONE_AWAY, time.monotonic() - began, error)

    async def _respond(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        address = (scope.get("client") or ("", 0))[0]
        status, reason, extra = self._guard.refusal(address, scope["path"], headers)
        answer = _refusal(status, reason, extra) if status else self._app
        await answer(scope, receive, send)

    def _note(self, scope: Message, status: int, seconds: float, error: str) -> None:
        route = scope["path"] if scope["path"] in ROUTES else "other"
        received = scope.get("kdtf.bytes", 0)
        self._metrics.count_request(route, status, seconds, received)
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
        record = {"request": uuid.uuid4().hex[:12], "method": method, "route": route, "status": status}
        record |= {"bytes": received, "ms": round(1000 * seconds, 1)}
        unlogged = scope.get("kdtf.unlogged")
        record |= {"unlogged": unlogged} if unlogged else {}
        self._log(record | ({"error": error} if error else {}))
