from __future__ import annotations

from typing import Any

from django import forms

from projects.models import AccessKey, is_one_line
from projects.secret_fields import PasswordField, SecretField


class AccessKeyForm(forms.Form):
    """A new key, or a change of `row`, whose kind stays.

    All fields are there; the page shows those of the chosen kind, and only these are read.
    """

    name = forms.CharField(max_length=80, validators=[is_one_line])
    kind = forms.ChoiceField(
        choices=AccessKey.Kind.choices, initial=AccessKey.Kind.SSH, widget=forms.RadioSelect
    )
    login = forms.CharField(
        max_length=200, required=False, validators=[is_one_line], help_text="Such as deploy."
    )
    private_key = SecretField(
        rows=9, help_text="The whole file, from -----BEGIN to -----END, not the .pub file."
    )
    passphrase = PasswordField(help_text="Only if the key has one.")
    password = PasswordField()
    value = SecretField(label="Secret text", rows=4, help_text="A token, or a whole file.")

    def __init__(self, *args: Any, row: AccessKey | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.key = key = row
        if key is not None:
            del self.fields["kind"]
            self.initial = {"name": key.name, "login": key.login}
            wanted = {"name", *AccessKey.PARTS[key.kind], *(("login",) if key.needs_login else ())}
            for name in self.fields.keys() - wanted:
                del self.fields[name]

    @property
    def secret_fields(self) -> list[forms.BoundField]:
        """Of a key that exists: what replaces its secret."""
        parts = AccessKey.PARTS[self.key.kind] if self.key else ()
        return [self[name] for name in parts]

    def fill(self, key: AccessKey) -> dict[str, str]:
        """Put what was typed into `key`; returns the parts of its secret that were typed."""
        given = self.cleaned_data
        key.name = given["name"]
        key.kind = given.get("kind", key.kind)
        key.login = given.get("login", "") if key.needs_login else ""
        parts = {name: given.get(name, "") for name in AccessKey.PARTS[key.kind]}
        return {name: text for name, text in parts.items() if text}
