"""Fields of the admin's forms: named for those who only hear them, and drawn whatever was sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminSplitDateTime, AutocompleteSelect
from django.core.exceptions import ValidationError
from django.db import models
from django.forms.fields import InvalidJSONInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    BaseModelAdmin = admin.options.BaseModelAdmin[Any]
    LinksField = forms.ModelMultipleChoiceField[models.Model]
else:
    # Django's own classes cannot be subscripted at run time.
    BaseModelAdmin = object
    LinksField = forms.ModelMultipleChoiceField


class KnownAutocomplete(AutocompleteSelect):
    """Draws a form again whatever was sent: Django asks the database for what is no number too."""

    def build_attrs(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Chosen or not, it has a text, which is also its name for those who only hear it."""
        return super().build_attrs(*args, **kwargs) | {"data-placeholder": "Type to find one"}

    # Names by number that need not be asked for.
    known: Mapping[str, str] = {}

    def optgroups(self, name: str, value: Sequence[str], attrs: Any = None) -> list[Any]:
        if self.known and set(map(str, value)) <= self.known.keys():
            options = [
                self.create_option(name, key, self.known[str(key)], True, place)
                for place, key in enumerate(value)
            ]
            return [(None, options, 0)]
        chosen = [one for one in value if re.fullmatch("[0-9]{0,18}", str(one or ""))]
        found: list[Any] = super().optgroups(name, chosen, attrs)
        return found


class BoundedLinks(LinksField):
    """Rows by number: Django would ask the database for a number that no column can hold."""

    def clean(self, value: Any) -> Any:
        for key in value or ():
            if not re.fullmatch("[0-9]{1,18}", str(key)):
                text = self.error_messages["invalid_pk_value"]
                raise ValidationError(text, code="invalid_pk_value", params={"pk": str(key)[:80]})
        return super().clean(value)


class BoundedJSON(forms.JSONField):
    """Django's field fails where JSON is nested a thousand deep."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except RecursionError:
            raise ValidationError("This is nested too deeply.", code="invalid") from None

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            return super().bound_data(data, initial)
        except RecursionError:
            return InvalidJSONInput(data)


class NamingAdmin(BaseModelAdmin):
    """Gives each part of a field a name for those who only hear the form."""

    formfield_overrides = {  # Django's own name, which it copies
        models.JSONField: {"form_class": BoundedJSON},
        models.ManyToManyField: {"form_class": BoundedLinks},
    }

    def formfield_for_dbfield(self, db_field: Any, request: Any, **given: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **given)
        if field is not None and isinstance(field.widget, AdminSplitDateTime):
            for part, widget in zip(("date", "time"), field.widget.widgets, strict=True):
                widget.attrs["aria-label"] = f"{field.label}: {part}"
        return field


class AutocompleteAdmin(NamingAdmin):
    """Its fields that are completed while one types can be sent anything."""

    def formfield_for_foreignkey(self, db_field: Any, request: Any, **given: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            using = given.get("using")
            given.setdefault("widget", KnownAutocomplete(db_field, self.admin_site, using=using))
        return super().formfield_for_foreignkey(db_field, request, **given)
