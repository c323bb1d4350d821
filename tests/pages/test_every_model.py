"""Every model has a page, an address in the API and a place in the admin, or a stated reason."""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin

from tests.api.test_api_access import PATHS as API
from tests.pages.test_pages_access import PATHS as PAGES

# By model: names of a page and of an address of the API, or why there is none.
SHOWN: dict[str, tuple[str, str]] = {
    "projects.Project": ("project", "api-project"),
    "projects.Membership": ("members", "api-members"),
    "projects.UserToken": ("tokens", "api-tokens"),
    "projects.AccessKey": ("access-keys", "api-access-keys"),
    "projects.VariableGroup": ("variable-groups", "api-variable-groups"),
    "projects.SecretVariable": ("variable-group", "api-variable-group"),
    "projects.AuditEntry": ("audit", "api-audit"),
    "runners.Runner": ("runner", "api-runner"),
    # The runner's page says since when and until when its tokens work.
    "runners.RunnerToken": ("runner", "api-runner"),
    "runners.RegistrationToken": ("registration-tokens", "api-registration-tokens"),
    # Named where they are used: there is nothing else to say of them.
    "runners.Tag": ("runner", "api-runner"),
    "runners.Queue": ("runner", "because: which queues a runner serves follows from its tags"),
    "tasks.TaskTemplate": ("template", "api-template"),
    "tasks.TemplateAccessKey": ("template", "api-template"),
    "tasks.Task": ("task", "api-task"),
    "runners.BrokerContact": (
        "because: tasks that wait for the broker say so on their pages",
        "because: likewise, in what they say they wait for",
    ),
    "tasks.TaskAttempt": ("task", "api-task"),
    "tasks.LogChunk": ("task", "api-task-log"),
    # What its page has found in a log so far; it says nothing that the log does not.
    "tasks.LogOutline": ("task-log-outline", "because: it is the page's, made from the log"),
    "tasks.Leadership": (
        "because: it is about Forge's processes, not about anybody's project",
        "because: likewise; the health checks and the controller's log tell",
    ),
}


def test_every_model_has_page_api_and_admin_or_a_reason() -> None:
    models = {
        model._meta.label: model
        for app in ("projects", "runners", "tasks")
        for model in apps.get_app_config(app).get_models()
    }
    assert models.keys() == SHOWN.keys()
    for label, (page, address) in SHOWN.items():
        assert page in PAGES or page.startswith("because: "), label
        assert address in API or address.startswith("because: "), label
        assert models[label] in admin.site._registry, label
