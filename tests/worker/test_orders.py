"""Celery's control commands, which anybody may send who may write to the broker."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from celery.worker import state
from celery.worker.control import Panel

import runners.worker.celery  # noqa: F401  # as the worker is loaded


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("revoke", {"task_id": "7.1"}),
        ("revoke_by_stamped_headers", {"headers": {"id": ["7.1"]}}),
        ("terminate", {"task_id": "7.1", "signal": "KILL"}),
        ("hello", {"from_node": "runner-8@other", "revoked": {"7.1": 1.0}}),
    ],
)
def test_no_command_makes_a_worker_drop_an_attempt(
    command: str, arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answer = Panel.data[command](None, **arguments)
    assert "stop tasks and change runners in Forge" in answer["error"]
    assert f"The control command {command} was refused" in caplog.text
    assert "7.1" not in state.revoked and not state.revoked_stamps


def test_what_is_asked_for_flower_is_answered_as_ever() -> None:
    refused = {name for name, handler in Panel.data.items() if handler.__name__ == "refuse"}
    assert not refused & {"ping", "stats", "active", "reserved", "registered", "conf", "revoked"}
    assert not refused & {"forge_stop", "forge_beat", "shutdown", "heartbeat"}
    orders = {name for name, command in Panel.meta.items() if command.type == "control"}
    kept = {"heartbeat", "enable_events", "disable_events", "shutdown", "forge_stop", "forge_beat"}
    assert orders - refused == kept
