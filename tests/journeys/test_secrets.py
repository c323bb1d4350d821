"""Secrets from the form to the process: there for it, nowhere else, gone with it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.deployment.deployment import Deployment

TOKEN = "canary/7fQ=+ 'p\"é&x9"
PASSWORD = "canary-hunter2-p4ssw0rd"


def private_key(marker: str) -> str:
    """Looks like a key, with a last line too short for itself; each line can be searched for."""
    lines = [f"canary{marker}{number:02d}" + "Ab9/" * 12 for number in range(6)]
    body = "\n".join([*lines, "kQ=="])
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"


def given(forge: Deployment, project: int, **fields: Any) -> dict[str, Any]:
    """Template fields: one secret variable and one SSH key, both of this project."""
    number = time.monotonic_ns()
    group = forge.api.variable_group(
        project, f"group {number}", variables={"REGION": "eu"}, secrets={"API_TOKEN": TOKEN}
    )
    key = forge.api.access_key(
        project,
        f"key {number}",
        "ssh",
        login="deploy",
        private_key=private_key("K"),
        passphrase=PASSWORD,
    )
    uses = [{"access_key": key, "variable": "DEPLOY"}]
    return {"variable_groups": [group], "access_keys": uses, **fields}


def test_a_secret_reaches_the_process_and_not_the_log(forge: Deployment, tmp_path: Path) -> None:
    project = forge.place["project_id"]
    found = tmp_path / "found"
    script = (
        f'printf %s "$API_TOKEN" > {found}; cat "$DEPLOY_FILE" > {found}.key; '
        f'stat -c %a "$DEPLOY_FILE" > {found}.mode; '
        'echo "token=$API_TOKEN, login=$DEPLOY_LOGIN, pass=$DEPLOY_PASSPHRASE, in $REGION"'
    )
    task = forge.api.wait_until(forge.api.run_script(project, script, **given(forge, project)))
    assert task["state"] == "succeeded", task["reason"]
    assert found.read_text() == TOKEN
    assert found.with_suffix(".key").read_text() == private_key("K")
    assert found.with_suffix(".mode").read_text() == "600\n"
    assert forge.api.log(task["id"]) == b"token=[masked], login=deploy, pass=[masked], in eu\n"
