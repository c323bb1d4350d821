from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from django import forms

from forge.pages.environment_field import HELP, EnvironmentField
from projects.models import SecretVariable, VariableGroup, is_one_line
from projects.secret_fields import SecretField
from projects.variables import MAXIMUM_NAME_CHARACTERS, is_shared_variable_name

NEW_ROWS = 3


@dataclass(frozen=True)
class SecretRow:
    """An existing secret with the fields that replace or remove it."""

    secret: SecretVariable
    value: forms.BoundField
    remove: forms.BoundField


class VariableGroupForm(forms.Form):
    """A new group, or a change of `row`. Fields for each secret, and some for new ones."""

    name = forms.CharField(max_length=80, validators=[is_one_line])
    description = forms.CharField(max_length=200, required=False, validators=[is_one_line])
    variables = EnvironmentField(label="Plain variables", help_text=HELP)

    def __init__(self, *args: Any, row: VariableGroup | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._secrets = list(row.secrets.all()) if row else []
        if row is not None:
            self.initial = {
                "name": row.name,
                "description": row.description,
                "variables": row.variables,
            }
            cast("EnvironmentField", self.fields["variables"]).stored = row.variables
        for secret in self._secrets:
            self.fields[f"value_{secret.pk}"] = SecretField(label=f"New value of {secret.name}")
            self.fields[f"remove_{secret.pk}"] = forms.BooleanField(
                label=f"Remove {secret.name}", required=False
            )
        for at in range(NEW_ROWS):
            self.fields[f"new_name_{at}"] = forms.CharField(
                label="Name",
                max_length=MAXIMUM_NAME_CHARACTERS,
                required=False,
                validators=[is_shared_variable_name],
                widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
            )
            self.fields[f"new_value_{at}"] = SecretField(label="Value")

    @property
    def secret_rows(self) -> list[SecretRow]:
        return [
            SecretRow(secret, self[f"value_{secret.pk}"], self[f"remove_{secret.pk}"])
            for secret in self._secrets
        ]

    @property
    def new_rows(self) -> list[tuple[forms.BoundField, forms.BoundField]]:
        return [(self[f"new_name_{at}"], self[f"new_value_{at}"]) for at in range(NEW_ROWS)]

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        for secret in self._secrets:
            if given.get(f"value_{secret.pk}") and given.get(f"remove_{secret.pk}"):
                sentence = f"{secret.name} has a new value and is to be removed. Do one of the two."
                self.add_error(f"value_{secret.pk}", sentence)
        names, new = {secret.name for secret in self._secrets}, set[str]()
        for at in range(NEW_ROWS):
            name, value = given.get(f"new_name_{at}", ""), given.get(f"new_value_{at}", "")
            if name and not value:
                self.add_error(f"new_value_{at}", f"Enter a value for {name}.")
            elif value and not name and f"new_name_{at}" not in self.errors:
                self.add_error(f"new_name_{at}", "Enter a name for this value.")
            elif name and name in names and not self._is_stored(name, value):
                self.add_error(f"new_name_{at}", f"{name} is there already. Replace it above.")
            elif name and name in new:
                self.add_error(f"new_name_{at}", f"{name} is given twice. Keep one of the two.")
            new.add(name)
        return given

    def _is_stored(self, name: str, value: str) -> bool:
        """As of a form that was sent twice, of which the first has come through."""
        return any(
            row.name == name and not row.problem and row.open() == value for row in self._secrets
        )

    def fill(self, group: VariableGroup) -> dict[str, str | None]:
        """Put what was typed into `group`; returns secrets to set, and with None to remove."""
        given = self.cleaned_data
        group.name, group.description = given["name"], given["description"]
        group.variables = given["variables"]
        secrets: dict[str, str | None] = {}
        for secret in self._secrets:
            if given[f"remove_{secret.pk}"]:
                secrets[secret.name] = None
            elif value := given[f"value_{secret.pk}"]:
                secrets[secret.name] = value
        for at in range(NEW_ROWS):
            if name := given[f"new_name_{at}"]:
                secrets[name] = given[f"new_value_{at}"]
        return secrets
