"""How many runs in a row ended before any work came."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lifecycle", "0012_needs")]

    operations = [
        migrations.AddField("Instance", "short_lives", models.PositiveIntegerField(db_default=0, default=0)),
        migrations.AddField("Instance", "has_worked", models.BooleanField(db_default=False, default=False)),
    ]
