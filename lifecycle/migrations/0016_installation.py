"""The identity of the installation, and the neighbour that was seen at the engine."""

import uuid

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lifecycle", "0015_work_failure")]

    operations = [
        migrations.CreateModel(
            "Installation",
            [
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("identity", models.UUIDField(default=uuid.uuid4, editable=False)),
            ],
        ),
        migrations.AddField("EngineStatus", "neighbour", models.TextField(blank=True, db_default="", default="")),
    ]
