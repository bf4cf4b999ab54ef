"""What a server may be told: where it listens, who may ask, and how much of everything it takes."""

import os
from dataclasses import dataclass
from ipaddress import ip_address

from ..errors import UserError, require

LOCAL = "127.0.0.1"
TOKEN_VARIABLE = "KDTF_TOKEN"
LEAST_TOKEN = 16  # characters: shorter ones can be guessed
MIB = 1 << 20


@dataclass(frozen=True)
class ServerSettings:
    """Checked when it is made: raises `UserError`."""

    host: str = LOCAL  # an IP address
    port: int = 8000  # 0: one that is free
    token: str = ""  # what a client must send; empty: none
    max_mib: float = 32.0  # of a request's body
    rate: float = 50.0  # requests a second of one address, with bursts of twice as many; 0: any number
    timeout: float = 30.0  # seconds for a request, from its first byte to the answer
    workers: int = 1  # processes that run the student
    queue: int = 64  # requests that may wait for a worker
    connections: int = 256  # that may be open

    def __post_init__(self) -> None:
        require(0 <= self.port < 1 << 16, "--port", "between 0 and 65535", self.port)
        require(0 < self.max_mib <= 1024, "--max-mib", "above 0, at most 1024", self.max_mib)
        require(0 <= self.rate <= 1e6, "--rate", "between 0 and 1000000", self.rate)
        require(0 < self.timeout <= 3600, "--timeout", "above 0, at most 3600", self.timeout)
        for name in ("workers", "queue", "connections"):
            number = getattr(self, name)
            require(0 < number <= 4096, f"--{name}", "between 1 and 4096", number)
        token = self.token
        fits = not token or (len(token) >= LEAST_TOKEN and token.isascii() and token.isprintable())
        rule = f"at least {LEAST_TOKEN} printable ASCII characters"
        # not shown: it is a secret
        require(fits and " " not in token, "The token", rule, f"{len(token)} characters")
        open_to_all = token or self.is_local
        hint = f"Put it into a file for --token-file, or into the environment as {TOKEN_VARIABLE}."
        require(open_to_all, "--host", f"{LOCAL}, or any other with a token", self.host, hint)

    @property
    def is_local(self) -> bool:
        """Whether only this computer can reach the server."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            raise UserError(f"--host must be an IP address, {LOCAL} say. Got {self.host!r}.") from None

    @property
    def max_bytes(self) -> int:
        """Of a request's body."""
        return int(self.max_mib * MIB)


def default_workers() -> int:
    """One a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
