"""Who may ask, and how often: what is looked at before a request reaches the student.

A server on 127.0.0.1 without a token answers only to the names of this computer, so that a page in its
browser cannot reach it under a name of its own (DNS rebinding).
"""

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from .settings import ServerSettings

LOCAL_NAMES = {"127.0.0.1", "localhost", "[::1]"}
ADDRESSES = 10_000  # that are remembered; the one not heard of longest is forgotten first
BURST = 2.0  # seconds' worth of requests that may come at once


class RateLimit:
    """A bucket of requests an address, filled at `rate` a second; 0 is no limit."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic):
        self.rate, self._clock = rate, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # {address: (requests, when)}

    def seconds_to_wait(self, address: str) -> float:
        """0 where a request may come in, which takes it out of the bucket; else when the next one may."""
        if not self.rate:
            return 0.0
        now, most = self._clock(), max(1.0, BURST * self.rate)
        left, then = self._buckets.pop(address, (most, now))
        left = min(most, left + (now - then) * self.rate)
        wait = 0.0 if left >= 1 else (1 - left) / self.rate
        self._buckets[address] = (left - (not wait), now)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return wait


class Guard:
    """Refusals by host name, rate and token."""

    def __init__(self, settings: ServerSettings):
        self._token = settings.token.encode()
        self._names_matter = settings.is_local and not settings.token
        self._host = settings.host
        self._limit = RateLimit(settings.rate)

    def refusal(self, address: str, path: str, headers: Mapping[str, str]) -> tuple[int, str, dict[str, str]]:
        """(status, reason, headers) of a request that is turned away; status 0 for one that may come in.

        Everybody may ask for /health, where there is nothing to find out.
        """
        wait = self._limit.seconds_to_wait(address)
        if wait:
            return 429, "too many requests", {"retry-after": str(max(1, round(wait)))}
        if self._names_matter and not self._is_local_name(headers.get("host", "")):
            return 421, "the Host header must be the address of this server", {}
        if self._token and path != "/health" and not self._has_token(headers.get("authorization", "")):
            return (
                401,
                "the header 'Authorization: Bearer TOKEN' must be sent",
                {"www-authenticate": "Bearer"},
            )
        return 0, "", {}

    def _is_local_name(self, host: str) -> bool:
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        return name.lower() in LOCAL_NAMES | {self._host}

    def _has_token(self, authorization: str) -> bool:
        kind, _, token = authorization.partition(" ")
        same = hmac.compare_digest(token.strip().encode("latin-1", "replace"), self._token)
        return same and kind.lower() == "bearer"
