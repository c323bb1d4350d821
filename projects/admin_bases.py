"""What all of Forge's admins share: discretion, operations, their refusals, tokens shown once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from projects.admin_fields import AutocompleteAdmin
from projects.admin_forms import RefusingAdmin
from projects.admin_lists import ListingAdmin
from projects.audit.recording import record_saved, snapshot
from projects.errors import ForgeError
from projects.models import Project
from projects.pagination import BoundedPaginator
from projects.versions import require_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from django.db.models import Model, QuerySet

    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
else:
    # Django's own classes cannot be subscripted at run time.
    ModelAdmin = admin.ModelAdmin
    TabularInline = admin.TabularInline


ONCE_SHOWN = "admin/new_token.html"


# Fields whose values nobody is shown, and nobody may guess letter by letter with a filter.
UNSEEN_FIELDS = frozenset({"digest", "nonce", "session", "instance", "secret", "password"})


# A question before an action names each row in a hidden field; Django takes 1,000 fields.
MOST_AT_ONCE = 500
# So many rows does a message name.
NAMED_ROWS = 5
# Said where people look for tokens: what is searched for stands in the address.
SEARCH_WARNING = "Never paste a token here: it would stay in logs of addresses."
# A filter that offers more is a list of its own; the search finds them by name.
OFFERED_PROJECTS = 20


class ProjectFilter(admin.RelatedFieldListFilter):
    """Offers the first projects by name, and the one that is chosen."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> Any:
        rows = Project.objects.order_by("name").values_list("pk", "name")
        found = dict(rows[:OFFERED_PROJECTS])
        value: Any = self.lookup_val
        chosen = str(value[-1] if isinstance(value, list) and value else value or "")
        if chosen.isascii() and chosen.isdigit() and int(chosen) not in found:
            found |= dict(rows.filter(pk=chosen[:18]))
        return list(found.items())


class YesNoFilter(admin.EmptyFieldListFilter):
    """Whether there is anything in a field, as people would say it."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        for choice, words in zip(super().choices(changelist), ("All", "No", "Yes"), strict=True):
            yield {**choice, "display": words}


class DiscreetAdmin(AutocompleteAdmin, ListingAdmin):
    """Answers no question about what it does not show, and counts no list to its end."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    # A row costs a millisecond or two, most of it in templates.
    list_per_page = 50

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Who is found by several tags is found once, by number.

        Django would have the database compare all columns of all that is found, for each of its
        questions to the list.
        """
        found, has_doubles = super().get_search_results(request, queryset, search_term)
        if not has_doubles:
            return found, False
        return queryset.filter(pk__in=found.order_by().values("pk")), False

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Django allows every lookup on a model's own fields, `digest__startswith` among them."""
        if UNSEEN_FIELDS & set(lookup.split("__")):
            return False
        return bool(super().lookup_allowed(lookup, value, request))


class AskingAdmin(ListingAdmin):
    """Actions that say what they will do before they do it."""

    # Where an action has the right word for it, Django's own is not offered beside that.
    offers_deletion = True

    def get_actions(self, request: HttpRequest) -> Any:
        found = super().get_actions(request)
        if not self.offers_deletion:
            found.pop("delete_selected", None)
        return found

    def chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """The selected rows; none, and a message why, if they are too many."""
        rows = list(queryset[: MOST_AT_ONCE + 1])
        if len(rows) <= MOST_AT_ONCE:
            return rows
        what = self.opts.verbose_name_plural
        sentence = f"Nothing was done: select at most {MOST_AT_ONCE} {what} at once."
        self.message_user(request, sentence, messages.ERROR)
        return []

    def ask(
        self,
        request: HttpRequest,
        rows: Sequence[Any],
        *,
        title: str,
        button: str,
        template: str = "admin/ask.html",
        **more: Any,
    ) -> HttpResponse:
        """The question before the action that `request` asks for; `more` is for its template."""
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "rows": rows,
            "button": button,
            "action": request.POST["action"],
            **more,
        }
        return TemplateResponse(request, template, context)

    def act(
        self,
        request: HttpRequest,
        rows: Iterable[Any],
        do: Callable[[Any], object],
        *,
        done: str,
        unless: str,
    ) -> None:
        """`do` each row, and tell for how many that was done, and which were left, and why.

        A row is left where `do` returns False, of which `unless` says why, or raises an error of
        Forge's. The others are done all the same.
        """
        count, left = 0, dict[str, list[str]]()
        for row in rows:
            try:
                if do(row) is False:
                    left.setdefault(unless, []).append(str(row))
                else:
                    count += 1
            except (ForgeError, ValidationError) as error:
                left.setdefault(" ".join(getattr(error, "messages", [str(error)])), [])
        sentences = [f"{done}: {count}.", *(_left(why, names) for why, names in left.items())]
        if len(sentences) > NAMED_ROWS + 1:
            more = len(sentences) - NAMED_ROWS - 1
            sentences[NAMED_ROWS + 1 :] = [f"{more} more were left for such reasons."]
        level = messages.SUCCESS if count else messages.WARNING
        self.message_user(request, " ".join(sentences), level)


