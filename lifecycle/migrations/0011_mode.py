"""How an instance sleeps: stopped or paused."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lifecycle", "0010_orders")]

    operations = [
        migrations.AddField(
            "Instance",
            "mode",
            models.CharField(
                choices=[("stop", "stop"), ("pause", "pause")], db_default="stop", default="stop", max_length=8
            ),
        ),
    ]
