"""Everybody changes their own password, and knows the old one."""

from __future__ import annotations

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.test import Client

from forge.pages.sign_in import per_account
from projects.audit.entry import AuditEntry
from tests.cast import Cast
from tests.meeting import just_before

OLD, NEW = "correct horse battery", "staple 7 thoroughly"


def signed_in(user: User, password: str = OLD) -> Client:
    client = Client()
    fields = {"username": user.username, "password": password}
    assert client.post("/sign-in/", fields).status_code == 302
    return client


def change(client: Client, old: str = OLD, new: str = NEW, again: str = "") -> tuple[int, str]:
    fields = {"old_password": old, "new_password1": new, "new_password2": again or new}
    answer = client.post("/password/", fields, follow=True)
    return answer.status_code, answer.text


def with_password(user: User) -> User:
    per_account.forget()
    user.set_password(OLD)
    user.save()
    return user


def test_a_changed_password_ends_all_other_sign_ins(cast: Cast) -> None:
    viewer = with_password(cast.viewer)
    here, elsewhere = signed_in(viewer), signed_in(viewer)
    assert 'href="/password/"' in here.get("/").text
    status, text = change(here)
    assert status == 200 and "Your password is changed." in text
    assert here.get("/").status_code == 200 and elsewhere.get("/").status_code == 302
    signed_in(viewer, NEW)
    entry = AuditEntry.objects.filter(verb="changed_password").get()
    assert (entry.actor, entry.object_id) == (viewer.username, viewer.pk)


def test_what_is_wrong_with_a_password_is_said_at_its_field(cast: Cast) -> None:
    client = signed_in(with_password(cast.viewer))
    assert "This is not your password." in change(client, old="guessed")[1]
    assert "required" in change(client, old="")[1]
    noted = AuditEntry.objects.get(verb="sign_in_failed")
    assert (noted.name, noted.detail[:20]) == (cast.viewer.username, "A wrong old password")
    assert "too short" in change(client, new="seven77")[1]
    assert "match" in change(client, again="something else 7")[1]
    status, text = change(client, new="password123")
    assert status == 400 and "too common" in text and OLD not in text
    assert not AuditEntry.objects.filter(verb="changed_password").exists()


def test_who_has_a_session_guesses_no_faster_than_at_the_sign_in(cast: Cast) -> None:
    client = signed_in(with_password(cast.viewer))
    answers = [change(client, old=f"guess {n}") for n in range(30)]
    # On a busy machine they take so long that one more is let through now and then.
    refused = [text for status, text in answers if status == 429]
    assert answers[0][0] == 400 and len(refused) > 10
    assert all("Try again in" in text for text in refused)
    signed_in(cast.viewer)  # its owner comes in all the same


@pytest.mark.parametrize("change_of", ["password", "is_active"])
def test_who_is_shut_out_while_in_line_changes_nothing(cast: Cast, change_of: str) -> None:
    viewer = with_password(cast.viewer)
    client = signed_in(viewer)
    values = {"password": make_password("given by an administrator"), "is_active": False}

    def shut_out() -> None:
        User.objects.filter(pk=viewer.pk).update(**{change_of: values[change_of]})

    # The account is judged as the request has found it; what follows is the change.
    with just_before("SAVEPOINT", shut_out):
        status, text = change(client)
    assert status == 200 and "Password changed" not in text and 'name="username"' in text
    viewer.refresh_from_db()
    assert not viewer.check_password(NEW)
    assert not AuditEntry.objects.filter(verb="changed_password").exists()
