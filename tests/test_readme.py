"""What the README and docs/operations.md say is what the code does."""

import re

from lifecycle.engines import labels
from lifecycle.exceptions import Cause
from tests.servers import PROJECT

README = (PROJECT / "README.md").read_text()


def row(label: labels.Label) -> str:
    default = label.default_shown or (f"`{label.default}`" if label.default else "")
    return f"| `{labels.PREFIX}{label.key}` | {default} | {label.meaning} |"


def test_the_table_of_labels_is_that_of_the_code() -> None:
    table = README.split("| label | default | meaning |")[1].split("\n\n")[0].splitlines()[2:]
    assert table[0].startswith(f"| `{labels.ENABLE}` |")
    assert table[1:] == [row(label) for label in labels.LABELS]


def test_every_setting_is_in_the_table() -> None:
    settings = (PROJECT / "config" / "settings.py").read_text()
    names = {part.split('"')[0] for part in settings.split('("')[1:] if part.startswith(("DORMOUSE_", "DJANGO_"))}
    assert names
    assert not [name for name in sorted(names) if f"| `{name}`" not in README]


def test_every_cause_of_a_failed_start_is_explained() -> None:
    operations = (PROJECT / "docs" / "operations.md").read_text()
    first_cells = re.findall(r"^\| (.*?) \|", operations.partition("## If an agent does not start")[2], re.MULTILINE)
    explained = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert set(Cause) <= explained
