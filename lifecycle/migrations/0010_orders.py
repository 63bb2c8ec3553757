"""Who ordered what. The version before does not know these columns: the database fills them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lifecycle", "0009_ends")]

    operations = [
        migrations.AddField("Instance", "ordered", models.JSONField(blank=True, null=True)),
        migrations.AddField("Lease", "ordered", models.JSONField(blank=True, null=True)),
    ]
