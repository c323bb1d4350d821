"""Runner tokens get rows of their own, so that an old and a new one can work at once."""

import uuid

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def give_identities(apps, schema_editor):
    Runner = apps.get_model('runners', 'Runner')
    for runner in Runner.objects.only('pk').iterator():
        Runner.objects.filter(pk=runner.pk).update(identity=uuid.uuid4())


def move_digests_out(apps, schema_editor):
    RunnerToken = apps.get_model('runners', 'RunnerToken')
    rows = (
        RunnerToken(
            runner_id=runner.pk,
            digest=runner.token_digest,
            created_at=runner.created_at,
            created_by_id=runner.created_by_id,
        )
        for runner in apps.get_model('runners', 'Runner').objects.iterator()
    )
    RunnerToken.objects.bulk_create(rows, batch_size=500)


def move_digests_back(apps, schema_editor):
    """The current ones; older tokens in their overlap end with this."""
    Runner = apps.get_model('runners', 'Runner')
    for token in apps.get_model('runners', 'RunnerToken').objects.filter(expires_at=None):
        Runner.objects.filter(pk=token.runner_id).update(token_digest=token.digest)


class Migration(migrations.Migration):

    dependencies = [
        ('projects', '0001_initial'),
        ('runners', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        # A default is computed once for all rows, so it cannot be unique yet.
        migrations.AddField(
            model_name='runner',
            name='identity',
            field=models.UUIDField(default=uuid.uuid4, editable=False, null=True),
        ),
        migrations.CreateModel(
            name='RegistrationToken',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=80, validators=[django.core.validators.RegexValidator('\\A[^\\x00-\\x1f\\x7f]*\\Z', 'Use one line of printable characters.')])),
                ('digest', models.CharField(editable=False, max_length=64, unique=True)),
                ('takes_untagged', models.BooleanField(default=True, verbose_name='takes tasks without tags')),
                ('concurrency', models.PositiveIntegerField(default=4, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(100)], verbose_name='tasks at once')),
                ('max_uses', models.PositiveIntegerField(default=1, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000)], verbose_name='uses')),
                ('uses', models.PositiveIntegerField(default=0, editable=False, verbose_name='used')),
                ('created_at', models.DateTimeField(editable=False)),
                ('expires_at', models.DateTimeField()),
                ('revoked_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('created_by', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='registration_tokens', to='projects.project')),
                ('tags', models.ManyToManyField(blank=True, related_name='registration_tokens', to='runners.tag')),
            ],
            options={
                'ordering': ('project', '-pk'),
            },
        ),
        migrations.AddField(
            model_name='runner',
            name='registered_with',
            field=models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='runners', to='runners.registrationtoken'),
        ),
        migrations.CreateModel(
            name='RunnerToken',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(editable=False, max_length=64, unique=True)),
                ('created_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('cut_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('last_used_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('runner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tokens', to='runners.runner')),
            ],
            options={
                'ordering': ('runner', '-pk'),
            },
        ),
        migrations.AddConstraint(
            model_name='registrationtoken',
            constraint=models.CheckConstraint(condition=models.Q(('uses__lte', models.F('max_uses'))), name='registration_token_uses_in_limit'),
        ),
        migrations.AddConstraint(
            model_name='registrationtoken',
            constraint=models.CheckConstraint(condition=models.Q(('max_uses__gte', 1), ('max_uses__lte', 1000)), name='registration_token_max_uses_in_range'),
        ),
        migrations.AddConstraint(
            model_name='registrationtoken',
            constraint=models.CheckConstraint(condition=models.Q(('concurrency__gte', 1), ('concurrency__lte', 100)), name='registration_token_concurrency_in_range'),
        ),
        migrations.AddConstraint(
            model_name='registrationtoken',
            constraint=models.CheckConstraint(condition=models.Q(('expires_at__gt', models.F('created_at'))), name='registration_token_expires_later'),
        ),
        migrations.AddIndex(
            model_name='runnertoken',
            index=models.Index(condition=models.Q(('cut_at', None), ('expires_at__isnull', False)), fields=['expires_at'], name='runner_token_to_cut'),
        ),
        migrations.AddConstraint(
            model_name='runnertoken',
            constraint=models.UniqueConstraint(condition=models.Q(('expires_at', None)), fields=('runner',), name='runner_token_one_is_current'),
        ),
        migrations.AddConstraint(
            model_name='runnertoken',
            constraint=models.CheckConstraint(condition=models.Q(('cut_at', None), ('expires_at__isnull', False), _connector='OR'), name='runner_token_current_is_not_cut'),
        ),
        # Without a value for a while, in either direction.
        migrations.AlterField(
            model_name='runner',
            name='token_digest',
            field=models.CharField(editable=False, max_length=64, null=True, unique=True),
        ),
        migrations.RunPython(give_identities, migrations.RunPython.noop),
        migrations.RunPython(move_digests_out, move_digests_back),
        migrations.AlterField(
            model_name='runner',
            name='identity',
            field=models.UUIDField(default=uuid.uuid4, editable=False, unique=True),
        ),
        migrations.RemoveField(
            model_name='runner',
            name='token_digest',
        ),
    ]
