"""Access keys and variable groups: list, add, change, remove.

Both are sources of variables with secrets in them, and their pages follow the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from forge.pages import made_once, versions
from forge.pages.access import demand, project_for
from forge.pages.access_key_form import AccessKeyForm
from forge.pages.secret_words import (
    credentials_sentence,
    key_trouble,
    users_of_groups,
    users_of_keys,
)
from forge.pages.shell import page
from forge.pages.variable_group_form import VariableGroupForm
from projects.audit.entry import Kind
from projects.errors import ForgeError
from projects.models import AccessKey, Project, VariableGroup
from projects.permissions import Action
from projects.secret_fields import add_problems
from tasks.errors import SourceInUseError
from tasks.models import TaskTemplate
from tasks.operations import (
    remove_access_key,
    remove_variable_group,
    save_access_key,
    save_variable_group,
)

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

_reads = method_decorator([login_required, require_safe])
_changes = method_decorator(
    [
        # Whoever is told of an error by mail is not told what was typed.
        sensitive_post_parameters(),
        login_required,
        require_http_methods(["GET", "HEAD", "POST"]),
    ]
)


@dataclass(frozen=True)
class SourcePages:
    """The pages of one kind of source; its methods are views.

    `name` begins the names of addresses and files: "access-key", "access_key_form.html".
    """

    name: str
    model: type[AccessKey | VariableGroup]
    form: type[AccessKeyForm | VariableGroupForm]
    kind: Kind
    users: Callable[[Project], dict[int, list[TaskTemplate]]]
    save: Callable[[Any, Any, str], object]
    remove_row: Callable[[Any], None]

    def _page(self, request: HttpRequest, kind: str, project: Project, **told: Any) -> HttpResponse:
        file = f"{self.name.replace('-', '_')}{kind}.html"
        return page(request, file, project=project, section=f"{self.name}s", **told)

    def _row_for(self, request: HttpRequest, pk: int) -> Any:
        rows = self.model.objects.for_user(request.user).select_related("project")
        return get_object_or_404(rows, pk=pk)

    def _used_by(self, row: Any) -> list[TaskTemplate]:
        return self.users(row.project).get(row.pk, [])

    @_reads
    def index(self, request: HttpRequest, pk: int) -> HttpResponse:
        project = project_for(request, pk)
        rows: list[Any] = list(self.model.objects.filter(project=project))
        users = self.users(project)
        told = {
            "rows": [(row, users.get(row.pk, [])) for row in rows],
            "sentence": credentials_sentence(
                self.name.replace("-", " "), [row.problem for row in rows]
            ),
            "key_trouble": key_trouble(),
        }
        return self._page(request, "s", project, **told)

    @_changes
    def new(self, request: HttpRequest, pk: int) -> HttpResponse:
        project = project_for(request, pk)
        demand(request, project, Action.CREDENTIAL_CHANGE)
        if at := made_once.made_at(request):
            return made_once.back_to(request, f"{self.name}s", pk, at=at)
        return self._form(request, self.model(project=project))

    @_changes
    def detail(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The form, for those who may change it; what may be known of it for others."""
        row = self._row_for(request, pk)
        if request.method == "POST":
            demand(request, row.project, Action.CREDENTIAL_CHANGE)
            return self._form(request, row)
        if row.project.allows(request.user, Action.CREDENTIAL_CHANGE):
            return self._form(request, row)
        return self._page(request, "_read", row.project, row=row, used_by=self._used_by(row))

    def _form(self, request: HttpRequest, row: Any) -> HttpResponse:
        # A rejected form has put what was typed into `row`; the heading shows what is stored.
        stored: Any = self.model.objects.filter(pk=row.pk).first() if row.pk else None
        mark = versions.mark_of(stored, self.kind) if stored else ""
        form = self.form(request.POST if request.method == "POST" else None, row=stored)
        if form.is_valid() and self._is_saved(form, row, versions.version_from(request)):
            if stored is None:
                made_once.remember(request, now=timezone.now())
            messages.success(request, f"Saved {row.name}.")
            return redirect(f"{self.name}s", row.project_id)
        used_by = self._used_by(stored) if stored else []
        told = {"form": form, "row": stored, "used_by": used_by, "key_trouble": key_trouble()}
        told |= versions.told(request, form, stored, self.kind, mark=mark)
        answer = self._page(request, "_form", row.project, **told)
        answer.status_code = versions.status_of(form)
        return answer

    def _is_saved(self, form: AccessKeyForm | VariableGroupForm, row: Any, version: str) -> bool:
        try:
            self.save(row, form.fill(row), version)
        except ValidationError as error:
            add_problems(form, error)
        except ForgeError as error:
            versions.refuse(form, error)
        else:
            return True
        return False

    @_changes
    def remove(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = self._row_for(request, pk)
        demand(request, row.project, Action.CREDENTIAL_CHANGE)
        if request.method != "POST":
            told = {"row": row, "noun": self.name.replace("-", " "), "name": self.name}
            told |= {"used_by": self._used_by(row)}
            return page(
                request, "source_remove.html", project=row.project, section=f"{self.name}s", **told
            )
        try:
            self.remove_row(row)
        except SourceInUseError as error:
            messages.error(request, str(error))
            return redirect(self.name, pk)
        messages.success(request, f"Removed {row.name} with its secrets.")
        return redirect(f"{self.name}s", row.project_id)


access_keys = SourcePages(
    name="access-key",
    model=AccessKey,
    form=AccessKeyForm,
    kind=Kind.ACCESS_KEY,
    users=users_of_keys,
    save=lambda row, parts, version: save_access_key(
        key=row, parts=parts, now=timezone.now(), version=version
    ),
    remove_row=lambda row: remove_access_key(key=row),
)
variable_groups = SourcePages(
    name="variable-group",
    model=VariableGroup,
    form=VariableGroupForm,
    kind=Kind.VARIABLE_GROUP,
    users=users_of_groups,
    save=lambda row, secrets, version: save_variable_group(
        group=row, secrets=secrets, now=timezone.now(), version=version
    ),
    remove_row=lambda row: remove_variable_group(group=row),
)
