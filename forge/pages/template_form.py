from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError

from forge.pages.tag_field import TagField
from projects.variables import is_environment
from tasks.models import TaskTemplate

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[TaskTemplate]
else:
    _ModelForm = forms.ModelForm


class ScriptField(forms.CharField):
    """The text as typed, with the line ends that a shell understands: browsers send CRLF."""

    widget = forms.Textarea

    def clean(self, value: Any) -> str:
        return str(super().clean(value)).replace("\r\n", "\n")


class EnvironmentField(forms.CharField):
    """`NAME=value`, one a line; gives a dict."""

    widget = forms.Textarea

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, strip=False, **options)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return "\n".join(f"{name}={content}" for name, content in value.items())
        return value

    def clean(self, value: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        for number, line in enumerate(str(super().clean(value)).splitlines(), start=1):
            if not line.strip():
                continue
            name, sign, content = line.partition("=")
            name = name.strip()
            if not sign:
                raise ValidationError(f"Line {number} has no equals sign. Write NAME=value.")
            if name in found:
                raise ValidationError(f"Line {number} sets {name} again. Keep one of the two.")
            found[name] = content
        is_environment(found)
        return found


class TemplateForm(_ModelForm):
    script = ScriptField(strip=False)
    tags = TagField(
        help_text="A runner must have all of them. Separate them by commas or spaces.",
    )
    environment = EnvironmentField(
        help_text="NAME=value, one a line. Everybody in the project can read the values."
    )

    class Meta:
        model = TaskTemplate
        fields = ("name", "description", "app", "script", "timeout_seconds", "allow_parallel")
        labels = {"timeout_seconds": "Timeout in seconds", "allow_parallel": "Allow several runs"}
        help_texts = {
            "timeout_seconds": "Then Forge stops the task. 3600 is one hour.",
            "allow_parallel": "Otherwise a run waits until the one before it has ended.",
        }

    field_order = (
        "name", "description", "app", "script", "timeout_seconds", "tags", "environment",
        "allow_parallel",
    )  # fmt: skip

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk:
            names = self.instance.tags.values_list("name", flat=True)
            self.initial.setdefault("tags", ", ".join(names))
            self.initial.setdefault("environment", self.instance.environment)

    def _post_clean(self) -> None:
        # Before the model's own checks run, so that they see what was typed.
        self.instance.environment = self.cleaned_data.get("environment", {})
        super()._post_clean()  # type: ignore[misc]  # a hook that the stubs leave out
