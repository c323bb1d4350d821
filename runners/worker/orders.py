"""The control commands that a runner's worker takes: Forge's, and few of Celery's; its answers."""

from __future__ import annotations

import logging
from typing import Any

from celery.app.control import Control
from celery.worker.control import Panel, control_command
from kombu import Exchange, Producer
from kombu.exceptions import OperationalError
from kombu.pidbox import Mailbox
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

_KEPT = {"heartbeat", "enable_events", "disable_events", "shutdown"}
# Counted among the questions, although it takes over what another worker has revoked.
_ORDER_IN_DISGUISE = "hello"
REFUSAL = "a runner takes no such order; stop tasks and change runners in Forge"


@control_command(
    name="forge_stop",
    args=[("task", int), ("attempt", int), ("reason", str), ("force", bool)],
    signature="task attempt reason force",
)  # type: ignore[untyped-decorator]
def forge_stop(
    state: Any, task: int, attempt: int, reason: str = "Stopped.", force: bool = False
) -> dict[str, Any]:
    """Stop one attempt; the same order comes with the next heartbeat if this one is lost."""
    is_here = state.app.agent.runs.stop(
        int(task), int(attempt), str(reason)[:500], force=bool(force)
    )
    return {"ok": "stopping" if is_here else "not here"}


@control_command(name="forge_beat")  # type: ignore[untyped-decorator]
def forge_beat(state: Any) -> dict[str, Any]:
    """Send the heartbeat now: something has changed that its answer tells."""
    state.app.agent.ask_forge()
    return {"ok": "asked"}


@control_command(name="shutdown")  # type: ignore[untyped-decorator]
def shutdown(state: Any, **ignored: Any) -> dict[str, Any]:
    """As TERM. Celery's own would not tell Forge, which goes on to give this worker tasks."""
    state.app.agent.shut_down("A control command asks this worker to end, as Flower's Shut Down.")
    return {"ok": "shutting down"}


class AnsweringMailbox(Mailbox):
    """Answers over the connection that the question came by, and once.

    Celery takes one of its pool and tries without end, in the event loop: while the broker is away
    the worker would neither say so nor end at a signal.
    """

    clock: Any
    connection: Any

    def _publish_reply(
        self,
        reply: Any,
        exchange: Any,
        routing_key: str,
        ticket: str,
        channel: Any = None,
        producer: Any = None,
        **options: Any,
    ) -> None:
        target = Exchange(exchange, type="direct", delivery_mode="transient", durable=False)
        try:
            Producer(channel or self.connection.default_channel, auto_declare=False).publish(
                reply,
                exchange=target,
                routing_key=routing_key,
                declare=[target],
                headers={"ticket": ticket, "clock": self.clock.forward()},
                **options,
            )
        except (OperationalError, RedisError, OSError) as error:
            # Nobody can be told; the connection's loss is noticed where it is read from.
            logger.warning("The answer to a control command could not be sent (%s).", error)


def use_mailbox() -> None:
    """For the worker's control channel: Celery has no setting for it."""
    Control.Mailbox = AnsweringMailbox


def refuse_celerys() -> None:
    """Refuse what would decide over Forge's head which tasks run here, and when.

    A task that a worker holds for revoked is dropped at each of its hints, and one above a rate
    limit is kept in memory: it would stay queued in Forge for hours.
    """
    for name, command in Panel.meta.items():
        is_order = command.type == "control" or name == _ORDER_IN_DISGUISE
        if is_order and name not in _KEPT and not name.startswith("forge_"):
            Panel.data[name] = _refusal(name)


def _refusal(name: str) -> Any:
    def refuse(state: Any, **ignored: Any) -> dict[str, Any]:
        logger.warning("The control command %s was refused: %s.", name, REFUSAL)
        return {"error": f"{REFUSAL[0].upper()}{REFUSAL[1:]}."}

    return refuse