def _left(why: str, names: list[str]) -> str:
    """Why rows were left, with the first of their names; without names `why` is a sentence."""
    if not names:
        return why
    more = f" and {len(names) - NAMED_ROWS} more" if len(names) > NAMED_ROWS else ""
    return f"Left, because {why}: {', '.join(names[:NAMED_ROWS])}{more}."


class OperationAdmin(RefusingAdmin, AskingAdmin, DiscreetAdmin):
    """Changes rows through operations, or as they do: with a record in the same transaction."""

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        if change:
            with transaction.atomic():
                require_version(obj, self.version(request))
                before = snapshot(obj)
                self.save_changes(request, obj, form)
                record_saved(obj, before)
        else:
            self.create(request, obj, form)

    def save_changes(self, request: HttpRequest, obj: Any, form: Any) -> None:
        """Only what was edited: the rest of the row may have moved on since it was read."""
        obj.save(update_fields=[name for name in form.changed_data if name in form.fields])

    def create(self, request: HttpRequest, obj: Any, form: Any) -> None:
        obj.save()


class PagedAdmin(ModelAdmin):
    """Rows with a page of their own, to which their form leads whoever may see that page."""

    page = ""  # the name of its address

    def with_page(self, user: Any) -> QuerySet[Any]:
        """The rows whose page `user` may see."""
        found: QuerySet[Any] = self.model._default_manager.for_user(user)
        return found

    def get_view_on_site_url(self, obj: Any = None) -> str | None:
        return None if obj is None else reverse(self.page, args=[obj.pk])

    def render_change_form(self, request: HttpRequest, *args: Any, **given: Any) -> Any:
        answer: Any = super().render_change_form(request, *args, **given)
        obj = given.get("obj")
        if obj is not None and not self.with_page(request.user).filter(pk=obj.pk).exists():
            answer.context_data["has_absolute_url"] = False
        return answer


class ReadOnlyAdmin(DiscreetAdmin):
    """Rows that Forge alone writes: an edit would break a rule."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class RemovableAdmin(OperationAdmin):
    """Rows that are removed by an operation which hides them; history keeps pointing at them."""

    def remove(self, request: HttpRequest, obj: Any) -> None:
        raise NotImplementedError

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.remove(request, obj)

    def get_deleted_objects(self, objs: Iterable[Any], request: HttpRequest) -> Any:
        """Nothing else goes with them, so nothing stands in the way."""
        names = [str(row) for row in objs]
        return names, {str(self.opts.verbose_name_plural): len(names)}, set(), []

    def is_present(self, obj: Any) -> bool:
        """Whether it was not removed before."""
        return obj.removed_at is None

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_there = obj is None or self.is_present(obj)
        return super().has_change_permission(request, obj) and is_there

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_there = obj is None or self.is_present(obj)
        return super().has_delete_permission(request, obj) and is_there


class TokenAdmin(OperationAdmin):
    """Rows with a token. The page that answers the creation shows it, and nothing else does.

    It goes from the operation into that answer, past sessions, cookies and the database.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tokens: WeakKeyDictionary[HttpRequest, str] = WeakKeyDictionary()

    def keep_token(self, request: HttpRequest, token: str) -> None:
        """Remember the token until this request is answered."""
        self._tokens[request] = token

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        title = f"{self.opts.verbose_name} {obj} was created".capitalize()
        return self.show_token(request, obj, self._tokens.pop(request), title)

    def show_token(
        self, request: HttpRequest, obj: Any, token: str, title: str, **more: Any
    ) -> HttpResponse:
        """The page with the token, which nobody else may keep."""
        context = {
            **self.admin_site.each_context(request),
            **self.token_context(),
            "title": title,
            "opts": self.opts,
            "object": obj,
            "token": token,
            **more,
        }
        answer = TemplateResponse(request, ONCE_SHOWN, context)
        answer["Cache-Control"] = "no-store"
        return answer

    def token_context(self) -> dict[str, str]:
        """What the page says besides the token; `way` chooses the words of the template."""
        return {"way": "header"}
