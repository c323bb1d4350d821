"""How states, times and sizes are written: one place for every page."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from django import template
from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from forge.pages import made_once
from forge.pages.icons import ICONS
from projects.characters import UNSEEN_OR_CONTROL
from projects.people import name_of
from projects.words import bytes_in_words, counted, duration_in_words
from runners.nodes import label_of
from runners.status import RegistrationStatus, RunnerStatus
from tasks.lifecycle import TaskState

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from tasks.models import Task, TaskAttempt

register = template.Library()

STATE_LOOKS: dict[str, tuple[str, str]] = {
    TaskState.AWAITING_APPROVAL: ("warn", "approval"),
    TaskState.QUEUED: ("mute", "queued"),
    TaskState.STARTING: ("run", "starting"),
    TaskState.RUNNING: ("run", "running"),
    TaskState.STOPPING: ("warn", "stopping"),
    TaskState.UNREACHABLE: ("warn", "unreachable"),
    TaskState.SUCCEEDED: ("ok", "succeeded"),
    TaskState.FAILED: ("bad", "failed"),
    TaskState.STOPPED: ("mute", "stopped"),
    TaskState.LOST: ("bad", "lost"),
}
RUNNER_LOOKS: dict[str, tuple[str, str]] = {
    RunnerStatus.NEVER_CONTACTED: ("mute", "never"),
    RunnerStatus.IDLE: ("ok", "idle"),
    RunnerStatus.BUSY: ("run", "busy"),
    RunnerStatus.DRAINING: ("mute", "draining"),
    RunnerStatus.PAUSED: ("mute", "paused"),
    RunnerStatus.UNHEALTHY: ("bad", "unhealthy"),
    RunnerStatus.OFFLINE: ("bad", "offline"),
    RunnerStatus.REVOKED: ("mute", "revoked"),
}
REGISTRATION_LOOKS: dict[str, tuple[str, str]] = {
    RegistrationStatus.ACTIVE: ("ok", "idle"),
    RegistrationStatus.USED_UP: ("mute", "succeeded"),
    RegistrationStatus.EXPIRED: ("mute", "stale"),
    RegistrationStatus.REVOKED: ("mute", "revoked"),
}
PIP_WIDTH = 9
# Before now: the time of day alone cannot be mistaken, whatever day it was.
NEAR = timedelta(hours=12)
# Either way: a day without its hour says too little. static/forge/times.js has the same two.
SOON = timedelta(hours=48)
MAXIMUM_PIPS = 12
# What a list need not say of a host: see runners/worker/host.py.
_BESIDE_THE_SYSTEM = re.compile(r" GNU/Linux(?= )| \([^()]*\)|, Python [^,]*\Z")
# Without a day only where Forge itself leaves it out: in somebody's own words, read days later, the
# time of a day is not today's.
_CLOCK_IN_SENTENCE = re.compile(
    r"(?:\b(\d{4}-\d\d-\d\d) |(?<=\buntil )|(?<=\bsince ))"
    r"(\d\d:\d\d(?::\d\d)?) ([A-Z]{2,5}|[+-]\d\d(?:\d\d)?)\b"
)

# A number alone may be of somebody's own words: only where Forge speaks of a task.
_TASK_IN_SENTENCE = re.compile(
    r"#(\d{1,18})(?= of this template | was announced | and \d+ more were announced )"
)


@register.simple_tag
def icon(name: str) -> SafeString:
    # ICONS is our own drawing, never what somebody entered.
    return mark_safe(  # noqa: S308
        '<svg class="i" width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">'
        f"{ICONS[name]}</svg>"
    )


@register.simple_tag
def once() -> SafeString:
    """The hidden field of a form whose repetition makes nothing (forge/pages/made_once.py)."""
    # Firefox keeps hidden fields over a reload unless it is told not to.
    return format_html(
        '<input type="hidden" name="{}" value="{}" autocomplete="off">',
        made_once.FIELD,
        secrets.token_urlsafe(16),
    )


@register.simple_tag
def ways_out() -> str:
    """What a runner host has to be able to reach: Forge, and a broker of another address."""
    if not settings.FORGE_RUNNER_BROKER_URL:
        return "It needs a way out to this address, and to nothing else."
    return (
        f"It needs a way out to this address and to {label_of(settings.FORGE_RUNNER_BROKER_URL)}."
    )


@register.simple_tag
def state_badge(task: Task | TaskAttempt, since: datetime | None = None) -> SafeString:
    """The state with its icon; with `since` also how long it has lasted, counted on the page."""
    look, drawing = STATE_LOOKS[task.state]
    label = TaskState(task.state).label
    lasting = format_html(" {}", elapsed(since)) if since else ""
    words = format_html("<span>{}{}</span>", label, lasting)
    return format_html('<span class="st b {}">{}{}</span>', look, icon(drawing), words)


@register.simple_tag
def runner_status(status: str, text: str = "") -> SafeString:
    look, drawing = RUNNER_LOOKS[status]
    label = text or RunnerStatus(status).label
    return format_html('<span class="st {}">{}{}</span>', look, icon(drawing), label)


@register.simple_tag
def registration_status(status: str) -> SafeString:
    look, drawing = REGISTRATION_LOOKS[status]
    label = RegistrationStatus(status).label
    return format_html('<span class="st {}">{}{}</span>', look, icon(drawing), label)


@register.simple_tag
def moment(at: datetime | None, missing: str = "–") -> SafeString:
    """Says "4 s ago", then the clock time, then the date; the exact time in the title.

    The clock time stands alone today and for NEAR past, across midnight too, and with the day for
    SOON before and after now: a day is too little to plan by or to look back at the night.

    The page rewrites it in the reader's zone and keeps it current.
    """
    if at is None:
        return format_html('<span class="muted">{}</span>', missing)
    return _time(at, "moment", _moment_in_words(at, timezone.now()))


@register.simple_tag
def clock(at: datetime) -> SafeString:
    """The time of day to the second, in the reader's zone once the page runs."""
    return _time(at, "clock", f"{timezone.localtime(at):%H:%M:%S}")


