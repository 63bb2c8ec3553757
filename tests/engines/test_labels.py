"""How labels are read, and the errors for labels that cannot be read."""

from datetime import timedelta

import pytest

from lifecycle.engines import labels
from lifecycle.exceptions import LabelError

NAME = "reviewer-default"


def read(exposed=(), health_interval=None, **keys):
    found = {labels.PREFIX + key.replace("_", "-"): value for key, value in keys.items()}
    return labels.read(NAME, found, exposed=exposed, health_interval=health_interval)


def test_the_defaults_are_those_of_the_contract():
    found = read(port="80")
    assert found == labels.Labels(
        port=80,
        ready="http",
        ready_path=None,
        start_timeout=timedelta(seconds=30),
        stop_timeout=timedelta(seconds=10),
        idle_timeout=timedelta(minutes=15),
        dispatch_path="/",
        dispatch_timeout=None,
        log_tail=20,
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("15m", 900),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1m30.5s", 90.5),
        ("0", 0),
        ("0s", 0),
        ("100us", 0.0001),
    ],
)
def test_a_duration_is_read_as_go_writes_it(text, seconds):
    assert labels.parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "soon", "5 m", "5x", "1h-5m", "5m5", "m", "١s", "1e3s", "5M"])
def test_a_text_that_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is no duration: write it as 500ms, 30s, 15m, 1h30m or 2d"):
        labels.parse_duration(text)


def test_a_negative_duration_is_refused():
    with pytest.raises(ValueError, match="is negative"):
        labels.parse_duration("-5m")


def test_a_duration_of_more_than_a_hundred_years_is_refused():
    with pytest.raises(ValueError, match="longer than a hundred years"):
        labels.parse_duration("9" * 300 + "d")


@pytest.mark.parametrize("key", ["idle_timeout", "dispatch_timeout"])
def test_a_timeout_of_zero_is_none(key):
    assert getattr(read(port="80", **{key: "0"}), key) is None


def test_a_stop_timeout_may_be_zero():
    assert read(stop_timeout="0").stop_timeout == timedelta(0)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("port", "0", "is no whole number from 1 to 65535"),
        ("port", "65536", "is no whole number from 1 to 65535"),
        ("port", "http", "is no whole number from 1 to 65535"),
        ("port", "+80", "is no whole number from 1 to 65535"),
        ("ready", "maybe", "must be one of http, tcp, health, running"),
        ("ready-path", "health", "is no path: it begins with / and has no blanks"),
        ("dispatch-path", "/a b", "is no path: it begins with / and has no blanks"),
        ("start-timeout", "0", "must be longer than 0"),
        ("idle-timeout", "soon", "is no duration: write it as 500ms, 30s, 15m, 1h30m or 2d"),
        ("stop-timeout", "-1s", "is negative"),
        ("log-tail", "-1", "is no whole number from 0 to 1000"),
    ],
)
def test_an_error_names_the_instance_the_label_and_the_value(key, value, reason):
    with pytest.raises(LabelError) as raised:
        labels.read(NAME, {"dormouse.port": "80", f"dormouse.{key}": value})
    assert str(raised.value) == f"{NAME}: dormouse.{key}={value!r} {reason}"


def test_blanks_around_a_value_do_not_matter():
    assert read(port=" 80 ").port == 80


def test_the_one_exposed_port_is_the_port():
    assert read(exposed=(8080,)).port == 8080


def test_the_port_label_takes_precedence_over_exposed_ports():
    assert read(exposed=(8080, 9090), port="9090").port == 9090


def test_several_exposed_ports_and_none_named_is_an_error():
    with pytest.raises(LabelError, match="several ports are exposed: 8080, 9090"):
        read(exposed=(9090, 8080))


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("exposed", "health_interval", "ready"),
    [((80,), None, "http"), ((80,), SECOND, "http"), ((), SECOND, "health"), ((), None, "running")],
)
def test_the_default_of_ready_depends_on_the_container(exposed, health_interval, ready):
    assert read(exposed, health_interval).ready == ready


@pytest.mark.parametrize("ready", ["http", "tcp"])
def test_a_probe_of_a_port_needs_a_port(ready):
    with pytest.raises(LabelError, match=r"needs a port: set dormouse\.port"):
        read(ready=ready)


def test_health_needs_a_healthcheck():
    with pytest.raises(LabelError, match="needs a HEALTHCHECK"):
        read(ready="health")


def test_health_needs_more_time_than_the_interval_of_its_check():
    with pytest.raises(LabelError, match="must exceed the interval of the HEALTHCHECK, 30s"):
        read(ready="health", health_interval=timedelta(seconds=30))


def test_misspelt_labels_are_found():
    keys = {"dormouse.enable": "true", "dormouse.idel-timeout": "5m", "dormouse.port": "80", "maintainer": "anne"}
    assert labels.unknown(keys) == ["dormouse.idel-timeout"]


def test_an_idle_timeout_that_cannot_be_read_never_ends():
    assert labels.idle_timeout({"dormouse.idle-timeout": "soon"}) is None


@pytest.mark.parametrize("key", ["dormouse.enabled", "Dormouse.Enable", "dormouse-enable", "dormouse.enabel"])
def test_a_key_that_is_nearly_enable_is_a_near_miss(key):
    assert labels.near_miss({key: "true"}) == f"{key!r} is not 'dormouse.enable'"


@pytest.mark.parametrize("key", ["dormouse.port", "traefik.enable", "com.docker.compose.project", "maintainer"])
def test_another_key_is_none(key):
    assert labels.near_miss({key: "true"}) is None
