"""API Gateway's throttling: a token bucket for each route.

A request takes a token; the bucket fills at the rate limit and holds no more than the burst limit.
Specification: "Throttling requests to your HTTP APIs", API Gateway Developer Guide.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localcloud.aws.template import Route


class Buckets:
    """The buckets of one API's routes; a route without limits is never throttled."""

    def __init__(self) -> None:
        # By route: the tokens that were left, and when that was, in epoch seconds.
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, route: Route, now: float) -> bool:
        """Whether one more request may pass now."""
        limits = route.throttle
        if limits is None:
            return True
        with self._lock:
            left, since = self._left.get(route.key, (float(limits.burst), now))
            # The cloud's clock may be set back: that fills nothing and takes nothing away.
            left = min(float(limits.burst), left + max(0.0, now - since) * limits.rate)
            passes = left >= 1
            self._left[route.key] = (left - 1 if passes else left, now)
        return passes
