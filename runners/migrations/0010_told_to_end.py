from typing import Any

from django.db import migrations, models


def whoever_drains_was_told(apps: Any, schema_editor: Any) -> None:
    """Until now a worker was told at once."""
    runners = apps.get_model("runners", "Runner").objects
    runners.exclude(drain_order="").update(was_told_to_end=True)


class Migration(migrations.Migration):

    dependencies = [
        ('runners', '0009_broker_refusal'),
    ]

    operations = [
        migrations.AddField(
            model_name='runner',
            name='was_told_to_end',
            field=models.BooleanField(default=False, editable=False),
        ),
        migrations.RunPython(whoever_drains_was_told, migrations.RunPython.noop),
    ]
