"""Plain names in the code. No table and no column changes, so the version before can still use the database."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lifecycle", "0001_initial")]

    operations = [
        migrations.AlterModelTable("enginesight", "lifecycle_enginesight"),
        migrations.RenameModel("EngineSight", "EngineStatus"),
        migrations.AlterModelOptions("enginestatus", {"verbose_name_plural": "engine statuses"}),
        migrations.AlterField(
            "worker", "beat", models.PositiveBigIntegerField(db_column="beat", default=0)
        ),
        migrations.RenameField("worker", "beat", "heartbeat"),
    ]
