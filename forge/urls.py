"""Every address of Forge."""

from django.contrib import admin
from django.urls import include, path

from forge import admin_doors
from forge.health import healthz, readyz
from forge.icon import favicon
from forge.pages.sign_in import SignOut
from runners import wheel
from runners.connect import connect, verify
from runners.registration import register
from tasks.claim import claim
from tasks.heartbeat import heartbeat
from tasks.intake import report
from tasks.unregister import unregister

runner_api = [
    path("connect", connect),
    path("claim", claim),
    path("report", report),
    path("heartbeat", heartbeat),
    path("register", register),
    path("verify", verify),
    path("unregister", unregister),
]

urlpatterns = [
    path("", include("forge.pages.urls")),
    path("api/", include("forge.api.urls")),
    path("favicon.ico", favicon, name="favicon"),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("runner/v1/", include(runner_api)),
    path(f"runner/{wheel.NAME}", wheel.download, name="runner-wheel"),
    path("admin/login/", admin_doors.sign_in),
    path("admin/logout/", SignOut.as_view()),  # that too is one for all of Forge, and recorded
    path("admin/password_change/", admin_doors.change_password),
    path("admin/", admin.site.urls),
]

handler400 = "forge.pages.refused.not_understood"
handler403 = "forge.pages.refused.refused"
handler500 = "forge.outage.answer_to_failure"
