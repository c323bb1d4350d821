"""Brings what the broker refused to runners into Forge's log, where the rest of it stands."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict

import redis

from forge.controller.loop import Loop
from runners.denials import DenialLog, forget_denials, is_too_large, read_denials
from runners.nodes import Node, Nodes

logger = logging.getLogger(__name__)


class DenialLoop(Loop):
    name = "denials"
    period = 1.0

    def __init__(self, is_leading: threading.Event, is_closing: threading.Event) -> None:
        super().__init__(is_leading, is_closing)
        self._nodes = Nodes()
        self._logs: dict[str, DenialLog] = defaultdict(DenialLog)

    def turn(self) -> None:
        for node in self._nodes.all():
            if node.is_due:
                self._try_to_read(node)

    def _try_to_read(self, node: Node) -> None:
        try:
            denials = read_denials(node.client)
            if is_too_large(denials):
                # The watch cuts the author off where it writes; here memory is given back.
                forget_denials(node.client)
        except redis.RedisError as error:
            node.note_trouble(error)
            return
        node.note_answer()
        self._logs[node.place].note(denials)
