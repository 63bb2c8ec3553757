"""A table for counting work that failed. The version before does not know this table, and does not need it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lifecycle", "0002_plain_names")]

    operations = [
        migrations.CreateModel(
            "WorkFailure",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("instance", models.CharField(max_length=255)),
                ("status", models.PositiveSmallIntegerField()),
                ("told_at", models.DateTimeField(blank=True, null=True)),
                ("count", models.PositiveBigIntegerField(default=0)),
                ("latest", models.JSONField(default=dict)),
            ],
            {
                "constraints": [
                    models.UniqueConstraint(fields=["instance", "status"], name="lifecycle_workfailure_kind")
                ]
            },
        ),
    ]
