"""What can go wrong with projects. Each error's text is the sentence to show."""

from __future__ import annotations

from projects.words import listed


class ForgeError(Exception):
    """Base of all errors that a user may see."""


class ChangedMeanwhileError(ForgeError):
    """What was opened for a change is not what is stored any more."""

    def __init__(self, name: str, noun: str) -> None:
        super().__init__(
            f"The {noun} {name} was changed after you had opened it, so nothing was saved. Read it "
            "again, and repeat your change if it is still right."
        )
        self.name = name


class AuditLogError(ForgeError):
    """Somebody tried to change what was recorded."""

    def __init__(self) -> None:
        super().__init__("The audit log is append-only: nothing in it can be changed or deleted.")


class AuditOutsideTransactionError(Exception):
    """A mistake in Forge: a change and its record would not stand or fall together."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was to be recorded outside a transaction.")
        self.what = what


class PasswordMeanwhileError(ForgeError):
    """The password that was given and judged is not the account's any more."""

    def __init__(self) -> None:
        super().__init__("The password was changed meanwhile, or the account is inactive.")


class UnknownUserError(ForgeError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no active account called {name}. Check the user name, or have an "
            "administrator make the account."
        )
        self.name = name


class AlreadyMemberError(ForgeError):
    def __init__(self, name: str, project: str) -> None:
        super().__init__(f"{name} is a member of {project} already. Change the role instead.")
        self.name = name


class LastOwnerError(ForgeError):
    def __init__(self, name: str, project: str) -> None:
        super().__init__(
            f"{name} is the last active owner of {project}. Make somebody else an owner first."
        )
        self.name = name


class RoleAboveOwnError(ForgeError):
    """Somebody would give, change or take away a role above their own."""

    def __init__(self, role: str, own: str) -> None:
        yours = f"yours is {own}" if own else "you are no member of this project"
        super().__init__(f"This is about the role {role}, and {yours}. Ask one of its owners.")
        self.role = role


class AccountInUseError(ForgeError):
    """Something names an account, or it was given a project, since its removal was begun."""

    def __init__(self, names: list[str]) -> None:
        whose = listed(names)
        super().__init__(f"Something was done by or with {whose} at this very moment. Try again.")


class TooManyUserTokensError(ForgeError):
    def __init__(self, limit: int) -> None:
        super().__init__(
            f"You have {limit} API tokens, and more are not possible. Revoke one that is not used."
        )
        self.limit = limit


class NameTakenError(ForgeError):
    """Another one of its kind has this name; capital letters make no difference.

    name: as the other one has it.
    """

    def __init__(self, there_is: str, name: str) -> None:
        super().__init__(f"{there_is} called {name}. Choose another name.")
        self.name = name


class ProjectNameTakenError(NameTakenError):
    def __init__(self, name: str) -> None:
        super().__init__("There is already a project", name)


class SecretsKeyError(ForgeError):
    """There is no usable key to close or open stored secrets with."""


class SecretUnreadableError(ForgeError):
    """No key that Forge has opens this secret, or it was written for another row."""

    def __init__(self, what: str, *, is_elsewheres: bool = False) -> None:
        why = (
            "its encrypted text belongs to another row, so somebody changed the database by hand"
            if is_elsewheres
            else "neither FORGE_SECRETS_KEY nor its fallbacks are the key that it was stored with"
        )
        super().__init__(
            f"The secret of {what} cannot be read: {why}. Give Forge that key back, or enter the "
            "secret again."
        )
        self.what = what


class AccessKeyNameTakenError(NameTakenError):
    def __init__(self, name: str) -> None:
        super().__init__("This project already has an access key", name)


class VariableGroupNameTakenError(NameTakenError):
    def __init__(self, name: str) -> None:
        super().__init__("This project already has a variable group", name)


class AccessKeyGoneError(ForgeError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The access key {name} was removed meanwhile.")
        self.name = name


class VariableGroupGoneError(ForgeError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The variable group {name} was removed meanwhile.")
        self.name = name
