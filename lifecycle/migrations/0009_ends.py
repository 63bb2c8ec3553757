"""What is kept to tell how instances end. The version before does not know these columns: the database fills them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lifecycle", "0008_absent_since")]

    operations = [
        migrations.CreateModel(
            "EndNote",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("incarnation", models.CharField(max_length=255, unique=True)),
                ("at", models.DateTimeField()),
                ("end", models.JSONField()),
            ],
        ),
        migrations.AddField("Instance", "adopted", models.BooleanField(default=False, db_default=False)),
        migrations.AddField("Instance", "broke_off", models.PositiveBigIntegerField(default=0, db_default=0)),
        migrations.AddField("Instance", "broke_off_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("Instance", "exit", models.JSONField(blank=True, null=True)),
    ]
