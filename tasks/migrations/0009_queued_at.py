from django.db import migrations, models
from django.db.models import F, OuterRef, Subquery
from django.db.models.functions import Coalesce


def tell_since_when(apps, schema_editor):
    """An attempt that follows another one was queued when that one ended."""
    Task = apps.get_model("tasks", "Task")
    TaskAttempt = apps.get_model("tasks", "TaskAttempt")
    Task.objects.filter(attempt=1).update(queued_at=F("created_at"))
    before = TaskAttempt.objects.filter(task=OuterRef("pk"), number__lt=OuterRef("attempt"))
    ended = Subquery(before.order_by("-number").values("ended_at")[:1])
    Task.objects.filter(attempt__gt=1).update(queued_at=Coalesce(ended, F("created_at")))


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0008_log_lines'),
    ]

    operations = [
        migrations.AddField(
            model_name='task',
            name='queued_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.RunPython(tell_since_when, migrations.RunPython.noop),
        migrations.AlterField(
            model_name='task',
            name='queued_at',
            field=models.DateTimeField(),
        ),
    ]
