"""Addresses below /api/. The last pattern answers everything that is none, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import JsonResponse
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

from forge.api.access_keys import AccessKeyDetail, AccessKeyList
from forge.api.all_runners import AllRunners
from forge.api.audit import ProjectAudit, ProjectAuditFile, WholeAudit, WholeAuditFile
from forge.api.documents import Documentation, Schema
from forge.api.logs import TaskLog
from forge.api.members import MemberDetail, MemberList
from forge.api.pauses import RunnerDrain, RunnerPause, RunnerResume
from forge.api.projects import ProjectDetail, ProjectList
from forge.api.queue import Queue, StopAll
from forge.api.registration_tokens import RegistrationTokenDetail, RegistrationTokenList
from forge.api.rotation import RunnerEndOlderTokens, RunnerRotate
from forge.api.runners import RunnerDetail, RunnerLift, RunnerList
from forge.api.tasks import TaskDetail, TaskForceStop, TaskList, TaskStop
from forge.api.template_states import (
    TemplateDisable,
    TemplateDuplicate,
    TemplateEnable,
    TemplateHistory,
)
from forge.api.templates import TemplateDetail, TemplateList
from forge.api.tokens import UserTokenDetail, UserTokenList
from forge.api.variable_groups import VariableGroupDetail, VariableGroupList

if TYPE_CHECKING:
    from django.http import HttpRequest


@csrf_exempt
def no_such_address(request: HttpRequest) -> JsonResponse:
    message = "There is no such address. Mind the slash at the end; /api/docs/ lists them all."
    return JsonResponse({"code": "not_found", "message": message}, status=404)


urlpatterns = [
    path("v1/projects/", ProjectList.as_view(), name="api-projects"),
    path("v1/projects/<int:pk>/", ProjectDetail.as_view(), name="api-project"),
    path("v1/projects/<int:pk>/templates/", TemplateList.as_view(), name="api-templates"),
    path("v1/projects/<int:pk>/tasks/", TaskList.as_view(), name="api-tasks"),
    path("v1/projects/<int:pk>/queue", Queue.as_view(), name="api-queue"),
    path("v1/projects/<int:pk>/stop-all", StopAll.as_view(), name="api-stop-all"),
    path("v1/projects/<int:pk>/runners/", RunnerList.as_view(), name="api-runners"),
    path("v1/templates/<int:pk>/", TemplateDetail.as_view(), name="api-template"),
    path(
        "v1/templates/<int:pk>/duplicate",
        TemplateDuplicate.as_view(),
        name="api-template-duplicate",
    ),
    path("v1/templates/<int:pk>/disable", TemplateDisable.as_view(), name="api-template-disable"),
    path("v1/templates/<int:pk>/enable", TemplateEnable.as_view(), name="api-template-enable"),
    path("v1/templates/<int:pk>/history", TemplateHistory.as_view(), name="api-template-history"),
    path("v1/tasks/<int:pk>/", TaskDetail.as_view(), name="api-task"),
    path("v1/tasks/<int:pk>/log", TaskLog.as_view(), name="api-task-log"),
    path("v1/tasks/<int:pk>/stop", TaskStop.as_view(), name="api-task-stop"),
    path("v1/tasks/<int:pk>/force-stop", TaskForceStop.as_view(), name="api-task-force-stop"),
    path("v1/runners/", AllRunners.as_view(), name="api-runners-all"),
    path("v1/runners/<int:pk>/", RunnerDetail.as_view(), name="api-runner"),
    path("v1/runners/<int:pk>/lift-quarantine", RunnerLift.as_view(), name="api-runner-lift"),
    path("v1/runners/<int:pk>/pause", RunnerPause.as_view(), name="api-runner-pause"),
    path("v1/runners/<int:pk>/drain", RunnerDrain.as_view(), name="api-runner-drain"),
    path("v1/runners/<int:pk>/resume", RunnerResume.as_view(), name="api-runner-resume"),
    path("v1/projects/<int:pk>/access-keys/", AccessKeyList.as_view(), name="api-access-keys"),
    path("v1/access-keys/<int:pk>/", AccessKeyDetail.as_view(), name="api-access-key"),
    path(
        "v1/projects/<int:pk>/variable-groups/",
        VariableGroupList.as_view(),
        name="api-variable-groups",
    ),
    path("v1/variable-groups/<int:pk>/", VariableGroupDetail.as_view(), name="api-variable-group"),
    path("v1/runners/<int:pk>/rotate", RunnerRotate.as_view(), name="api-runner-rotate"),
    path(
        "v1/runners/<int:pk>/end-older-tokens",
        RunnerEndOlderTokens.as_view(),
        name="api-runner-end-older-tokens",
    ),
    path(
        "v1/projects/<int:pk>/registration-tokens/",
        RegistrationTokenList.as_view(),
        name="api-registration-tokens",
    ),
    path(
        "v1/registration-tokens/<int:pk>/",
        RegistrationTokenDetail.as_view(),
        name="api-registration-token",
    ),
    path("v1/projects/<int:pk>/members/", MemberList.as_view(), name="api-members"),
    path("v1/members/<int:pk>/", MemberDetail.as_view(), name="api-member"),
    path("v1/projects/<int:pk>/audit/", ProjectAudit.as_view(), name="api-audit"),
    path(
        "v1/projects/<int:pk>/audit/<slug:form>",
        ProjectAuditFile.as_view(),
        name="api-audit-file",
    ),
    path("v1/audit/", WholeAudit.as_view(), name="api-audit-all"),
    path("v1/audit/<slug:form>", WholeAuditFile.as_view(), name="api-audit-all-file"),
    path("v1/tokens/", UserTokenList.as_view(), name="api-tokens"),
    path("v1/tokens/<int:pk>/", UserTokenDetail.as_view(), name="api-token"),
    path("schema/", Schema.as_view(), name="api-schema"),
    path("docs/", Documentation.as_view(), name="api-docs"),
    re_path("", no_such_address),
]
