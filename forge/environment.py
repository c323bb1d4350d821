"""Settings read from the environment, with a sentence for what cannot be one."""

from __future__ import annotations

import math
import warnings
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured


class Environment(environ.FileAwareEnv):  # type: ignore[misc]  # the library is not typed
    """As the library's own; all methods raise ImproperlyConfigured, which names the variable."""

    def text(self, var: str, default: str = "") -> str:
        """As it is written there or in the file, without the blanks and line ends around it.

        The library takes what begins with `$` for the name of another variable.
        """
        try:
            return str(self.ENVIRON[var]).strip()
        except KeyError:
            return default
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ImproperlyConfigured(
                f"{var}_FILE names {self.ENVIRON[f'{var}_FILE']}, which cannot be read: {why}."
            ) from error

    def int(self, var: str, default: Any = environ.Env.NOTSET) -> int:
        try:
            return int(self._number(var, default))
        except ValueError as error:
            raise ImproperlyConfigured(f"{var} has to be a whole number.") from error

    def float(self, var: str, default: Any = environ.Env.NOTSET) -> float:
        """A number above zero: all of Forge's are periods and rates."""
        try:
            found = float(self._number(var, default))
        except ValueError as error:
            raise ImproperlyConfigured(
                f"{var} has to be a number without a unit, such as 2.5."
            ) from error
        if not 0 < found < math.inf:
            raise ImproperlyConfigured(f"{var} has to be a number above 0.")
        return found

    def _number(self, var: str, default: Any) -> Any:
        """As it is written: the library leaves out what is no digit, and would make 1 s of `1h`."""
        return self.text(var) or default

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
