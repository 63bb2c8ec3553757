"""Another installation that was refused, for the page of the one that manages the instances."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lifecycle", "0017_shared_leases")]

    operations = [
        migrations.AddField("EngineStatus", "refused_neighbour", models.TextField(blank=True, db_default="", default=""))
    ]
