"""What people decided: awake-until and disabled. The version before does not know these columns."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lifecycle", "0013_short_lives")]

    operations = [
        migrations.AddField("Instance", "awake_until", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("Instance", "awake_by", models.JSONField(blank=True, null=True)),
        migrations.AddField("Instance", "disabled", models.JSONField(blank=True, null=True)),
    ]
