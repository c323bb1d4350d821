from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    """The default stays in the database.

    It gives the column to the rows that there are without writing them again (PostgreSQL), and to
    those that processes of the version before add until they are restarted.
    """

    dependencies = [
        ('tasks', '0008_log_lines'),
    ]

    operations = [
        migrations.AddField(
            model_name='task',
            name='queued_at',
            field=models.DateTimeField(db_default=Now()),
        ),
    ]
