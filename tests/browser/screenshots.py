"""Pictures of every page, from a Forge of its own with believable data.

    python tests/browser/screenshots.py [folder] [--audit] [--only=overview,task]

Everything lives below the folder (default build/screenshots): database, pictures. The pictures
are for eyes; the script itself fails when a page breaks the content security policy, writes an
error to the console, or is wider than the screen. With --audit it takes no pictures: axe-core
looks at every page instead, at both widths, in light and dark. --only names pages, of which alone
pictures are taken, without what needs a click.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
ARGUMENTS = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
IS_AUDIT = "--audit" in sys.argv
ONLY = [name for argument in sys.argv if argument.startswith("--only=")
        for name in argument.removeprefix("--only=").split(",")]  # fmt: skip
OUT = Path(ARGUMENTS[0] if ARGUMENTS else ROOT / "build" / "screenshots").absolute()
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PASSWORD = "a password for pictures"
SIZES = {"1440": (1440, 1000), "390": (390, 844)}
THEMES = ("light", "dark")
# Answers that the pictures are of.
EXPECTED = re.compile(r"\b(400|404|409)\b")
LOOKS = [("1440", "light"), ("390", "dark")]
if os.environ.get("FORGE_LONG"):
    LOOKS = [(width, theme) for width in SIZES for theme in THEMES]
STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'"
)

sys.path.insert(0, str(ROOT))
shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir(parents=True)
os.environ |= {
    "DATABASE_URL": f"sqlite:///{OUT / 'forge.sqlite3'}",
    "SECRET_KEY": secrets.token_urlsafe(40),
    "FORGE_SECRETS_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "DJANGO_SETTINGS_MODULE": "forge.settings",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "FORGE_OFFLINE_SECONDS": "600",
    "TIME_ZONE": "Europe/Lisbon",
    "LOG_LEVEL": "ERROR",
}

import django  # noqa: E402

django.setup()

from cryptography.fernet import Fernet  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from forge.security import OTHERS  # noqa: E402
from projects.audit.actor import Actor, Way, acting  # noqa: E402
from projects.audit.entry import Verb  # noqa: E402
from projects.audit.recording import record  # noqa: E402
from projects.encryption import Sealed, new_key  # noqa: E402
from projects.members import change_role  # noqa: E402
from projects.models import (  # noqa: E402
    AccessKey,
    Membership,
    Project,
    SecretVariable,
    UserToken,
    VariableGroup,
)
from projects.operations import change_project  # noqa: E402
from projects.permissions import Role  # noqa: E402
from runners.models import RegistrationToken, Runner, Tag  # noqa: E402
from runners.operations import drain_runner, pause_runner, quarantine_runner, rotate_token  # noqa: E402
from runners.registration import register_runner  # noqa: E402
from runners.worker.protocol import VERSION, RegisterRequest  # noqa: E402
from tasks.lifecycle import TERMINAL, TaskState  # noqa: E402
from tasks.log import append  # noqa: E402
from tasks.models import Leadership, Task, TaskAttempt, TaskTemplate  # noqa: E402
from tasks.operations import (  # noqa: E402
    disable_template,
    run_template,
    save_access_key,
    save_template,
    save_variable_group,
)
from tasks.sources import Sources  # noqa: E402
from tests.broker import free_port  # noqa: E402
from tests.browser import admin_pages  # noqa: E402
from tests.browser.axe import findings  # noqa: E402
from tests.browser.visitor import PATIENCE_MILLISECONDS  # noqa: E402

NOW = timezone.now()
# As somebody gives a reason who pastes an address: one word that is wider than a phone.
ONE_WORD = f"https://tickets.example.net/browse?issue=OPS-2150&text={'kernel' * 24}"[:200]
PICTURE_KEY = "\n".join(
    ["-----BEGIN OPENSSH PRIVATE KEY-----", secrets.token_urlsafe(48), "-----END KEY-----"]
).replace("END KEY", "END OPENSSH PRIVATE KEY")

ANSIBLE_LOG = (
    "\x1b[2m$ ansible-playbook deploy_web.yml -i inventories/production -e version=2.14.1\x1b[0m\n"
    "\n\x1b[1mPLAY [web] *****************************************************\x1b[0m\n\n"
    "\x1b[1mTASK [Gathering Facts]\x1b[0m\n"
    + "".join(f"\x1b[32mok: [web-{n:02d}]\x1b[0m\n" for n in range(1, 5))
    + "\n\x1b[1mTASK [web : Check free space on /srv]\x1b[0m\n"
    + "".join(f"\x1b[32mok: [web-{n:02d}]\x1b[0m\n" for n in range(1, 5))
    + "\n\x1b[1mTASK [web : Install packages]\x1b[0m\n"
    + "".join(
        f"\x1b[33mchanged: [web-{n % 4 + 1:02d}] => (item=package-{n})\x1b[0m\n"
        for n in range(1200)
    )
    + "\n\x1b[1mTASK [web : Render nginx and unit files]\x1b[0m\n"
    "\x1b[33mchanged: [web-01] => (item=nginx.conf)\x1b[0m\n"
    "\x1b[33mchanged: [web-02] => (item=nginx.conf)\x1b[0m\n"
    "\x1b[32mok: [web-03] => (item=nginx.conf)\x1b[0m\n"
    "\x1b[35m[WARNING]: Module remote_tmp /home/deploy/.ansible/tmp did not exist and was created "
    "with mode 0700\x1b[0m\n"
    "\x1b[33mchanged: [web-04] => (item=nginx.conf)\x1b[0m\n"
    "\n\x1b[1mTASK [web : Fetch release 2.14.1]\x1b[0m\n"
    "Registry login as \x1b[34mdeploy\x1b[0m with password [masked]\n"
    "\x1b[36mweb-2.14.1.tar.gz\x1b[0m  sha256:4be1c0…  190.4 MB  \x1b[1msignature good\x1b[0m\n"
    "\x1b[31mfatal: [web-03]: connection reset by peer (attempt 1 of 3)\x1b[0m\n"
    "\x1b[2m...retrying in 2 s\x1b[0m\n"
    "\x1b[32mok: [web-01]\x1b[0m \x1b[2mfetched in 38.1 s\x1b[0m\n"
    "\x1b]0;a title that must not show\x07<script>alert('only text')</script>\n"
    + "".join(f"\rweb-03 {n} %  {n * 190 // 100}/190 MB" for n in range(63))
)


ROUTINE = (
    "Rotate TLS certificates", "Rotate TLS certificates", "Collect host facts", "Deploy web tier",
    "Database backup",
)  # fmt: skip


class Story:
    """Rows as they are after a busy day, written without a runner."""

    def __init__(self) -> None:
        names = {"ana": "Ana Ribeiro", "tomas": "Tomás Reis", "mei": "Mei Lindqvist"}
        self.people = {key: self._person(key, name) for key, name in names.items()}
        self.project = self._project("Platform operations", "Web tier, networks and hypervisors")
        self._project("Data platform", "Rankings, reports and their hosts")
        self._project("Edge sites", "")
        Leadership.objects.create(
            name="controller", holder="forge-1", expires_at=NOW + timedelta(days=1)
        )
        self.runners: dict[str, Runner] = {}
        self.templates: dict[str, TaskTemplate] = {}

    def _person(self, key: str, name: str) -> User:
        first, last = name.split()
        user = User.objects.create_user(key, password=PASSWORD, first_name=first, last_name=last)
        user.is_staff = user.is_superuser = False
        user.save()
        return user

    def _project(self, name: str, description: str) -> Project:
        project = Project.objects.create(name=name, description=description)
        for user, role in zip(self.people.values(), ("owner", "manager", "viewer"), strict=True):
            Membership.objects.create(project=project, user=user, role=role)
        return project

    def tags(self, names: str) -> list[Tag]:
        return [
            Tag.objects.get_or_create(project=self.project, name=name)[0] for name in names.split()
        ]

    def runner(self, name: str, tags: str, slots: int, heard: float | None, address: str) -> None:
        """`heard`: how many seconds ago; None for never."""
        at = NOW - timedelta(seconds=heard) if heard is not None else None
        runner = Runner.objects.create(
            project=self.project,
            name=name,
            concurrency=slots,
            created_by=self.people["tomas"],
            connected_at=NOW - timedelta(hours=5) if at else None,
            last_heartbeat_at=at,
            session="one" if at else "",
            address=address if at else None,
            version=VERSION if at else "",
            system="Debian 12 x86_64" if at else "",
            host_name=f"{name}.example.net" if at else "",
        )
        added = NOW - (timedelta(days=40) if at else timedelta(hours=6))
        Runner.objects.filter(pk=runner.pk).update(created_at=added)
        runner.tags.set(self.tags(tags))
        made = {"created_at": NOW - timedelta(hours=6), "created_by": self.people["tomas"]}
        runner.tokens.create(digest=secrets.token_hex(32), **made)
        self.runners[name] = runner

    def tokens(self) -> int:
        """Keys of all kinds; the answer is a registration token that still works."""
        hour, day = timedelta(hours=1), timedelta(days=1)
        kinds: list[dict[str, Any]] = [
            {"name": "Edge sites, November batch", "max_uses": 20, "uses": 7},
            {"name": "GPU lab", "uses": 1},
            {"name": "Web tier image", "max_uses": 50, "uses": 31, "expires_at": NOW - hour},
            {"name": "Contractor's laptop", "revoked_at": NOW - hour},
        ]
        rows = []
        for kind in kinds:
            given = {"digest": secrets.token_hex(32), "expires_at": NOW + 6 * day, **kind}
            given |= {"created_at": NOW - 2 * day, "created_by": self.people["ana"]}
            rows.append(RegistrationToken.objects.create(project=self.project, **given))
            rows[-1].tags.set(self.tags("edge linux"))
        for name, ends, used in (
            ("nightly deploy", NOW + 60 * day, NOW - timedelta(seconds=40)),
            ("laptop", None, NOW - 9 * day),
            ("old pipeline", NOW - day, NOW - 2 * day),
        ):
            UserToken.objects.create(
                user=self.people["ana"], name=name, digest=secrets.token_hex(32),
                expires_at=ends, last_used_at=used,
            )  # fmt: skip
        UserToken.objects.update(created_at=NOW - 30 * day)
        for runner in self.runners.values():
            runner.tokens.update(last_used_at=runner.connected_at)
        rotated = self.runners["dc-west-2"]
        rotated.tokens.update(expires_at=NOW + 5 * hour, last_used_at=NOW - hour)
        rotated.tokens.create(
            digest=secrets.token_hex(32), created_at=NOW - hour, created_by=self.people["ana"]
        )
        return rows[0].pk

    def template(self, name: str, description: str, tags: str, **more: Any) -> None:
        script = "#!/usr/bin/env bash\nset -euo pipefail\n\nansible-playbook deploy_web.yml \\\n"
        script += '  -i "inventories/$TARGET" \\\n  -e "version=$VERSION"\n'
        fields = {"script": script, "environment": {"TARGET": "production", "VERSION": "2.14.1"}}
        row = TaskTemplate(
            project=self.project, name=name, description=description, **(fields | more)
        )
        self.templates[name] = save_template(template=row, tags=tags.split())

    def task(
        self, template: str, state: str, *, ago: float, took: float = 0.0, runner: str = "",
        by: str = "ana", log: bytes = b"done\n", **more: Any,
    ) -> Task:  # fmt: skip
        """A task queued `ago` seconds before now that ran for `took` seconds."""
        row = self.templates[template]
        queued = NOW - timedelta(seconds=ago)
        task = Task(
            project=self.project, template=row, queue=row.queue,
            app=row.app, script=row.script, environment=row.environment,
            timeout_seconds=row.timeout_seconds, is_exclusive=False, state=state,
            created_by=self.people[by], created_at=queued, queued_at=queued, **more,
        )  # fmt: skip
        if runner:
            task.runner = self.runners[runner]
            task.nonce = secrets.token_hex(11)
            task.claimed_at = queued + timedelta(milliseconds=38)
            task.lease_expires_at = task.lease_expires_at or NOW + timedelta(seconds=55)
            task.started_at = None if state == "starting" else queued + timedelta(milliseconds=56)
        if state in TERMINAL:
            task.finished_at = queued + timedelta(seconds=took)
            task.reason = task.reason or "It ended with exit code 0."
        task.save()
        if runner and state != "starting":
            self.write_log(task, log)
        return task

    def retried(self) -> Task:
        """A task whose first runner was lost and whose second was cut short."""
        task = self.task("Collect host facts", "running", ago=900, runner="dc-east-1", attempt=3,
                         lost_runner_policy="retry")  # fmt: skip
        ends = (
            (1, "gpu-lab-1", "lost", 900, 740, "Runner gpu-lab-1 was out of reach, and has ended "
             "its processes with their lease."),
            (2, "dc-west-1", "failed", 739, 610, "The runner's worker was killed while it ran; "
             "its processes were ended with it."),
        )  # fmt: skip
        for number, runner, state, begin, end, reason in ends:
            TaskAttempt.objects.create(
                task=task, number=number, runner=self.runners[runner], state=state, reason=reason,
                claimed_at=NOW - timedelta(seconds=begin), ended_at=NOW - timedelta(seconds=end),
                started_at=NOW - timedelta(seconds=begin), log_bytes=31_400 * number,
                log_complete=number == 2,
            )  # fmt: skip
        task.queued_at = NOW - timedelta(seconds=ends[-1][4])
        task.claimed_at = NOW - timedelta(seconds=608)
        task.started_at = NOW - timedelta(seconds=607.9)
        task.save()
        return task

    def credentials(self) -> None:
        """Access keys and variable groups, chosen by some templates and their running task."""
        now, project = NOW - timedelta(days=3), self.project
        kinds = {
            "Deploy key": ("ssh", "deploy", {"private_key": PICTURE_KEY}),
            "Registry": ("login_password", "robot", {"password": secrets.token_urlsafe(20)}),
            "Pager token": ("string", "", {"value": secrets.token_urlsafe(20)}),
        }
        keys = {}
        for name, (kind, login, parts) in kinds.items():
            key = AccessKey(project=project, name=name, kind=kind, login=login)
            keys[name] = save_access_key(key=key, parts=parts, now=now).pk
        names = {"Production": ("Hosts and tokens of production", "eu"), "Staging": ("", "lab")}
        groups = []
        for name, (description, region) in names.items():
            group = VariableGroup(
                project=project,
                name=name,
                description=description,
                variables={"REGION": region, "LOG_TARGET": "syslog.example.net"},
            )
            values = {f"{word}_TOKEN": secrets.token_urlsafe(20) for word in ("VAULT", "CDN")}
            groups.append(save_variable_group(group=group, secrets=values, now=now).pk)
        template = self.templates["Deploy web tier"]
        save_template(
            template=template,
            tags=[tag.name for tag in template.tags.all()],
            groups=groups[:1],
            keys={keys["Deploy key"]: "DEPLOY", keys["Registry"]: "REGISTRY"},
        )
        sources = Sources.of_template(template).as_json()
        Task.objects.filter(template=template).update(sources=sources)
        lost = VariableGroup(project=project, name="Old cluster")
        save_variable_group(group=lost, secrets={"JOIN_TOKEN": "joined-by-hand"}, now=now)
        # As after a change of FORGE_SECRETS_KEY without the old key among its fallbacks.
        token = Fernet(new_key().encode()).encrypt(b"lost").decode()
        SecretVariable.objects.filter(group=lost).update(secret=Sealed(token))

    def routine(self, minutes: Iterable[int]) -> None:
        """What was done so long ago, more by day than by night, less on weekends."""
        dice = random.Random(7)
        places = {"dc-east-1": 6, "dc-west-2": 5, "dc-west-1": 3, "build-ams-3": 2, "edge-lis-1": 1}
        tasks = []
        for minute in minutes:
            queued = NOW - timedelta(minutes=minute)
            busy = 1 + math.cos((minute / 60 - 8) / 12 * math.pi)
            if queued.weekday() > 4:
                busy /= 4
            if dice.random() < 0.25 + busy / 3:
                where = dice.choices(list(places), list(places.values()))[0]
                tasks.append(self._routine(queued, self.runners[where], dice))
        Task.objects.bulk_create(tasks, batch_size=500)

    def _routine(self, queued: datetime, runner: Runner, dice: random.Random) -> Task:
        row = self.templates[dice.choice(ROUTINE)]
        is_failed = dice.random() < 0.03
        claimed = queued + timedelta(seconds=dice.lognormvariate(-2.6, 0.9))
        return Task(
            project=self.project, template=row, queue=row.queue, app=row.app, script="true",
            timeout_seconds=60, is_exclusive=False, runner=runner, nonce="n",
            reason=f"It ended with exit code {2 if is_failed else 0}.", log_complete=True,
            state="failed" if is_failed else "succeeded", exit_code=2 if is_failed else 0,
            created_by=dice.choice(list(self.people.values())), created_at=queued,
            queued_at=queued, claimed_at=claimed, started_at=claimed,
            finished_at=claimed + timedelta(seconds=dice.uniform(40, 1100)),
        )  # fmt: skip

    def write_log(self, task: Task, data: bytes) -> None:
        began = (NOW - task.claimed_at).total_seconds() if task.claimed_at else 0.0
        for start in range(0, len(data), 1 << 20):
            piece = data[start : start + (1 << 20)]
            # Its runner tells of every hundredth of it when that was written.
            ages = [(n * len(piece) // 100, began * (100 - n) / 100) for n in range(100)]
            append(task, offset=task.log_bytes, data=piece, now=NOW, ages=ages)
        if task.state in TERMINAL:
            task.log_sha256, task.log_complete = hashlib.sha256(data).hexdigest(), True
            task.save(update_fields=["log_sha256", "log_complete"])


def tell() -> dict[str, Any]:
    story = Story()
    story.runner("gpu-lab-1", "gpu ansible", 2, 720, "198.51.100.23")
    story.runner("edge-por-2", "edge linux", 2, None, "")
    story.runner("dc-west-1", "dc-west ansible", 4, 1, "10.20.0.11")
    story.runner("dc-west-2", "dc-west ansible terraform", 4, 2, "10.20.0.12")
    story.runner("dc-east-1", "dc-east ansible linux", 4, 4, "10.30.0.11")
    story.runner("build-ams-3", "linux terraform", 1, 3, "10.40.2.13")
    story.runner("edge-lis-1", "edge linux", 2, 1, "10.50.0.11")
    story.runner("build-ams-4", "linux terraform", 2, 2, "10.40.2.14")
    Runner.objects.filter(name="edge-lis-1").update(
        quarantined_until=NOW + timedelta(minutes=4),
        quarantine_reason="It left 54.2 MB in the broker, 16.8 MB is the limit for its project.",
        quarantine_count=3,
    )
    story.runner("build-ams-5", "linux terraform", 2, 1, "10.40.2.15")
    Runner.objects.filter(name="build-ams-5").update(
        trouble="The journal cannot be written: No space left on device"
    )
    story.template("Deploy web tier", "Rolls a release out, one zone after the other", "ansible")
    story.template("Train ranking model", "Nightly, on the lab's cards", "gpu ansible")
    story.template("Rotate TLS certificates", "All zones", "linux", allow_parallel=True)
    story.template("Database backup", "To the second site", "linux terraform")
    story.template("Patch hypervisors", "", "dc-west", app="python")
    story.template("Collect host facts", "Inventory of the week", "")
    story.template("Reset a password", "By the service desk", "linux",
                   script="if [ \"$ROLE\" != \"admin\u202e \u2066# check\u2069 \u2066\" ]; then\n"
                   "  passwd --expire \"$LOGIN\"\nfi\n")  # fmt: skip
    story.template("Apply network plan", "What the plan showed, nothing else", "terraform")
    story.routine([*range(30 * 24 * 60, 24 * 60, -12), *range(24 * 60, 165, -3)])
    pages = {}
    ansible = ANSIBLE_LOG.encode()
    story.task("Rotate TLS certificates", "succeeded", ago=9_600, took=80, runner="dc-east-1",
               by="tomas", exit_code=0)  # fmt: skip
    story.task("Collect host facts", "lost", ago=9_500, took=3600, runner="gpu-lab-1",
               reason="The runner was silent for 10 min 00 s and never came back.")  # fmt: skip
    story.routine(range(158, 57, -3))
    story.task("Patch hypervisors", "stopped", ago=3_400, took=22, runner="dc-west-1", by="mei",
               reason="Stopped by Mei Lindqvist.")  # fmt: skip
    pages["task-failed"] = story.task(
        "Database backup", "failed", ago=2_500, took=41, runner="build-ams-3", exit_code=2,
        reason="It ended with exit code 2.",
        log=b"pg_dump: dumping contents of table orders\n\x1b[31mpg_dump: error: could not write "
        b"to file: No space left on device\x1b[0m\n",
    )  # fmt: skip
    long = b"".join(
        b"%07d \x1b[32mok\x1b[0m host-%d checked\n" % (n, n % 97) for n in range(200_000)
    )
    pages["task-long"] = story.task(
        "Deploy web tier", "succeeded", ago=2_000, took=250, runner="dc-west-2", exit_code=0,
        log=b"x" * 10_000_000 + b"\n" + long,
    )  # fmt: skip
    pages["task-unreachable"] = story.task(
        "Train ranking model", "unreachable", ago=1_900, runner="gpu-lab-1", by="tomas",
        unreachable_at=NOW - timedelta(seconds=700), wait_ends_at=NOW + timedelta(seconds=2_900),
    )  # fmt: skip
    pages["task-stopping"] = story.task(
        "Patch hypervisors", "stopping", ago=1_100, runner="dc-west-2", by="tomas",
        stop_requested_at=NOW - timedelta(seconds=8), stop_reason="Stopped by Ana Ribeiro.",
        log=b"hypervisor-04: draining guests\nforge: stopping: Stopped by Ana Ribeiro.\n"
        b"forge: sent INT to 3 processes, waiting up to 120 s\n",
    )  # fmt: skip
    pages["task-attempts"] = story.retried()
    pages["task-queued"] = story.task("Train ranking model", "queued", ago=708, by="mei")
    story.task("Database backup", "running", ago=300, runner="build-ams-3")
    story.task("Database backup", "queued", ago=290, by="tomas")
    pages["task"] = story.task(
        "Deploy web tier", "running", ago=151, runner="dc-west-2", log=ansible
    )
    story.task("Rotate TLS certificates", "running", ago=72, runner="dc-west-2", by="tomas")
    story.task("Collect host facts", "starting", ago=1, runner="dc-east-1", by="mei")
    story.task("Apply network plan", "awaiting_approval", ago=310, by="mei")
    assert {task.state for task in Task.objects.all()} == set(TaskState.values)
    story.credentials()
    disable_template(
        template=story.templates["Patch hypervisors"], by=story.people["ana"], now=NOW,
        reason="Waits for the new kernel, ticket OPS-2150",
    )  # fmt: skip
    empty = Project.objects.get(name="Edge sites")
    told = {"project": story.project, "empty": empty, "pages": pages, "story": story}
    told |= {"key": AccessKey.objects.get(name="Deploy key").pk}
    told |= {"group": VariableGroup.objects.get(name="Production").pk}
    told |= {"unused": VariableGroup.objects.get(name="Staging").pk}
    told["registration"] = story.tokens()
    return told | {"runners": story.runners, "templates": story.templates}


def one_word(told: dict[str, Any]) -> dict[str, str]:
    """Pages of a project whose runner and template are out of use for a reason of one long word."""
    project, by = Project.objects.get(name="Data platform"), User.objects.get(username="ana")
    told["story"].project = project
    told["story"].runner("rank-lab-1", "gpu", 2, 4000, "198.51.100.40")
    told["story"].template("Rank the catalogue", "", "gpu", allow_parallel=True)
    runner, template = told["runners"]["rank-lab-1"], told["templates"]["Rank the catalogue"]
    waiting = told["story"].task("Rank the catalogue", "queued", ago=600)
    pause_runner(runner=runner, reason=ONE_WORD, until=None, by=by, now=NOW)
    disable_template(template=template, reason=ONE_WORD, by=by, now=NOW)
    told["story"].project = told["project"]
    return {
        "one-word-overview": f"/projects/{project.pk}/",
        "one-word-runners": f"/projects/{project.pk}/runners/",
        "one-word-runner": f"/runners/{runner.pk}/",
        "one-word-queue": f"/projects/{project.pk}/queue/",
        "one-word-templates": f"/projects/{project.pk}/templates/",
        "one-word-template": f"/templates/{template.pk}/",
        "one-word-history": f"/templates/{template.pk}/history/",
        "one-word-task": f"/tasks/{waiting.pk}/",
        "one-word-audit": f"/projects/{project.pk}/audit/",
    }


def history(told: dict[str, Any]) -> dict[str, int]:
    """Two days of the audit log, written by those who act in it."""
    people = {user.username: user for user in User.objects.all()}
    project, template = told["project"], told["templates"]["Deploy web tier"]
    host = Actor(Way.RUNNER, "edge-lis-1", means="Edge sites, November batch")

    def as_user(name: str, way: Way = Way.PAGE, means: str = "", at: str = "203.0.113.7") -> Any:
        actor = Actor(way, name, people[name].pk, means, at)
        return acting(lambda: actor)

    def template_with(by: str, **changes: Any) -> None:
        with as_user(by):
            for field, value in changes.items():
                setattr(template, field, value)
            save_template(template=template, tags=["linux", "web"])

    with as_user("ana"):
        tomas = Membership.objects.get(project=project, user=people["tomas"])
        change_role(membership=tomas, role=Role.OPERATOR, by=people["ana"])
        change_role(membership=tomas, role=Role.MANAGER, by=people["ana"])
        change_project(project=project, changes={"max_parallel_tasks": 12})
        key = AccessKey.objects.get(name="Deploy key")
        save_access_key(key=key, parts={"private_key": PICTURE_KEY}, now=NOW)
    template_with("tomas", timeout_seconds=900, script=template.script + "./smoke_test.sh\n")
    template_with("tomas", environment={"TARGET": "production", "VERSION": "2.15.0"})
    with as_user("mei", Way.API_TOKEN, "nightly deploy", "198.51.100.23"):
        run_template(template=told["templates"]["Database backup"], by=people["mei"], now=NOW)
    with as_user("tomas", Way.ADMIN):
        runner = told["runners"]["dc-west-2"]
        rotate_token(runner=runner, overlap=timedelta(hours=5), by=people["tomas"], now=NOW)
        pause_runner(
            runner=told["runners"]["build-ams-4"], reason="Kernel update, ticket OPS-2113",
            until=NOW + timedelta(hours=5), by=people["tomas"], now=NOW,
        )  # fmt: skip
        drain_runner(
            runner=told["runners"]["dc-east-1"], reason="Rack move, ticket OPS-2120",
            stays_paused=True, by=people["tomas"], now=NOW,
        )  # fmt: skip
        quarantine_runner(
            runner=told["runners"]["edge-lis-1"], reason="It wrote too much.", now=NOW
        )
    with transaction.atomic():
        with acting(lambda: host):
            record(Verb.CREATED, told["runners"]["edge-lis-1"], name="edge-lis-1")
        with acting(lambda: Actor(Way.PAGE, "nobody", address="192.0.2.66")):
            record(Verb.SIGN_IN_FAILED, people["ana"])
    return {"member": tomas.pk}


def addresses(told: dict[str, Any]) -> dict[str, str]:
    project = told["project"].pk
    runner, offline = told["runners"]["dc-west-2"].pk, told["runners"]["gpu-lab-1"].pk
    found = {
        "home": "/",
        "find": f"/find/?project={project}&q=dep",
        "find-nothing": "/find/?q=nothing+is+called+so",
        "overview": f"/projects/{project}/",
        "overview-week": f"/projects/{project}/?period=7d",
        "overview-month": f"/projects/{project}/?period=30d",
        "overview-empty": f"/projects/{told['empty'].pk}/",
        "tasks": f"/projects/{project}/tasks/",
        "tasks-active": f"/projects/{project}/tasks/?state=active",
        "tasks-filtered": f"/projects/{project}/tasks/?state=failed&since=7d&runner={runner}",
        "queue": f"/projects/{project}/queue/",
        "queue-empty": f"/projects/{told['empty'].pk}/queue/",
        "stop-all": f"/projects/{project}/stop-all/",
        "templates": f"/projects/{project}/templates/",
        "template-new": f"/projects/{project}/templates/new/",
        "template-copy": f"/projects/{project}/templates/new/"
        f"?from={told['templates']['Deploy web tier'].pk}",
        "template-run": f"/templates/{told['templates']['Database backup'].pk}/run/",
        "template-disable": f"/templates/{told['templates']['Database backup'].pk}/disable/",
        "template-disabled": f"/templates/{told['templates']['Patch hypervisors'].pk}/",
        "template": f"/templates/{told['templates']['Deploy web tier'].pk}/",
        "runners": f"/projects/{project}/runners/",
        "runners-empty": f"/projects/{told['empty'].pk}/runners/",
        "runners-all": "/runners/",
        "runners-all-filtered": "/runners/?status=ready&tag=linux",
        "runners-all-nothing": "/runners/?q=nothing-is-called-so",
        "runner": f"/runners/{runner}/",
        "runner-draining": f"/runners/{told['runners']['dc-east-1'].pk}/",
        "runner-offline": f"/runners/{offline}/",
        "runner-unhealthy": f"/runners/{told['runners']['edge-lis-1'].pk}/",
        "runner-full": f"/runners/{told['runners']['build-ams-5'].pk}/",
        "template-hidden": f"/templates/{told['templates']['Reset a password'].pk}/",
        "runner-paused": f"/runners/{told['runners']['build-ams-4'].pk}/",
        "runner-pause": f"/runners/{runner}/pause/",
        "runner-drain": f"/runners/{runner}/drain/",
        "runner-change": f"/runners/{runner}/change/",
        "runner-remove": f"/runners/{runner}/remove/",
        "runner-new": f"/projects/{project}/runners/new/",
        "runner-rotate": f"/runners/{runner}/rotate/",
        "registration-tokens": f"/projects/{project}/registration-tokens/",
        "registration-tokens-empty": f"/projects/{told['empty'].pk}/registration-tokens/",
        "registration-new": f"/projects/{project}/registration-tokens/new/",
        "registration-revoke": f"/registration-tokens/{told['registration']}/revoke/",
        "tokens": "/tokens/",
        "password": "/password/",
        "not-found": "/projects/999/",
        "access-keys": f"/projects/{project}/access-keys/",
        "access-keys-empty": f"/projects/{told['empty'].pk}/access-keys/",
        "access-key-new": f"/projects/{project}/access-keys/new/",
        "access-key": f"/access-keys/{told['key']}/",
        "access-key-remove": f"/access-keys/{told['key']}/remove/",
        "variable-groups": f"/projects/{project}/variable-groups/",
        "variable-group-new": f"/projects/{project}/variable-groups/new/",
        "variable-group": f"/variable-groups/{told['group']}/",
        "variable-group-remove": f"/variable-groups/{told['unused']}/remove/",
    }
    told |= history(told)
    found |= one_word(told)
    found |= {
        "settings": f"/projects/{project}/settings/",
        "members": f"/projects/{project}/members/",
        "member": f"/members/{told['member']}/",
        "member-remove": f"/members/{told['member']}/remove/",
        "audit": f"/projects/{project}/audit/",
        "audit-filtered": f"/projects/{project}/audit/?kind=template&since=2020-01-01",
        "audit-nothing": f"/projects/{project}/audit/?who=nobody-here",
        "template-changed": f"/templates/{told['templates']['Deploy web tier'].pk}/",
        "template-history": f"/templates/{told['templates']['Deploy web tier'].pk}/history/",
    }
    tasks = {name: f"/tasks/{task.pk}/" for name, task in told["pages"].items()}
    found |= {
        "task-stop": f"{tasks['task']}stop/",
        "task-stop-queued": f"{tasks['task-queued']}stop/",
        "task-rerun": f"{tasks['task-failed']}rerun/",
        "task-force-stop": f"{tasks['task-stopping']}force-stop/",
        "task-give-up": f"{tasks['task-unreachable']}force-stop/",
        "runner-end-older": f"/runners/{runner}/end-older/",
    }
    return found | tasks


@contextmanager
def served() -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "forge.asgi:application", "--port", str(port),
               "--log-level", "error", "--timeout-graceful-shutdown", "1"]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"FORGE_URL": url})
    try:
        _wait_for(f"{url}/healthz")
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


class Photographer:
    # Milliseconds until a page has drawn what comes after it, by the page's name.
    pauses = {"": 900, "task-long": 2500, "admin": 50}

    def __init__(self, browser: Any, url: str) -> None:
        self._browser = browser
        self._url = url
        self.problems: list[str] = []

    def take(self, pages: dict[str, str], project: int) -> None:
        for width, size in SIZES.items():
            for theme in THEMES:
                context = self._browser.new_context(
                    viewport={"width": size[0], "height": size[1]},
                    color_scheme=theme,
                    timezone_id="Europe/Lisbon",
                )
                context.set_default_timeout(PATIENCE_MILLISECONDS)
                self._take_all(context, pages, f"{width}-{theme}", project)
                context.close()

    def _take_all(self, context: Any, pages: dict[str, str], kind: str, project: int) -> None:
        # The policy that the pages are written for, enforced whatever the server sends.
        context.route("**/*", self._with_policy)
        self._take_pages(self._new_page(context, kind), pages, kind, project)
        context.clear_cookies()
        self._take_admin(self._new_page(context, kind), kind)

    def _new_page(self, context: Any, kind: str) -> Any:
        page = context.new_page()
        page.on("console", lambda message: self._note(kind, page, message))
        page.on("pageerror", lambda error: self.problems.append(f"{kind} {page.url}: {error}"))
        return page

    def _take_pages(self, page: Any, pages: dict[str, str], kind: str, project: int) -> None:
        page.goto(f"{self._url}/sign-in/")
        self._shoot(page, f"sign-in-{kind}")
        self._sign_in(page, "ana")
        self._visit(page, pages, kind)
        if not ONLY or "steps" in ONLY:
            self._take_log(page, kind, pages["task"])
            self._take_steps(page, kind, project)

    def _take_admin(self, page: Any, kind: str) -> None:
        page.goto(f"{self._url}/admin/")  # which leads to the sign-in
        self._sign_in(page, admin_pages.STAFF)
        self._visit(page, admin_pages.addresses(), kind)
        if not ONLY or "admin-steps" in ONLY:
            for name in admin_pages.steps(page, self._url):
                self._shoot(page, f"{name}-{kind}")

    def _sign_in(self, page: Any, name: str) -> None:
        page.fill("[name=username]", name)
        page.fill("[name=password]", PASSWORD)
        page.click("button[type=submit]")

    def _visit(self, page: Any, pages: dict[str, str], kind: str) -> None:
        for name, path in pages.items():
            if ONLY and name not in ONLY:
                continue
            page.goto(self._url + path, wait_until="load")
            usual = self.pauses["admin" if path.startswith("/admin/") else ""]
            page.wait_for_timeout(self.pauses.get(name, usual))
            self._shoot(page, f"{name}-{kind}")

    def _take_log(self, page: Any, kind: str, path: str) -> None:
        """What the log's switches show: times, folds, hits and errors; and the log alone."""
        page.goto(self._url + path)
        page.wait_for_selector("[data-errors]:not([hidden])")
        for switch in ("times", "fold"):
            page.click(f"[data-{switch}]")
        page.wait_for_selector(".fold")
        page.fill("[data-search]", "item=nginx")
        page.press("[data-search]", "Enter")
        page.wait_for_selector("mark.now")
        page.wait_for_timeout(300)
        if kind.startswith("390"):
            page.locator("#log").evaluate("(log) => log.scrollIntoView()")
        self._shoot(page, f"task-log-{kind}", whole=False)
        page.click("[data-full]")
        self._shoot(page, f"task-log-full-{kind}", whole=False)
        page.click("[data-full]")
        for switch in ("times", "fold"):
            page.click(f"[data-{switch}]")

    def _take_steps(self, page: Any, kind: str, project: int) -> None:
        """What only a click shows: a rejected form, a token, green contact, an open menu."""
        page.goto(f"{self._url}/projects/{project}/runners/new/")
        page.fill("[name=name]", "DC West")
        page.fill("[name=tags]", "GPU, linux")
        page.click(".form button[type=submit]")
        self._shoot(page, f"runner-new-wrong-{kind}")
        name = f"edge-lis-{kind}"
        page.fill("[name=name]", name)
        page.fill("[name=tags]", "edge linux")
        page.click(".form button[type=submit]")
        page.wait_for_selector("#live:not([hidden])", state="attached")
        self._shoot(page, f"runner-token-{kind}")
        page.click("label[for=way-cloud-init]")
        self._shoot(page, f"runner-cloud-init-{kind}")
        connect(name)
        page.wait_for_selector(".contact.good")
        page.wait_for_selector("#step-token.done")
        self._shoot(page, f"runner-connected-{kind}")
        page.goto(f"{self._url}/projects/{project}/registration-tokens/new/")
        page.fill("[name=name]", "Rack 7")
        page.fill("[name=tags]", "edge linux")
        page.click(".form button[type=submit]")
        page.wait_for_selector("#token")
        self._shoot(page, f"registration-token-{kind}")
        register(f"rack-7-{kind}")
        page.wait_for_selector("#contact .prog .n")
        connect(f"rack-7-{kind}")
        page.wait_for_selector("#contact .prog .y")
        self._shoot(page, f"registration-hosts-{kind}")
        runner = page.goto(f"{self._url}/projects/{project}/runners/") and page.get_attribute(
            "a.name >> text=dc-east-1", "href"
        )
        page.goto(f"{self._url}{runner}rotate/")
        page.click(".form button[type=submit]")
        page.wait_for_selector("#token")
        self._shoot(page, f"runner-rotated-{kind}")
        page.goto(f"{self._url}/tokens/")
        page.fill("[name=name]", "staging")
        page.click(".form button[type=submit]")
        page.wait_for_selector("#token")
        self._shoot(page, f"token-{kind}")
        page.goto(f"{self._url}/projects/{project}/runners/")
        page.click(".topbar .menu summary" if kind.startswith("390") else ".menu.up summary")
        self._shoot(page, f"menu-{kind}", whole=False)
        self._palette(page, kind, project)
        self._two_tabs(page, kind, project)

    def _two_tabs(self, page: Any, kind: str, project: int) -> None:
        """A template's form that is saved after somebody else's."""
        page.goto(f"{self._url}/projects/{project}/templates/")
        page.click("a.name")
        other = page.context.new_page()
        other.goto(page.url)
        other.fill("[name=script]", other.input_value("[name=script]") + f"echo {kind}\n")
        other.fill("[name=timeout_seconds]", str(1000 + len(kind)))
        other.click(".form .end .primary")
        # Closed before, its last request might be under way in the route that gives it a policy.
        other.wait_for_url("**/templates/")
        other.close()
        page.fill("[name=description]", f"Typed meanwhile for {kind}")
        page.click(".form .end .primary")
        page.wait_for_selector(".meanwhile")
        self._shoot(page, f"template-changed-meanwhile-{kind}")
        page.goto(f"{self._url}/projects/{project}/variable-groups/new/")
        page.fill("[name=name]", "Warehouse scanners")
        page.fill("[name=variables]", "REGION=eu-west\nRETRIES=3")
        page.fill("[name=new_name_0]", "SCANNER_TOKEN")
        page.fill("[name=new_value_0]", "typed, and kept nowhere")
        page.reload()
        page.wait_for_selector(".restored")
        self._shoot(page, f"form-restored-{kind}")
        page.click(".restored button")

    def _palette(self, page: Any, kind: str, project: int) -> None:
        page.goto(f"{self._url}/projects/{project}/")
        page.keyboard.press("Control+k")
        page.wait_for_selector("#palette [role=option]")
        self._shoot(page, f"palette-{kind}", whole=False)
        page.keyboard.type("dep")
        page.wait_for_selector("#palette [aria-selected=true]")
        self._shoot(page, f"palette-typed-{kind}", whole=False)
        page.keyboard.type(" nothing")
        page.wait_for_selector("#palette-none:not([hidden])")
        self._shoot(page, f"palette-nothing-{kind}", whole=False)

    def _with_policy(self, route: Any) -> None:
        if route.request.resource_type != "document":
            route.continue_()
            return
        answer = route.fetch(max_redirects=0)
        policy = OTHERS if "/admin/" in route.request.url else STRICT
        headers = answer.headers | {"content-security-policy": policy}
        route.fulfill(response=answer, headers=headers)

    def _note(self, kind: str, page: Any, message: Any) -> None:
        if message.type == "error" and not EXPECTED.search(message.text):
            self.problems.append(f"{kind} {page.url}: {message.text}")

    def _shoot(self, page: Any, name: str, whole: bool = True) -> None:
        page.screenshot(path=OUT / f"{name}.png", full_page=whole)
        excess = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        if excess > 0:
            self.problems.append(f"{name}: {excess} px wider than the screen")


