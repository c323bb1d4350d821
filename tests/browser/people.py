"""People with accounts and roles, made as an administrator makes them: in the Django admin."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

import requests

from tests.deployment.deployment import Deployment

ROLES = ("manager", "operator", "viewer")


@dataclass(frozen=True)
class Person:
    name: str
    password: str


class Administration:
    """The administrator's browser, without a picture."""

    def __init__(self, forge: Deployment) -> None:
        self._url = forge.place["url"]
        self._numbers: dict[str, int] = {}
        self._session = requests.Session()
        self._session.trust_env = False
        given = {"username": forge.place["username"], "password": forge.place["password"]}
        self._send("/sign-in/", **given)

    def _send(self, path: str, **fields: object) -> str:
        """Fill in a form and send it; the answer is the address that it leads to."""
        page = self._session.get(self._url + path, timeout=60)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token, f"{path} has no form: {page.status_code}"
        body = {**fields, "csrfmiddlewaretoken": token[1]}
        answer = self._session.post(self._url + path, data=body, allow_redirects=False, timeout=60)
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

    def person(self, name: str) -> Person:
        """A new account."""
        person = Person(name, secrets.token_urlsafe(12))
        passwords = {"password1": person.password, "password2": person.password}
        place = self._send(
            "/admin/auth/user/add/", username=name, usable_password="true", **passwords
        )
        self._numbers[name] = int(re.findall(r"/(\d+)/", place)[0])
        return person

    def join(self, person: Person, project: int, role: str) -> None:
        """Make the person a member of the project."""
        self._send(
            "/admin/projects/membership/add/",
            user=self._numbers[person.name],
            project=project,
            role=role,
        )