@register.simple_tag
def minute(at: datetime) -> SafeString:
    """The time of day to the minute, with the day if it is another one, and a year not near."""
    local, today = timezone.localtime(at), timezone.localtime()
    year = "" if local.year == today.year or abs(today - at) < SOON else f" {local.year}"
    day = "" if local.date() == today.date() else f"{local.day} {local:%b}{year} "
    return _time(at, "minute", f"{day}{local:%H:%M}")


@register.simple_tag
def elapsed(since: datetime) -> SafeString:
    """How long it has been, counting on."""
    seconds = (timezone.now() - since).total_seconds()
    return _time(since, "elapsed", duration_in_words(max(seconds, 1.0)))


def _time(at: datetime, kind: str, text: str) -> SafeString:
    exact = f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S.%f}"[:-3]
    return format_html(
        '<time datetime="{}" title="{} {}" data-time="{}">{}</time>',
        at.isoformat(),
        exact,
        f"{timezone.localtime(at):%Z}",
        kind,
        text,
    )


def _moment_in_words(at: datetime, now: datetime) -> str:
    if timedelta(0) <= now - at < timedelta(minutes=1):
        return f"{int((now - at).total_seconds())} s ago"
    local = timezone.localtime(at)
    if timedelta(0) <= now - at <= NEAR or local.date() == timezone.localtime(now).date():
        return f"{local:%H:%M}"
    if abs(now - at) < SOON:
        return f"{local.day} {local:%b} {local:%H:%M}"
    return f"{local.day} {local:%b}" if local.year == now.year else f"{local:%Y-%m-%d}"


@register.simple_tag
def slots(held: int, concurrency: int, pips: str = "on") -> SafeString:
    """One pip for each slot, and the figures; a bar of pips has an end, figures have none.

    `pips` is how a taken one looks: on, or hold (grey).
    """
    shown = min(concurrency, MAXIMUM_PIPS)
    taken = round(shown * min(held, concurrency) / concurrency)
    drawn = format_html_join(
        "",
        '<rect class="{}" x="{}" y="1" width="6" height="9" rx="1.5"/>',
        ((pips if n < taken else "off", n * PIP_WIDTH + 1) for n in range(shown)),
    )
    return format_html(
        '<span class="slots"><svg width="{}" height="11" aria-hidden="true">{}</svg>'
        "<span>{}/{}</span></span>",
        shown * PIP_WIDTH,
        drawn,
        held,
        concurrency,
    )


@register.simple_tag
def tag_list(names: Sequence[object], missing: str = "") -> SafeString:
    if not names:
        return format_html('<span class="muted">{}</span>', missing)
    tags = format_html_join("", '<span class="tag">{}</span>', ((name,) for name in names))
    return format_html('<span class="tags">{}</span>', tags)


@register.filter
def duration(seconds: float | timedelta | None) -> str:
    if seconds is None:
        return "–"
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    return duration_in_words(seconds)


@register.filter
def size(count: int) -> str:
    return bytes_in_words(count)


@register.filter
def number(count: int) -> str:
    """In full, where each one counts: 3,145,728."""
    return f"{count:,}"


@register.filter
def person(user: User | None) -> str:
    """The name to show; a removed user leaves none."""
    return "a removed user" if user is None else name_of(user)


