"""The latest failed work of an instance. The version before does not know this column."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lifecycle", "0014_control")]

    operations = [migrations.AddField("Instance", "work_failure", models.JSONField(blank=True, null=True))]
