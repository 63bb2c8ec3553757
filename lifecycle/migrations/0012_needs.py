"""What each instance needs."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lifecycle", "0011_mode")]

    operations = [
        migrations.AddField("Instance", "needs", models.JSONField(blank=True, db_default=[], default=list)),
    ]
