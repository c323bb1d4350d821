"""A task's log and state, sent as they come (server-sent events), and the log as a file.

The stream asks the row, and only hastens when the live channel has news, so that nothing
depends on the channel.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import close_old_connections
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.http import require_GET

from forge.pages.access import is_signed_in_still
from forge.pages.shell import around
from forge.pages.task_view import marks_of, task_context
from tasks.attempts import as_of_attempt
from tasks.away import notice
from tasks.lifecycle import TaskState
from tasks.live import Watch
from tasks.log import attachment_headers, read_log, read_pieces
from tasks.log_lines import offset_of, place_near
from tasks.log_times import Time, within
from tasks.models import Task
from tasks.querysets import LONG
from tasks.waiting import why_waiting

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User
    from django.http import HttpRequest, HttpResponseBase

EVENT_BYTES = 64 * 1024
# Read at once, so that a long log is not a thread hop for every event.
READ_BYTES = 16 * EVENT_BYTES
# Of a long log a reader is sent the end, and what comes; also one who cannot keep up.
TAIL_BYTES = 256 * 1024
FAR_BEHIND_BYTES = 1024 * 1024
LOOK_SECONDS = 1.0
HEARTBEAT_SECONDS = 10.0
MEMBERSHIP_SECONDS = 15.0
WATCH_SECONDS = 5.0
NOTICE_SECONDS = 5.0
WATCHED_FOR = timedelta(seconds=10)
RECONNECT_MILLISECONDS = 1000
# Of one user in one process: each stream takes a thread and a look a second from all others.
MAXIMUM_STREAMS = 40

_FRESH = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@require_GET
async def stream(request: HttpRequest, pk: int) -> HttpResponseBase:
    user = await request.auser()
    if not user.is_authenticated:
        return HttpResponse("Sign in to watch a task.\n", status=401, content_type="text/plain")
    if not await sync_to_async(_is_visible)(user, pk):
        raise Http404
    attempt, offset = _position(request)
    if _streams[user.pk] >= MAXIMUM_STREAMS:
        words = f"You watch {MAXIMUM_STREAMS} tasks already. Close some of their pages.\n"
        return HttpResponse(words, status=429, content_type="text/plain", headers=_FRESH)
    feed = Feed(request, user, pk, attempt, offset, is_of_tail="tail" in request.GET)
    return StreamingHttpResponse(feed.events(), content_type="text/event-stream", headers=_FRESH)


# How many each user has open. Counted in the event loop alone, where they are opened and end.
_streams: Counter[int] = Counter()


@contextmanager
def _counted(user: User) -> Iterator[bool]:
    """Whether there is room for this one too: several may have been let in at the same moment."""
    _streams[user.pk] += 1
    try:
        yield _streams[user.pk] <= MAXIMUM_STREAMS
    finally:
        _streams[user.pk] -= 1
        if not _streams[user.pk]:
            del _streams[user.pk]


def _is_visible(user: User | AnonymousUser, pk: int) -> bool:
    return Task.objects.for_user(user).filter(pk=pk).exists()


def _position(request: HttpRequest) -> tuple[int, int]:
    """The (attempt, offset) that the reader has; (0, 0) for nothing or nonsense."""
    text = request.headers.get("Last-Event-ID") or request.GET.get("from", "")
    attempt, _, offset = text.partition(":")
    if not all(part.isascii() and part.isdigit() and len(part) < 16 for part in (attempt, offset)):
        return 0, 0
    return int(attempt), int(offset)


@dataclass(frozen=True)
class News:
    events: list[str]
    has_more: bool = False
    is_last: bool = False


class Feed:
    """What one reader is sent. `_look` runs in a thread; all waiting is in the event loop."""

    def __init__(
        self,
        request: HttpRequest,
        user: User,
        task_id: int,
        attempt: int,
        offset: int,
        *,
        is_of_tail: bool,
    ) -> None:
        self._request = request
        self._user = user
        self._task_id = task_id
        self._attempt = attempt
        self._offset = offset
        self._is_of_tail = is_of_tail
        self._marks = ""
        self._checked_at = self._watched_at = self._sent_at = timezone.now()
        self._is_first = True
        self._notice_at: datetime | None = None
        self._noticed = ""

    async def events(self) -> AsyncIterator[str]:
        look = sync_to_async(self._look)
        with _counted(self._user) as has_room:
            yield f"retry: {RECONNECT_MILLISECONDS}\n\n"
            if has_room:
                async for event in self._events(look):
                    yield event

    async def _events(
        self, look: Callable[[datetime], Awaitable[News | None]]
    ) -> AsyncIterator[str]:
        async with Watch(self._task_id) as watch:
            while (news := await look(timezone.now())) is not None:
                for event in news.events:
                    yield event
                if news.is_last:
                    return
                if not news.has_more:
                    await watch.news(LOOK_SECONDS)

    def _look(self, now: datetime) -> News | None:
        """What is new; None ends the stream, because the reader may no longer watch."""
        try:
            if not self._may_watch(now):
                return None
            related = ("project", "template", "runner", "queue", "created_by")
            rows = Task.objects.select_related(*related).without_scripts("template")
            task = rows.get(pk=self._task_id)
            self._note_watching(task, now)
            return self._news(task, now)
        finally:
            # A watched task must not keep one of the pool's connections between two looks.
            close_old_connections()

    def _may_watch(self, now: datetime) -> bool:
        if (now - self._checked_at).total_seconds() < MEMBERSHIP_SECONDS:
            return True
        self._checked_at = now
        user = get_user_model().objects.filter(pk=self._user.pk, is_active=True).first()
        if user is None or not is_signed_in_still(self._request, user):
            return False
        return _is_visible(user, self._task_id)

    def _note_watching(self, task: Task, now: datetime) -> None:
        """Runners send sooner what somebody watches."""
        is_due = self._is_first or (now - self._watched_at).total_seconds() >= WATCH_SECONDS
        self._is_first = False
        if is_due and not task.is_finished:
            self._watched_at = now
            Task.objects.filter(pk=task.pk).update(watched_until=now + WATCHED_FOR)

    def _news(self, task: Task, now: datetime) -> News:
        if task.attempt != self._attempt:
            self._attempt, self._offset = task.attempt, 0
        self._offset = min(self._offset, task.log_bytes)
        begin = self._jump(task) if self._is_of_tail else {}
        events = self._state_events(task, now) + self._log_events(task, begin)
        has_more = self._offset < task.log_bytes
        is_last = task.is_finished and not has_more
        if is_last:
            events.append("event: end\ndata: {}\n\n")
        if not events and (now - self._sent_at).total_seconds() >= HEARTBEAT_SECONDS:
            # An event, not a comment: the page cannot hear those.
            events = ["event: beat\ndata: {}\n\n"]
        if events:
            self._sent_at = now
        return News(events, has_more=has_more, is_last=is_last)

    def _state_events(self, task: Task, now: datetime) -> list[str]:
        sentence = why_waiting(task, now) if task.state == TaskState.QUEUED else ""
        marks = f"{marks_of(task, sentence, now=now)}|{self._notice(now)}"
        if marks == self._marks:
            return []
        self._marks = marks
        # The rest of the page shows them, and nothing else does.
        task.refresh_from_db(fields=LONG)
        context = around(self._request, task.project) | task_context(task, now=now)
        parts = {
            part: render_to_string(f"task_{part}.html", context, request=self._request)
            for part in ("head", "waiting", "side", "log_note", "nothing")
        }
        parts["nav"] = render_to_string("nav_counts.html", context)
        label = TaskState(task.state).label
        state = {"state": task.state, "label": label, "html": parts.pop("head"), **parts}
        return [f"event: state\ndata: {json.dumps(state)}\n\n"]

    def _notice(self, now: datetime) -> str:
        """What of Forge is away, as it was a few seconds ago at most: every reader asks."""
        last = self._notice_at
        if last is None or (now - last).total_seconds() >= NOTICE_SECONDS:
            self._notice_at, self._noticed = now, notice(now)
        return self._noticed

    def _jump(self, task: Task) -> dict[str, int]:
        """A reader who is far behind goes on near the end, and asks for the rest when it is needed.

        Gives what the next event says of its place: its line, and how much of that is left out.
        """
        if task.log_bytes - self._offset <= FAR_BEHIND_BYTES:
            return {}
        self._offset, line = place_near(task, task.log_bytes - TAIL_BYTES)
        return {"line": line, "cut": self._offset - (offset_of(task, line) or 0)}

    def _log_events(self, task: Task, begin: dict[str, int]) -> list[str]:
        pieces = [*read_pieces(task, offset=self._offset, limit=READ_BYTES)]
        data = b"".join(piece.data for piece in pieces)
        times = [time for piece in pieces for time in piece.times]
        return [
            self._log_event(data[start : start + EVENT_BYTES], times, {} if start else begin)
            for start in range(0, len(data), EVENT_BYTES)
        ]

    def _log_event(self, data: bytes, times: list[Time], begin: dict[str, int]) -> str:
        """One event, whose id is where the reader stands after it."""
        offset = self._offset
        self._offset += len(data)
        content = {
            "attempt": self._attempt,
            "offset": offset,
            "data": base64.b64encode(data).decode(),
            "times": [
                [time.offset, time.at, int(time.is_receipt)]
                for time in within(times, offset, self._offset)
            ],
            **begin,
        }
        return f"event: log\nid: {self._attempt}:{self._offset}\ndata: {json.dumps(content)}\n\n"


@require_GET
async def log(request: HttpRequest, pk: int) -> HttpResponseBase:
    """The log of the current attempt, or of the one that is asked for, byte for byte."""
    user = await request.auser()
    if not user.is_authenticated:
        return HttpResponse("Sign in to read a log.\n", status=401, content_type="text/plain")
    task = await Task.objects.for_user(user).without_scripts().filter(pk=pk).afirst()
    if task is not None and "attempt" in request.GET:
        task = await sync_to_async(_as_asked)(task, request.GET["attempt"])
    if task is None:
        raise Http404
    return StreamingHttpResponse(
        _pieces(task),
        content_type="text/plain; charset=utf-8",
        headers={
            "Content-Length": str(task.log_bytes),
            "Cache-Control": "no-store",
            **attachment_headers(task),
        },
    )


def _as_asked(task: Task, text: str) -> Task | None:
    is_number = text.isascii() and text.isdigit() and len(text) < 8
    return as_of_attempt(task, int(text)) if is_number else None


async def _pieces(task: Task) -> AsyncIterator[bytes]:
    offset = 0
    while piece := await sync_to_async(_piece)(task, offset):
        offset += len(piece)
        yield piece


def _piece(task: Task, offset: int) -> bytes:
    try:
        return b"".join(read_log(task, offset=offset, limit=READ_BYTES))
    finally:
        close_old_connections()
