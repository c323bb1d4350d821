#!/usr/bin/env python
"""Django's command line for Forge."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "forge.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        import forge.settings  # noqa: F401  # what is wrong there is said without a traceback
    except ImproperlyConfigured as error:
        sys.exit(f"{error}")
    except OSError as error:
        sys.exit(f"A file that a setting of the form NAME_FILE names cannot be read: {error}")
    execute_from_command_line(sys.argv)
