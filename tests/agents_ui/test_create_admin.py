import stat
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

pytestmark = pytest.mark.django_db


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "var" / "admin-password"


class Terminal(StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def create_admin(file: Path, output: StringIO | None = None) -> str:
    output = output or StringIO()
    call_command("create_admin", password_file=file, stdout=output)
    return output.getvalue()


def test_the_first_start_shows_the_password_to_a_terminal(file: Path):
    shown = create_admin(file, Terminal())
    assert shown == f"Sign in as admin with the password in {file}: {file.read_text().strip()}\n"


def test_the_log_of_a_service_names_the_file_alone(file: Path):
    assert create_admin(file) == f"Sign in as admin with the password in {file}\n"


def test_the_first_start_keeps_the_password_in_a_private_file(file: Path):
    create_admin(file)
    password = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert authenticate(username="admin", password=password).is_superuser
    assert list(file.parent.iterdir()) == [file]


def test_a_later_start_names_the_file_and_changes_nothing(file: Path):
    create_admin(file)
    before = User.objects.get().password
    assert create_admin(file) == f"Sign in as admin with the password in {file}\n"
    assert User.objects.get().password == before


def test_a_password_that_was_changed_is_left_alone(file: Path):
    create_admin(file)
    user = User.objects.get()
    user.set_password("chosen by a person")
    user.save()
    assert "changepassword" in create_admin(file)
    assert authenticate(username="admin", password="chosen by a person")


def test_no_admin_is_created_if_there_is_another_superuser(file: Path):
    User.objects.create_superuser("root", password="x")
    assert "changepassword" in create_admin(file)
    assert not file.exists()


def test_a_start_after_an_interrupted_start_uses_the_same_password(file: Path):
    create_admin(file)
    password = file.read_text().strip()
    User.objects.all().delete()
    assert password in create_admin(file, Terminal())
    assert authenticate(username="admin", password=password)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_file_that_others_can_open_is_refused(file: Path, mode: int):
    file.parent.mkdir()
    file.write_text("known to everybody")
    file.chmod(mode)
    with pytest.raises(CommandError, match="only you can read"):
        create_admin(file)
    assert not User.objects.exists()


def test_a_link_is_refused(file: Path):
    file.parent.mkdir()
    target = file.with_name("elsewhere")
    target.touch(mode=0o600)
    file.symlink_to(target)
    with pytest.raises(CommandError, match="only you can read"):
        create_admin(file)


def test_a_user_named_admin_does_not_become_superuser(file: Path):
    User.objects.create_user("admin", password="x")
    with pytest.raises(CommandError, match="no superuser"):
        create_admin(file)
