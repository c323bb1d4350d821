from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('runners', '0003_runner_quarantine'),
    ]

    operations = [
        migrations.AddField(
            model_name='runner',
            name='is_draining',
            field=models.BooleanField(default=False, editable=False),
        ),
    ]
