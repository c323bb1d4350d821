"""The admin's forms and deletions: refusals are sentences, and lose nothing that was typed."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse

from projects.admin_fields import NamingAdmin
from projects.admin_lists import ListingAdmin
from projects.errors import ChangedMeanwhileError, ForgeError
from projects.versions import version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.db.models import QuerySet

    ModelAdmin = admin.ModelAdmin[Any]
else:
    # Django's own class cannot be subscripted at run time.
    ModelAdmin = admin.ModelAdmin

VERSION = "version"
# Of the button that saves over what somebody else has saved: the version that this page told of.
OVER = "over"


class RefusedForm:
    """Mixed into a form that was sent and refused after its own checks: with the reasons."""

    refusal: ForgeError | ValidationError
    fields: Mapping[str, Any]
    add_error: Any

    def full_clean(self) -> None:
        super().full_clean()  # type: ignore[misc]  # the form's
        by_field = getattr(self.refusal, "error_dict", None)
        if by_field is None:
            by_field = {"": getattr(self.refusal, "messages", [str(self.refusal)])}
        for name, reasons in by_field.items():
            self.add_error(name if name in self.fields else None, list(reasons))


class RefusingAdmin(NamingAdmin, ListingAdmin):
    """Shows the errors of operations as sentences, on the page where they were asked for.

    A form keeps all that was typed. It carries the version of what it was opened with, for the
    operation that saves (`projects.versions`).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refusals: WeakKeyDictionary[HttpRequest, ForgeError | ValidationError] = (
            WeakKeyDictionary()
        )

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: Any = None,
    ) -> Any:
        """Of a refusal nothing is saved: the second time, the form is drawn with its reasons."""
        view = super().changeform_view
        # Read before the form reads anything: a change in between is noticed rather than missed.
        opened = request.POST.get(VERSION) if request.POST else self._stored(request, object_id)
        context = {**(extra_context or {}), VERSION: opened or ""}
        try:
            return view(request, object_id, form_url, context)
        except (ForgeError, ValidationError) as error:
            self._refusals[request] = error
            if isinstance(error, ChangedMeanwhileError):
                context[OVER] = self._stored(request, object_id)
        here = request.get_full_path()
        return self._refused(request, here, view, object_id, form_url, context)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        refusal = self._refusals.get(request)
        if refusal is None:
            return form
        return type(form)(form.__name__, (RefusedForm, form), {"refusal": refusal})

    def version(self, request: HttpRequest) -> str:
        """The version that this form may overwrite; empty from whoever names none."""
        return request.POST.get(OVER) or request.POST.get(VERSION, "")

    def _stored(self, request: HttpRequest, object_id: str | None) -> str:
        row = self.get_object(request, unquote(object_id)) if object_id else None
        return "" if row is None else version_of(row)

    def before_deletion(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        """What has to be done before the transaction in which Django deletes these.

        `rows` are read already: a filter of their list may fit them no more after it.
        """

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        django = super().delete_view

        def view(request: HttpRequest, *args: Any) -> Any:
            row = self.get_object(request, unquote(object_id)) if request.POST else None
            rows = self.get_queryset(request).filter(pk=row.pk) if row is not None else ()
            if rows:
                self.before_deletion(request, rows)
            return django(request, *args)

        return self._refused(request, self._list(), view, object_id, extra_context)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return self._refused(request, self._list(), super().changelist_view, extra_context)

    def get_actions(self, request: HttpRequest) -> Any:
        found: dict[str, Any] = super().get_actions(request)
        if "delete_selected" in found:
            delete, *words = found["delete_selected"]
            found["delete_selected"] = (_all_or_none(delete), *words)
        return found

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            self.delete_model(request, row)

    def _list(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def _refused(
        self, request: HttpRequest, place: str, view: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """The view's answer, or its refusal as a message at `place`."""
        try:
            return view(request, *args, **kwargs)
        except (ForgeError, ValidationError) as error:
            for sentence in getattr(error, "messages", [str(error)]):
                self.message_user(request, sentence, messages.ERROR)
            return HttpResponseRedirect(place)


def _all_or_none(delete: Callable[..., Any]) -> Callable[..., Any]:
    """Django's action, which notes and deletes one row after the other, until one is refused."""

    @wraps(delete)
    def action(page: RefusingAdmin, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        try:
            # What answers the question whether it is meant, once there are rows.
            if "post" in request.POST and queryset:
                page.before_deletion(request, queryset)
            with transaction.atomic():
                return delete(page, request, queryset)
        except (ForgeError, ValidationError):
            if queryset.count() > 1:
                page.message_user(request, "Nothing was deleted.", messages.ERROR)
            raise

    return action
