from __future__ import annotations

from django import forms

from projects.permissions import Role

WHAT_ROLES_DO = {
    Role.OWNER: "everything, members too",
    Role.MANAGER: "templates, runners, access keys, the audit log",
    Role.OPERATOR: "runs and stops tasks",
    Role.VIEWER: "looks",
}
ROLES = [(role.value, f"{role.label}: {does}") for role, does in WHAT_ROLES_DO.items()]


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=ROLES, initial=Role.OPERATOR)


class MemberForm(RoleForm):
    user_name = forms.CharField(
        max_length=150,
        help_text="As they sign in. Administrators make accounts.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none"}),
    )
    field_order = ("user_name", "role")
