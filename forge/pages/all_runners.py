"""The runners of all projects: an administrator's whole fleet, anybody else's own projects."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from forge.lists.runner_filters import (
    asked_for,
    counts_of,
    narrowed,
    of_status,
    worst_first,
)
from forge.pages import fleet
from forge.pages.access import signed_in
from forge.pages.paging import Paged
from forge.pages.runner_menus import menus, segments, understood
from projects.words import counted, number, whole_number
from runners.models import Runner
from tasks.away import notice

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

PAGE_RUNNERS = 25


@login_required
@require_safe
def runners_of_all(request: HttpRequest) -> HttpResponse:
    user, now = signed_in(request), timezone.now()
    asked, misread = understood(asked_for(request.GET))
    rows = narrowed(user, asked, now=now)
    counts = counts_of(rows, now=now)
    found = worst_first(of_status(rows, asked.get("status", ""), now=now))
    paged = Paged(found, whole_number(request.GET.get("page", "")), PAGE_RUNNERS)
    # Read again with all that a row shows, which the database need not sort.
    shown = Runner.objects.for_user(user).filter(pk__in=[row.pk for row in paged.rows])
    context: dict[str, Any] = {
        "rows": fleet.rows_among(shown, now=now),
        "paged": paged,
        "sentence": _sentence(counts),
        "notice": notice(now),
        "segments": segments(counts, asked),
        "filter_query": urlencode(asked),
        "is_filtered": bool(asked),
        "text": asked.get("q", ""),
        "asked": asked,
        "misread": misread,
        "section": "runners-all",
    }
    if "part" in request.GET:
        return render(request, "all_runners_live.html", context)
    return render(request, "all_runners.html", context | {"menus": menus(user, asked)})


def _sentence(counts: Counter[str]) -> str:
    """`41 of 48 are ready. 4 need attention, 3 are out on purpose.`"""
    total = counts.total()
    if not total:
        return "A runner is a host that carries out the tasks of one project."
    verb = "is" if counts["ready"] == 1 else "are"
    ready = f"{counts['ready']:,} of {counted(total, 'runner')} {verb} ready."
    trouble, out = counts["trouble"], counts["out"]
    parts = [f"{number(trouble)} need{'s' if trouble == 1 else ''} attention."] if trouble else []
    if out:
        parts.append(f"{number(out)} {'is' if out == 1 else 'are'} out on purpose.")
    return " ".join([ready, *parts])
