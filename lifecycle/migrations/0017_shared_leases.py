"""A lease may stand for several pieces of work. Those that exist stand for one each."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lifecycle", "0016_installation")]

    operations = [
        migrations.AddField("Lease", "works", models.PositiveIntegerField(default=1, db_default=1)),
        migrations.AddField("Lease", "purposes", models.JSONField(blank=True, default=list, db_default=[])),
    ]