class Auditor(Photographer):
    """Goes the same way once, and has axe-core look where a picture would be taken.

    The short form looks at the wide page in light and at the narrow one in dark.
    """

    looks = 0
    pauses = {"": 200, "admin": 20}

    def take(self, pages: dict[str, str], project: int) -> None:
        context = self._browser.new_context(timezone_id="Europe/Lisbon")
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        self._take_all(context, pages, "audit", project)
        context.close()

    def _shoot(self, page: Any, name: str, whole: bool = True) -> None:
        for width, theme in LOOKS:
            size = SIZES[width]
            page.set_viewport_size({"width": size[0], "height": size[1]})
            page.emulate_media(color_scheme=theme)
            self.looks += 1
            for finding in findings(page):
                self.problems.append(f"{name} {width} {theme}: {finding}")
        wide = SIZES["1440"]
        page.set_viewport_size({"width": wide[0], "height": wide[1]})


def register(name: str) -> None:
    """A host comes with the newest registration token."""
    token = RegistrationToken.objects.latest("pk")
    digest = hashlib.sha256(name.encode()).hexdigest()
    request = RegisterRequest(1, VERSION, digest, "rack-7-1", "Debian 12 x86-64", name)
    register_runner(token=token, request=request, now=timezone.now())


def connect(name: str) -> None:
    now = timezone.now()
    Runner.objects.filter(name=name).update(
        connected_at=now,
        last_heartbeat_at=now,
        session="one",
        version=VERSION,
        system="Debian 12 aarch64",
        host_name="edge-lis",
        address="203.0.113.91",
    )


def main() -> None:
    from playwright.sync_api import sync_playwright

    call_command("migrate", verbosity=0)
    told = tell()
    User.objects.create_superuser(
        admin_pages.STAFF, password=PASSWORD, first_name="Noor", last_name="Haddad"
    )
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # playwright has an event loop of its own
    with served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        photographer = (Auditor if IS_AUDIT else Photographer)(browser, url)
        photographer.take(addresses(told), told["project"].pk)
        browser.close()
    done = f"Pictures are in {OUT}"
    if isinstance(photographer, Auditor):
        done = f"axe-core looked {photographer.looks} times"
    print("\n".join(photographer.problems) or f"{done}, nothing to complain about.")
    raise SystemExit(bool(photographer.problems))


if __name__ == "__main__":
    main()