@register.filter
def visible(text: str) -> SafeString:
    """The text with a mark for each character that nobody sees and that changes how it is read."""
    pieces, end = [], 0
    for found in UNSEEN_OR_CONTROL.finditer(text):
        mark = format_html('<span class="hid">{}</span>', f"U+{ord(found[0]):04X}")
        pieces += [conditional_escape(text[end : found.start()]), mark]
        end = found.end()
    # Every piece was escaped above.
    return mark_safe("".join([*pieces, conditional_escape(text[end:])]))  # noqa: S308


@register.filter
def breakable(name: str) -> SafeString:
    """A name of parts, such as a host's, which a narrow column breaks after a part."""
    # Only Forge's own marks are added to what was escaped.
    return mark_safe(re.sub(r"([.+])(?=.)", r"\1<wbr>", conditional_escape(name)))  # noqa: S308


@register.filter
def short_system(system: str) -> str:
    """`Debian 12 x86_64` of `Debian GNU/Linux 12 (bookworm) x86_64, Python 3.11.7`."""
    return _BESIDE_THE_SYSTEM.sub("", system) or system


@register.filter
def timed(sentence: str) -> SafeString:
    """A sentence of Forge's with its times, `14:30 UTC`, as the page writes those of its own.

    What it says is in the server's zone, with a date where that is another day. The page rewrites
    it in the reader's zone, with the date and the zone in the title.
    """
    now = timezone.localtime()
    pieces, end = [], 0
    for found in _CLOCK_IN_SENTENCE.finditer(sentence):
        zone = UTC if found[3] == "UTC" else now.tzinfo
        if found[3] not in ("UTC", f"{now:%Z}") or not (at := _moment_of(found, now, zone)):
            continue
        time = format_html(
            '<time datetime="{}" title="{}" data-time="minute">{}</time>',
            at.isoformat(), f"{at:%Y-%m-%d %H:%M %Z}", found[0],
        )  # fmt: skip
        pieces += [conditional_escape(sentence[end : found.start()]), time]
        end = found.end()
    # Every piece was escaped above.
    return mark_safe("".join([*pieces, conditional_escape(sentence[end:])]))  # noqa: S308


@register.filter
def linked(sentence: str, row: int | None = None) -> SafeString:
    """A sentence of `tasks.waiting`, the task that it names a link. Take it behind `timed`.

    In what refreshes itself the link keeps the focus by its id: `row` is the task in whose row it
    stands.
    """
    pieces, end = [], 0
    text = conditional_escape(sentence)
    for found in _TASK_IN_SENTENCE.finditer(text):
        address = reverse("task", args=[int(found[1])])
        mark = format_html(' id="of-{}-{}"', row, found[1]) if row is not None else ""
        link = format_html('<a class="link"{} href="{}">{}</a>', mark, address, found[0])
        pieces += [text[end : found.start()], link]
        end = found.end()
    # Escaped above; a number is all that was added.
    return mark_safe("".join([*pieces, text[end:]]))  # noqa: S308


def _moment_of(found: re.Match[str], now: datetime, zone: tzinfo | None) -> datetime | None:
    """None for a time of day that there is not: somebody's own words may look like one."""
    day = found[1] or f"{now.astimezone(zone):%Y-%m-%d}"
    try:
        return datetime.fromisoformat(f"{day} {found[2]}").replace(tzinfo=zone)
    except ValueError:
        return None


@register.filter
def marked(text: str, words: Sequence[str]) -> SafeString:
    """The text with what was searched for in bold."""
    if not words:
        return conditional_escape(text)
    # The longest first: of "dep" and "deploy" the whole word is to be bold.
    longest = sorted(words, key=len, reverse=True)
    pieces = re.split(f"({'|'.join(map(re.escape, longest))})", text, flags=re.IGNORECASE)
    return format_html_join(
        "",
        "{}",
        ((format_html("<b>{}</b>", one) if n % 2 else one,) for n, one in enumerate(pieces)),
    )


@register.filter
def hidden_in_words(text: str | None) -> str:
    """`2 characters that nobody sees, first on line 3 (U+202E)`; empty if there are none."""
    found = list(UNSEEN_OR_CONTROL.finditer(text or ""))
    if not text or not found:
        return ""
    line = text.count("\n", 0, found[0].start()) + 1
    number = f"U+{ord(found[0][0]):04X}"
    return f"{counted(len(found), 'character')} that nobody sees, first on line {line} ({number})"


@register.filter
def in_sentence(text: str) -> str:
    """With a small first letter, and names as they are."""
    return text[:1].lower() + text[1:]


@register.filter
def initials(user: User) -> str:
    words = person(user).replace(".", " ").split()
    return "".join(word[0] for word in words[:2]).upper()
