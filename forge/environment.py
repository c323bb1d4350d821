"""Settings read from the environment, with a sentence for what cannot be one."""

from __future__ import annotations

import math
import warnings
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured


class Environment(environ.FileAwareEnv):  # type: ignore[misc]  # the library is not typed
    """As the library's own; all methods raise ImproperlyConfigured, which names the variable."""

    def int(self, var: str, default: Any = environ.Env.NOTSET) -> int:
        try:
            return int(super().int(var, default=default))
        except ValueError as error:
            raise ImproperlyConfigured(f"{var} has to be a whole number.") from error

    def float(self, var: str, default: Any = environ.Env.NOTSET) -> float:
        """A number above zero: all of Forge's are periods and rates."""
        try:
            found = float(super().float(var, default=default))
        except ValueError as error:
            raise ImproperlyConfigured(f"{var} has to be a number, such as 2.5.") from error
        if not 0 < found < math.inf:
            raise ImproperlyConfigured(f"{var} has to be a number above 0.")
        return found

    def database(self, var: str, default: Any = environ.Env.NOTSET) -> dict[str, Any]:
        """Django's description of the database at this address."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say, with a hole in it, is said below
            found: dict[str, Any] = super().db(var, default=default)
        if "ENGINE" not in found:
            raise ImproperlyConfigured(
                f"{var} is no address of a database. Write postgres://user:password@host/name, or "
                "sqlite:////folder/forge.sqlite3 with the whole path."
            )
        return found
