"""What is shown once is made once: a page that is loaded anew sends its form a second time.

So does whoever stops the browser and clicks again, while the first form has come through.

Each such form carries a random word (`{% once %}`). What a form has made is remembered in the
session, with the word and all else that was sent, so that only the same form with the same
content counts as a repetition. Two that arrive at the same moment may both make something; a
reload comes later.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.sessions.backends.base import UpdateError
from django.shortcuts import redirect, render
from django.utils import timezone

from forge.pages.shell import page
from projects.words import duration_in_words

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from projects.models import Project

FIELD = "once"
# In one session; of older ones a repetition makes anew, as does a form that carries no word.
REMEMBERED = 30
_SESSION_KEY = "made_once"
_CSRF = "csrfmiddlewaretoken"
_WORD = re.compile(r"[\w-]{20,64}", re.ASCII)


def remember(request: HttpRequest, *, now: datetime) -> None:
    """The form that was sent has made what it says."""
    if sent := _fingerprint(request):
        earlier = [entry for entry in _made(request) if entry[0] != sent]
        kept = [*earlier, [sent, now.timestamp()]][-REMEMBERED:]
        request.session[_SESSION_KEY] = kept
        # Now: of a request that the browser has stopped Django stores no session afterwards.
        with suppress(UpdateError):  # signed out meanwhile, which Django notices by itself
            request.session.save()


def made_at(request: HttpRequest) -> datetime | None:
    """When this very form made what it says; None if it has not."""
    sent = _fingerprint(request)
    times = [at for fingerprint, at in _made(request) if sent and fingerprint == sent]
    return datetime.fromtimestamp(times[0], UTC) if times else None


def back_to(request: HttpRequest, where: str, *to: object, at: datetime) -> HttpResponse:
    """The answer to a repetition where nothing is shown once: a word about it, as after saving."""
    name = request.POST.get("name", "").strip()
    ago = duration_in_words((timezone.now() - at).total_seconds())
    messages.success(request, f"{name} was made already, {ago} ago, and nothing new was made.")
    return redirect(where, *to)


def already(
    request: HttpRequest,
    project: Project | None,
    *,
    what: str,
    at: datetime,
    to: str,
    label: str,
    again: str,
) -> HttpResponse:
    """The answer to a repetition: `what` was made `at`, and is found at the address `to`.

    `label` is what the link there says, `again` the address of the form for another one.
    """
    told = {"what": what, "at": at, "to": to, "label": label, "again": again}
    if project is None:
        return render(request, "made_already.html", told | {"section": "tokens"})
    return page(request, "made_already.html", project=project, section="runners", **told)


def _made(request: HttpRequest) -> list[tuple[str, float]]:
    """(fingerprint, seconds since 1970), the latest last."""
    return list(request.session.get(_SESSION_KEY, ()))


def _fingerprint(request: HttpRequest) -> str:
    """Of a form with a word; a digest, so that nothing that was typed is kept. Else empty."""
    if request.method != "POST" or not _WORD.fullmatch(request.POST.get(FIELD, "")):
        return ""
    lists = request.POST.lists()
    fields = sorted((name, value) for name, values in lists for value in values if name != _CSRF)
    return hashlib.sha256(f"{request.path}?{urlencode(fields)}".encode()).hexdigest()
