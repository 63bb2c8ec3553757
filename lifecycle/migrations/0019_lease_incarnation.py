"""A lease is of one incarnation. Those that exist name none, so they are not moved if their containers are renamed."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lifecycle", "0018_refused_neighbour")]

    operations = [
        migrations.AddField(
            "Lease", "incarnation", models.CharField(blank=True, db_default="", default="", max_length=255)
        )
    ]
