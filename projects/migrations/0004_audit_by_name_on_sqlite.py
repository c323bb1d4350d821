from django.db import migrations


def index(apps, schema_editor):
    # PostgreSQL has it since the log exists, with an operator class of its own.
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("CREATE INDEX audit_by_name ON projects_auditentry (LOWER(name))")


def drop(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP INDEX audit_by_name")


class Migration(migrations.Migration):

    dependencies = [
        ('projects', '0003_audit_log'),
    ]

    operations = [
        migrations.RunPython(index, drop),
    ]
