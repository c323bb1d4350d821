"""The admin's lists, whatever their addresses and their forms ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, ChangeList
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponseRedirect

from projects.outage import is_outage
from projects.words import whole_number

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    # Django's own class cannot be subscripted at run time.
    ModelAdmin = admin.ModelAdmin

# A year that there is not, a number too long for its column, a range with one end, bytes compared
# with text: what Django's filters let through, and it or the database fails on.
_UNREADABLE = (TypeError, ValueError, LookupError, OverflowError, DatabaseError)


class CarefulList(ChangeList):
    """An address whose filter cannot be carried out leads to the whole list, like other wrong ones.

    Django looks only at whether a filter can be put together, and not at all of that.
    """

    def get_filters(self, request: HttpRequest) -> Any:
        try:
            return super().get_filters(request)
        except _UNREADABLE as error:  # such as the end of the last year that there is
            if is_outage(error):
                raise
            raise IncorrectLookupParameters(error) from error

    def get_results(self, request: HttpRequest) -> None:
        try:
            super().get_results(request)
        except _UNREADABLE as error:
            if is_outage(error) or not self.params:
                raise
            raise IncorrectLookupParameters(error) from error


class ListingAdmin(ModelAdmin):
    """Takes any address and any selection: Django fails on what no row can have as its number."""

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """Django takes an empty `_to_field` for the name of one."""
        return super().get_object(request, object_id, from_field or None)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return CarefulList

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Django lets staff keep the database busy for as long as a regular expression takes."""
        if lookup.rpartition("__")[2] in ("regex", "iregex"):
            return False
        return bool(super().lookup_allowed(lookup, value, request))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        if ERROR_FLAG in request.GET and request.method == "GET":
            sentence = "The list's address asked for what cannot be; here is all of it."
            self.message_user(request, sentence, messages.WARNING)
        if all(map(whole_number, request.POST.getlist(helpers.ACTION_CHECKBOX_NAME))):
            return super().changelist_view(request, extra_context)
        sentence = "Nothing was done: what was selected is not in this list."
        self.message_user(request, sentence, messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())
