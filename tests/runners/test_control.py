"""Orders to workers, which nobody waits for."""

from __future__ import annotations

import pytest

from runners import control
from tests.cast import Cast
from tests.deployment.client import wait_for
from tests.runners.test_accounts import new_runner

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_order_that_cannot_be_sent_is_logged_whatever_the_reason(
    real: str, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    runner = new_runner(cast, cast.project, "unsent-1").runner
    control.send(runner, "forge_stop", {"reason": object()})
    said = "order forge_stop to unsent-1 left to its heartbeat"
    wait_for(lambda: said in caplog.text, "it is logged")
    assert "Traceback" in caplog.text
