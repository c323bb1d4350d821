"""What the admin shows besides the apps' own: accounts, their groups, the audit log."""

from projects import account_admin  # noqa: F401  # registers them
