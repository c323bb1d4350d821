from datetime import timedelta

import django.core.validators
import django.db.models.deletion
import tasks.policies
from django.conf import settings
from django.db import migrations, models


HELD = ("starting", "running", "stopping", "unreachable")


def give_leases(apps, schema_editor):
    """What runs while Forge is upgraded goes on; its runner's next heartbeat renews the lease."""
    tasks = apps.get_model("tasks", "Task").objects.filter(state__in=HELD)
    tasks.update(lease_expires_at=models.F("claimed_at"))
    end = models.F("unreachable_at") + timedelta(hours=1)
    tasks.filter(state="unreachable").update(wait_ends_at=end)


class Migration(migrations.Migration):

    dependencies = [
        ('projects', '0002_secrets'),
        ('runners', '0004_runner_draining'),
        ('tasks', '0002_secrets'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='TaskAttempt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('state', models.CharField(choices=[('awaiting_approval', 'Needs approval'), ('queued', 'Queued'), ('starting', 'Starting'), ('running', 'Running'), ('stopping', 'Stopping'), ('unreachable', 'Unreachable'), ('succeeded', 'Succeeded'), ('failed', 'Failed'), ('stopped', 'Stopped'), ('lost', 'Lost')], max_length=20)),
                ('reason', models.CharField(max_length=500)),
                ('claimed_at', models.DateTimeField()),
                ('started_at', models.DateTimeField(null=True)),
                ('ended_at', models.DateTimeField()),
                ('log_bytes', models.BigIntegerField()),
                ('log_sha256', models.CharField(blank=True, max_length=64)),
                ('log_complete', models.BooleanField(default=False)),
            ],
            options={
                'ordering': ('task', 'number'),
            },
        ),
        migrations.AddField(
            model_name='task',
            name='force_requested_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='task',
            name='lease_expires_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='task',
            name='lost_runner_policy',
            field=models.CharField(choices=[('wait', 'Wait for it'), ('fail', 'Give up at once'), ('retry', 'Run it again elsewhere')], default='wait', max_length=10, verbose_name='if the runner is lost'),
        ),
        migrations.AddField(
            model_name='task',
            name='lost_runner_wait_seconds',
            field=models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(2592000)], verbose_name='seconds to wait for it'),
        ),
        migrations.AddField(
            model_name='task',
            name='max_attempts',
            field=models.PositiveSmallIntegerField(default=3, validators=[django.core.validators.MinValueValidator(2), django.core.validators.MaxValueValidator(20)], verbose_name='attempts at most'),
        ),
        migrations.AddField(
            model_name='task',
            name='stop_steps',
            field=models.JSONField(blank=True, default=tasks.policies.default_stop_steps, validators=[tasks.policies.is_stop_steps]),
        ),
        migrations.AddField(
            model_name='task',
            name='wait_ends_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='tasktemplate',
            name='lost_runner_policy',
            field=models.CharField(choices=[('wait', 'Wait for it'), ('fail', 'Give up at once'), ('retry', 'Run it again elsewhere')], default='wait', max_length=10, verbose_name='if the runner is lost'),
        ),
        migrations.AddField(
            model_name='tasktemplate',
            name='lost_runner_wait_seconds',
            field=models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(2592000)], verbose_name='seconds to wait for it'),
        ),
        migrations.AddField(
            model_name='tasktemplate',
            name='max_attempts',
            field=models.PositiveSmallIntegerField(default=3, validators=[django.core.validators.MinValueValidator(2), django.core.validators.MaxValueValidator(20)], verbose_name='attempts at most'),
        ),
        migrations.AddField(
            model_name='tasktemplate',
            name='safe_to_rerun',
            field=models.BooleanField(default=False, verbose_name='safe to run twice'),
        ),
        migrations.AddField(
            model_name='tasktemplate',
            name='stop_steps',
            field=models.JSONField(blank=True, default=tasks.policies.default_stop_steps, validators=[tasks.policies.is_stop_steps]),
        ),
        migrations.RunPython(give_leases, migrations.RunPython.noop),
        migrations.AddIndex(
            model_name='task',
            index=models.Index(condition=models.Q(('state', 'unreachable')), fields=['wait_ends_at'], name='task_unreachable'),
        ),
        migrations.AddConstraint(
            model_name='task',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['running', 'starting', 'stopping', 'unreachable']), _negated=True), ('lease_expires_at__isnull', False), _connector='OR'), name='task_held_has_lease'),
        ),
        migrations.AddConstraint(
            model_name='task',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'unreachable'), _negated=True), models.Q(('unreachable_at__isnull', False), ('wait_ends_at__isnull', False)), _connector='OR'), name='task_unreachable_has_end'),
        ),
        migrations.AddConstraint(
            model_name='task',
            constraint=models.CheckConstraint(condition=models.Q(('lost_runner_policy__in', ['wait', 'fail', 'retry'])), name='task_lost_runner_policy_known'),
        ),
        migrations.AddConstraint(
            model_name='task',
            constraint=models.CheckConstraint(condition=models.Q(('attempt', 1), models.Q(('attempt__lte', models.F('max_attempts')), ('lost_runner_policy', 'retry')), _connector='OR'), name='task_attempts_in_limit'),
        ),
        migrations.AddConstraint(
            model_name='tasktemplate',
            constraint=models.CheckConstraint(condition=models.Q(('lost_runner_policy__in', ['wait', 'fail', 'retry'])), name='template_lost_runner_policy_known'),
        ),
        migrations.AddConstraint(
            model_name='tasktemplate',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('lost_runner_policy', 'retry'), _negated=True), ('safe_to_rerun', True), _connector='OR'), name='template_retry_only_if_safe'),
        ),
        migrations.AddConstraint(
            model_name='tasktemplate',
            constraint=models.CheckConstraint(condition=models.Q(('lost_runner_wait_seconds', None), models.Q(('lost_runner_wait_seconds__gte', 1), ('lost_runner_wait_seconds__lte', 2592000)), _connector='OR'), name='template_wait_in_range'),
        ),
        migrations.AddConstraint(
            model_name='tasktemplate',
            constraint=models.CheckConstraint(condition=models.Q(('max_attempts__gte', 2), ('max_attempts__lte', 20)), name='template_max_attempts_in_range'),
        ),
        migrations.AddField(
            model_name='taskattempt',
            name='runner',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='runners.runner'),
        ),
        migrations.AddField(
            model_name='taskattempt',
            name='task',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='earlier_attempts', to='tasks.task'),
        ),
        migrations.AddConstraint(
            model_name='taskattempt',
            constraint=models.UniqueConstraint(fields=('task', 'number'), name='task_attempt_number_unique'),
        ),
        migrations.AddConstraint(
            model_name='taskattempt',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['failed', 'lost'])), name='task_attempt_state_known'),
        ),
        migrations.AddConstraint(
            model_name='taskattempt',
            constraint=models.CheckConstraint(condition=models.Q(('reason', ''), _negated=True), name='task_attempt_has_reason'),
        ),
    ]
