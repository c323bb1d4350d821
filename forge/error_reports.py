"""What error reports with details may say: Django's page for DEBUG, and mails to ADMINS.

Django hides settings by their names, and what a view marked; of a view that nobody marked it shows
everything that was sent and every local variable, which may be somebody's private key. Here values
are hidden wherever they may come from a person or the database. Source lines, names and the way
through the code stay: they are what a developer needs.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView
from types import FrameType
from typing import Any

from django.http import HttpRequest, QueryDict
from django.views.debug import SafeExceptionReporterFilter


class DiscreetReporterFilter(SafeExceptionReporterFilter):
    """Hides values with DEBUG too."""

    # URLs of broker and database carry passwords.
    hidden_settings = re.compile(
        f"{SafeExceptionReporterFilter.hidden_settings.pattern}|URL|NODES", re.IGNORECASE
    )

    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        sent = QueryDict() if request is None else request.POST
        return dict.fromkeys(sent, self.cleansed_substitute)

    def get_traceback_frame_variables(
        self, request: HttpRequest, tb_frame: FrameType
    ) -> ItemsView[str, Any]:
        return dict.fromkeys(tb_frame.f_locals, self.cleansed_substitute).items()
