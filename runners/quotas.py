"""How much of the runner API one sender may use: token buckets in this process's memory.

Several web processes each count for themselves, so behind a load balancer a sender gets up to as
many times its quota as there are processes. That is enough for what a quota is for: no sender can
keep a process from serving the others. Beyond it the answer is 429 with `Retry-After`, which
workers obey; nothing is lost by it, because journals keep what was not taken.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable

from django.conf import settings

# What is remembered at most of one kind of sender; whoever was heard longest ago is forgotten.
MAXIMUM_SENDERS = 10_000
# An IPv6 sender has a whole network of this size to choose addresses from.
IPV6_NETWORK = 64


class Bucket:
    """A token bucket: `rate` units a second, `burst` at once. Used by one thread at a time."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = self._level = burst
        self._filled_at = time.monotonic()

    def _fill(self) -> None:
        now = time.monotonic()
        self._level = min(self._burst, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now

    def debt_after(self, amount: float) -> float:
        """Take `amount`, even on credit; returns the seconds until the credit is paid back."""
        self._fill()
        self._level -= amount
        return max(0.0, -self._level / self._rate)

    def wait_before(self, amount: float) -> float:
        """Take `amount` and return 0; or, while in debt, take nothing and say for how long."""
        self._fill()
        if self._level < 0:
            return -self._level / self._rate
        self._level -= amount
        return 0.0

    def give_back(self, amount: float) -> None:
        """What was taken and was not used after all."""
        self._level = min(self._burst, self._level + amount)


class Quota:
    """One bucket for each sender. Thread-safe; its memory is bounded.

    `rate` is in units a second, or the name of a setting that says so.
    """

    def __init__(self, rate: float | str, *, burst_seconds: float) -> None:
        self._given_rate = rate
        self._burst_seconds = burst_seconds
        self._lock = threading.Lock()
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    @property
    def rate(self) -> float:
        """Units a second, on average."""
        given = self._given_rate
        return float(getattr(settings, given)) if isinstance(given, str) else given

    def wait_before(self, sender: Hashable, amount: float = 1.0) -> float:
        """0 if the sender may go on, and is charged; otherwise the seconds it has to wait."""
        with self._lock:
            return self._bucket(sender).wait_before(amount)

    def debt_after(self, sender: Hashable, amount: float) -> float:
        """Charge the sender, even on credit; returns the seconds until the credit is paid back."""
        with self._lock:
            return self._bucket(sender).debt_after(amount)

    def give_back(self, sender: Hashable, amount: float = 1.0) -> None:
        """Undo a charge."""
        with self._lock:
            self._bucket(sender).give_back(amount)

    def _bucket(self, sender: Hashable) -> Bucket:
        if sender not in self._buckets:
            if len(self._buckets) >= MAXIMUM_SENDERS:
                self._buckets.popitem(last=False)
            self._buckets[sender] = Bucket(self.rate, self.rate * self._burst_seconds)
        self._buckets.move_to_end(sender)
        return self._buckets[sender]

    def __len__(self) -> int:
        return len(self._buckets)

    def forget(self) -> None:
        """Forget all senders: settings have changed."""
        with self._lock:
            self._buckets.clear()


requests = Quota("FORGE_RUNNER_REQUESTS_PER_SECOND", burst_seconds=4)
message_bytes = Quota("FORGE_RUNNER_BYTES_PER_SECOND", burst_seconds=8)
log_bytes = Quota("FORGE_RUNNER_LOG_BYTES_PER_SECOND", burst_seconds=8)
wrong_tokens = Quota("FORGE_WRONG_TOKENS_PER_SECOND", burst_seconds=20)


def network_of(address: str | None) -> str:
    """What counts as one sender without a token: an IPv4 address, or a network of IPv6 ones."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.ip_network((parsed, IPV6_NETWORK), strict=False))
