"""The addresses of the pages."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from forge.pages import (
    home,
    log_search,
    projects,
    registration_tokens,
    rotation,
    runners,
    stream,
    tasks,
    templates,
    tokens,
)
from forge.pages.sources import access_keys, variable_groups

sign_in = LoginView.as_view(template_name="sign_in.html", redirect_authenticated_user=True)

urlpatterns = [
    path("", home.home, name="home"),
    path("sign-in/", sign_in, name="sign-in"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("projects/<int:pk>/", projects.overview, name="project"),
    path("projects/<int:pk>/templates/", templates.templates, name="templates"),
    path("projects/<int:pk>/templates/new/", templates.new, name="template-new"),
    path("templates/<int:pk>/", templates.template, name="template"),
    path("templates/<int:pk>/run/", templates.run, name="template-run"),
    path("templates/<int:pk>/remove/", templates.remove, name="template-remove"),
    path("projects/<int:pk>/tasks/", tasks.tasks, name="tasks"),
    path("tasks/<int:pk>/", tasks.task, name="task"),
    path("tasks/<int:pk>/stop/", tasks.stop, name="task-stop"),
    path("tasks/<int:pk>/force-stop/", tasks.force_stop, name="task-force-stop"),
    path("tasks/<int:pk>/rerun/", tasks.rerun, name="task-rerun"),
    path("tasks/<int:pk>/stream", stream.stream, name="task-stream"),
    path("tasks/<int:pk>/log", stream.log, name="task-log"),
    path("tasks/<int:pk>/log/search", log_search.search, name="task-log-search"),
    path("projects/<int:pk>/runners/", runners.runners, name="runners"),
    path("projects/<int:pk>/runners/new/", runners.new, name="runner-new"),
    path("runners/<int:pk>/", runners.runner, name="runner"),
    path("runners/<int:pk>/contact/", runners.contact, name="runner-contact"),
    path("runners/<int:pk>/lift/", runners.lift, name="runner-lift"),
    path("runners/<int:pk>/remove/", runners.remove, name="runner-remove"),
    path("projects/<int:pk>/access-keys/", access_keys.index, name="access-keys"),
    path("projects/<int:pk>/access-keys/new/", access_keys.new, name="access-key-new"),
    path("access-keys/<int:pk>/", access_keys.detail, name="access-key"),
    path("access-keys/<int:pk>/remove/", access_keys.remove, name="access-key-remove"),
    path("projects/<int:pk>/variable-groups/", variable_groups.index, name="variable-groups"),
    path("projects/<int:pk>/variable-groups/new/", variable_groups.new, name="variable-group-new"),
    path("variable-groups/<int:pk>/", variable_groups.detail, name="variable-group"),
    path("variable-groups/<int:pk>/remove/", variable_groups.remove, name="variable-group-remove"),
    path("runners/<int:pk>/rotate/", rotation.rotate, name="runner-rotate"),
    path("runners/<int:pk>/end-older/", rotation.end_older, name="runner-end-older"),
    path(
        "projects/<int:pk>/registration-tokens/",
        registration_tokens.registration_tokens,
        name="registration-tokens",
    ),
    path(
        "projects/<int:pk>/registration-tokens/new/",
        registration_tokens.new,
        name="registration-token-new",
    ),
    path(
        "registration-tokens/<int:pk>/revoke/",
        registration_tokens.revoke,
        name="registration-token-revoke",
    ),
    path("tokens/", tokens.tokens, name="tokens"),
    path("tokens/<int:pk>/revoke/", tokens.revoke, name="token-revoke"),
]
