"""The cast and what it keeps secret."""

from tests.cast import access_key, cast, variable_group

__all__ = ["access_key", "cast", "variable_group"]
