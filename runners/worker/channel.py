"""The broker's side of the worker's connection, in spite of what lies in a queue."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

from kombu.transport import redis
from redis.exceptions import NoPermissionError

logger = logging.getLogger(__name__)


class RunnerChannel(redis.Channel):  # type: ignore[misc]
    """Passes over what is no message, and over a refusal.

    Nobody but Forge and the broker's administrator can write to a runner's queue, but an entry
    that kombu cannot read would otherwise end the worker, and the next one after it. A queue is
    refused in the moment in which the runner has lost it and its worker does not know.
    """

    refused: ClassVar[Callable[[], None]] = staticmethod(lambda: None)

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs lack it
        except NoPermissionError:
            RunnerChannel.refused()
            return True
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            name = type(error).__name__
            logger.warning("An entry of a queue is no hint of Forge's and was dropped (%s).", name)
            return True


def use() -> None:
    """For every connection that this process opens: Celery has no setting for it."""
    redis.Transport.Channel = RunnerChannel
