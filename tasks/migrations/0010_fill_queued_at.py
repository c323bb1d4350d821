from django.db import migrations
from django.db.models import F, Max, Min, OuterRef, Subquery
from django.db.models.functions import Coalesce

ROWS = 5_000


def tell_since_when(apps, schema_editor):
    """An attempt that follows another one was queued when that one ended.

    In short steps, each committed by itself: Forge goes on beside it. It may be run again.
    """
    Task = apps.get_model("tasks", "Task")
    TaskAttempt = apps.get_model("tasks", "TaskAttempt")
    before = TaskAttempt.objects.filter(task=OuterRef("pk"), number__lt=OuterRef("attempt"))
    ended = Subquery(before.order_by("-number").values("ended_at")[:1])
    # Tasks that are added from here on know it by themselves.
    ids = Task.objects.order_by().aggregate(first=Min("pk"), last=Max("pk"))
    for first in range(ids["first"] or 0, (ids["last"] or -1) + 1, ROWS):
        rows = Task.objects.order_by().filter(pk__gte=first, pk__lt=first + ROWS)
        rows.filter(attempt=1).exclude(queued_at=F("created_at")).update(queued_at=F("created_at"))
        rows.filter(attempt__gt=1).update(queued_at=Coalesce(ended, F("created_at")))


class Migration(migrations.Migration):
    # With a transaction of its own each row would be locked until the last one is written.
    atomic = False

    dependencies = [
        ('tasks', '0009_queued_at'),
    ]

    operations = [
        migrations.RunPython(tell_since_when, migrations.RunPython.noop),
    ]
