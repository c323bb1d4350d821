"""What can go wrong with projects. Each error's text is the sentence to show."""

from __future__ import annotations


class ForgeError(Exception):
    """Base of all errors that a user may see."""


class TooManyUserTokensError(ForgeError):
    def __init__(self, limit: int) -> None:
        super().__init__(
            f"You have {limit} API tokens, and more are not possible. Revoke one that is not used."
        )
        self.limit = limit


class ProjectNameTakenError(ForgeError):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is already a project called {name}. Choose another name.")
        self.name = name


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


class AccessKeyNameTakenError(ForgeError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"This project already has an access key called {name}. Choose another name."
        )
        self.name = name


class VariableGroupNameTakenError(ForgeError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"This project already has a variable group called {name}. Choose another name."
        )
        self.name = name


class AccessKeyGoneError(ForgeError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The access key {name} was removed meanwhile.")
        self.name = name


class VariableGroupGoneError(ForgeError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The variable group {name} was removed meanwhile.")
        self.name = name
