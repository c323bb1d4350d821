"""The admin's name, and what it shows besides the apps' own: accounts, groups, the audit log."""

from django.contrib import admin

from projects import account_admin  # noqa: F401  # registers them

admin.site.site_header = "Forge admin"
admin.site.site_title = "Forge admin"
admin.site.index_title = "Admin"
