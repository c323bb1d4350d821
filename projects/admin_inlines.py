"""Rows that belong to the object of a form: the first of them, to look at, and the way to all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

    BaseInlineFormSet = forms.BaseInlineFormSet[Any, Any, Any]
    TabularInline = admin.TabularInline[Any, Any]
else:
    # Django's own classes cannot be subscripted at run time.
    BaseInlineFormSet = forms.BaseInlineFormSet
    TabularInline = admin.TabularInline

SHOWN_ROWS = 20


def linked(row: Model | None, words: str = "") -> SafeString | str:
    """The row's name, or other words, with a link to its form in the admin."""
    if row is None:
        return "-"
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_change"
    return format_html('<a href="{}">{}</a>', reverse(name, args=[row.pk]), words or str(row))


def badge(value: str, label: str) -> SafeString:
    """A state or a status in its colour, which the style sheet knows by its value."""
    return format_html('<span class="state" data-state="{}">{}</span>', value, label)


class FirstRows(BaseInlineFormSet):
    """Forms that are only shown.

    What is sent with the form around them says nothing about them: rows that have come or gone
    since it was drawn keep nobody from saving it.
    """

    def __init__(self, data: Any = None, files: Any = None, **given: Any) -> None:
        super().__init__(**given)

    def get_queryset(self) -> Any:
        """Asked for again and again, and answered from one question to the database."""
        if not hasattr(self, "_first"):
            self._first = super().get_queryset()[:SHOWN_ROWS]
        return self._first

    @property
    def may_have_more(self) -> bool:
        return self.initial_form_count() == SHOWN_ROWS

    def is_valid(self) -> bool:
        return True

    def save(self, commit: bool = True) -> list[Any]:
        self.new_objects, self.changed_objects, self.deleted_objects = [], [], []
        return []


class ShownInline(TabularInline):
    """`fields` are its columns, and `all_by` is the lookup that finds all rows in their list."""

    formset = FirstRows
    template = "admin/shown_inline.html"
    extra = 0
    can_delete = False
    all_by = ""
    # The relations whose names are shown.
    list_select_related: tuple[str, ...] = ()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related(*self.list_select_related)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @property
    def all_address(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
