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
