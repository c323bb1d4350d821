from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError

from forge.pages.environment_field import HELP, EnvironmentField
from forge.pages.number_field import NumberField
from projects.models import AccessKey, VariableGroup
from projects.variables import is_shared_variable_name
from projects.words import whole_number
from runners.tag_field import TagField
from tasks.models import MAXIMUM_TIMEOUT_SECONDS, TaskTemplate
from tasks.policies import MAXIMUM_ATTEMPTS, length_in_words
from tasks.policy_fields import StopStepsField, WaitField
from tasks.sources import MAXIMUM_VARIABLE_CHARACTERS

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[TaskTemplate]
    _GroupsField = forms.ModelMultipleChoiceField[VariableGroup]
else:
    _ModelForm = forms.ModelForm
    _GroupsField = forms.ModelMultipleChoiceField


class ScriptField(forms.CharField):
    """The text as typed, with the line ends that a shell understands: browsers send CRLF."""

    widget = forms.Textarea

    def clean(self, value: Any) -> str:
        return str(super().clean(value)).replace("\r\n", "\n")


GONE = "A group that was ticked is not there any more. Look at those that are, and save again."


class GroupsField(_GroupsField):
    """Variable groups by number; a number beyond any column's is no choice, and no failure."""

    default_error_messages = {"invalid_choice": GONE}

    def clean(self, value: Any) -> Any:
        if not all(whole_number(str(one)) for one in value or ()):
            raise ValidationError(GONE)
        return super().clean(value)


class TemplateForm(_ModelForm):
    script = ScriptField(strip=False)
    tags = TagField(
        help_text="A runner must have all of them. Separate them by commas or spaces.",
    )
    environment = EnvironmentField(help_text=HELP)

    variable_groups = GroupsField(
        queryset=VariableGroup.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )

    timeout_seconds = NumberField(
        label="Timeout in seconds",
        min_value=1,
        max_value=MAXIMUM_TIMEOUT_SECONDS,
        initial=TaskTemplate._meta.get_field("timeout_seconds").default,
        help_text="Then Forge stops the task. 3600 is one hour.",
    )
    max_attempts = NumberField(
        min_value=2,
        max_value=MAXIMUM_ATTEMPTS,
        initial=TaskTemplate._meta.get_field("max_attempts").default,
        help_text="The first one counts.",
    )
    lost_runner_wait_seconds = WaitField(label="Wait at most")
    stop_steps = StopStepsField(
        label="Signals and seconds",
        help_text=(
            "In order, to every process, each with the seconds until the next. KILL comes last by "
            "itself. Empty: KILL at once. Terraform and Ansible clean up on INT, and need time "
            "for it."
        ),
    )

    class Meta:
        model = TaskTemplate
        fields = (
            "name", "description", "app", "script", "timeout_seconds", "allow_parallel",
            "lost_runner_policy", "lost_runner_wait_seconds", "safe_to_rerun", "max_attempts",
            "stop_steps",
        )  # fmt: skip
        labels = {
            "allow_parallel": "Allow several runs",
            "lost_runner_policy": "What then",
            "safe_to_rerun": "Safe to run twice",
        }
        help_texts = {
            "lost_runner_policy": (
                "Nobody can say what a runner does that is out of reach. Forge never runs a task "
                "again unless you choose it here."
            ),
            "safe_to_rerun": (
                "A run after half a run does no harm. Only then may Forge run it again elsewhere; "
                "the lost runner ends its own processes before that."
            ),
            "allow_parallel": "Otherwise a run waits until the one before has ended or is lost.",
        }

    field_order = (
        "name", "description", "app", "script", "timeout_seconds", "tags", "environment",
        "allow_parallel",
    )  # fmt: skip

    def __init__(self, *args: Any, source: TaskTemplate | None = None, **options: Any) -> None:
        """`source`: the template that a new one is a copy of."""
        super().__init__(*args, **options)
        self._like = source or self.instance
        self._add_sources()
        # Left out, they keep the model's defaults.
        for name in ("lost_runner_policy", "max_attempts"):
            self.fields[name].required = False
        default = length_in_words(round(settings.FORGE_UNREACHABLE_SECONDS))
        wait = self.fields["lost_runner_wait_seconds"]
        wait.help_text = f"As 90 s, 60 min, 36 h, 3 d. Empty: {default}, as this Forge is set."
        if self._like.pk:
            names = self._like.tags.values_list("name", flat=True)
            self.initial.setdefault("tags", ", ".join(names))
            self.initial.setdefault("environment", self._like.environment)
            cast("EnvironmentField", self.fields["environment"]).stored = self._like.environment

    def _add_sources(self) -> None:
        """The project's groups to tick, and a field for the variable name of each of its keys."""
        template = self._like
        groups = VariableGroup.objects.filter(project=template.project).prefetch_related("secrets")
        self.fields["variable_groups"].queryset = groups  # type: ignore[attr-defined]
        self._keys = list(AccessKey.objects.filter(project=template.project).defer("secret"))
        used: dict[int, str] = {}
        if template.pk:
            self.initial.setdefault("variable_groups", list(template.variable_groups.all()))
            used = dict(template.access_key_uses.values_list("access_key_id", "variable"))
        for key in self._keys:
            self.fields[f"key_{key.pk}"] = forms.CharField(
                label=key.name,
                required=False,
                max_length=MAXIMUM_VARIABLE_CHARACTERS,
                validators=[is_shared_variable_name],
                initial=used.get(key.pk, ""),
                widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
            )

    @property
    def key_rows(self) -> list[tuple[AccessKey, forms.BoundField]]:
        return [(key, self[f"key_{key.pk}"]) for key in self._keys]

    @property
    def group_ids(self) -> list[int]:
        return [group.pk for group in self.cleaned_data["variable_groups"]]

    @property
    def key_names(self) -> dict[int, str]:
        """Variable names by id of the access keys that are used."""
        names = {key.pk: self.cleaned_data[f"key_{key.pk}"] for key in self._keys}
        return {pk: name for pk, name in names.items() if name}

    def clean_max_attempts(self) -> int | None:
        """Emptied, which is not left out."""
        value: int | None = self.cleaned_data["max_attempts"]
        if value is None and self.add_prefix("max_attempts") in self.data:
            raise ValidationError(self.fields["max_attempts"].error_messages["required"])
        return value

    def _post_clean(self) -> None:
        # Before the model's own checks run, so that they see what was typed.
        self.instance.environment = self.cleaned_data.get("environment", {})
        super()._post_clean()  # type: ignore[misc]  # a hook that the stubs leave out
