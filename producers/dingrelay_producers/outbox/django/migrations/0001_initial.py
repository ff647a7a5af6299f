"""Makes the table."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "OutboxRow",
            [
                ("number", models.BigAutoField(primary_key=True, serialize=False)),
                ("id", models.CharField(max_length=36)),
                ("kind", models.CharField(max_length=64)),
                ("job", models.TextField()),
                ("written_at", models.BigIntegerField()),
                ("trace", models.TextField(null=True)),
                ("tried_at", models.BigIntegerField(null=True)),
                ("leased_until", models.BigIntegerField(null=True)),
                ("refused", models.TextField(null=True)),
            ],
            {"db_table": "dingrelay_outbox"},
        ),
    ]
