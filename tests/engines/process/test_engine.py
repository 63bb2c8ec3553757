"""Behaviour that only the process engine has."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from lifecycle.engines.base import Outcome
from lifecycle.engines.process.engine import ProcessEngine
from lifecycle.engines.process.keeper import MAX_OUTPUT_BYTES
from lifecycle.engines.process.run_file import RunFile
from lifecycle.exceptions import Cause, EngineUnreachable, LabelError, Missing, StartRejected
from lifecycle.workers import processes
from tests.engines.rigs import shell
from tests.servers import PROJECT, wait_for

SLEEPS = '["sleep", "3600"]'


@pytest.fixture
def rig(process_rig):
    return process_rig


@pytest.fixture
def engine(process_rig):
    return process_rig.engine


def run_file(rig, name):
    return RunFile(rig.run_dir, name)


def pids(rig, name):
    """Return the pids of the living processes of the instance, without its keeper."""
    return [pid for pid in run_file(rig, name).processes() if processes.start_ticks(pid)]


def output(engine, name):
    return wait_for(lambda: engine.output(name, 100), what=f"the output of {name}")


def start_and_be_killed(rig, name):
    """Start the instance from another process, which is killed then."""
    script = (
        "import os, sys; from pathlib import Path; from lifecycle.engines.process.engine import ProcessEngine;"
        "ProcessEngine(Path(sys.argv[1]), Path(sys.argv[2])).start(sys.argv[3]); os.kill(os.getpid(), 9)"
    )
    parent = subprocess.run([sys.executable, "-c", script, rig.agents_file, rig.run_dir, name], cwd=PROJECT)
    assert parent.returncode == -signal.SIGKILL


def test_an_instance_survives_its_parent_and_other_processes_see_it(rig, engine):
    name = rig.add_command(SLEEPS)
    start_and_be_killed(rig, name)
    assert engine.inspect(name).running
    engine.stop(name, 5)
    assert not engine.inspect(name).running


def test_a_start_in_one_process_is_seen_by_another(rig, engine):
    name = rig.add_command(SLEEPS)
    other = ProcessEngine(rig.agents_file, rig.run_dir)
    engine.start(name)
    assert other.inspect(name) == engine.inspect(name)


def test_a_stop_ends_the_whole_group(rig, engine):
    name = rig.add_command(shell("sleep 3600 & sleep 3600 & wait"))
    engine.start(name)
    wait_for(lambda: len(pids(rig, name)) == 3)
    engine.stop(name, 5)
    assert pids(rig, name) == []


#: Becomes a daemon in the ways that daemons do, writes its pid to stdout, and closes every descriptor.
DAEMON = """
import os, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
print("daemon", flush=True)
os.closerange(0, 1000)
time.sleep(3600)
"""


def daemon(script=DAEMON):
    return f"{[sys.executable, '-c']}"[:-1] + f", {json.dumps(script)}]"


@pytest.mark.parametrize(
    "script",
    ["sleep 3600 & exit 0", "setsid sleep 3600 & exit 0", "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec sleep 3600"],
)
def test_descendants_are_followed_and_stopped_whatever_became_of_their_parent(rig, engine, script):
    name = rig.add_command(shell(script))
    engine.start(name)
    wait_for(lambda: len(pids(rig, name)) == 1)
    assert engine.inspect(name).running
    assert engine.start(name) is Outcome.ALREADY_SO
    assert engine.stop(name, 5) is Outcome.DONE
    assert not engine.inspect(name).running


def test_a_daemon_that_closes_its_descriptors_is_followed_and_stopped(rig, engine):
    name = rig.add_command(daemon())
    engine.start(name)
    assert "daemon" in output(engine, name)
    (pid,) = wait_for(lambda: len(pids(rig, name)) == 1 and pids(rig, name))
    assert engine.inspect(name).running
    engine.stop(name, 5)
    assert processes.start_ticks(pid) is None
    assert engine.inspect(name).exit_code == 143


def test_a_daemon_that_crashes_has_its_exit_code(rig, engine):
    name = rig.add_command(daemon(DAEMON.replace("time.sleep(3600)", "os._exit(3)")))
    engine.start(name)
    wait_for(lambda: not engine.inspect(name).running)
    assert engine.inspect(name).exit_code == 3


def test_a_command_that_fails_leaves_nothing_behind(rig, engine):
    name = rig.add_command(shell("sleep 3600 & exit 3"))
    engine.start(name)
    wait_for(lambda: not engine.inspect(name).running)
    assert engine.inspect(name).exit_code == 3


def test_processes_whose_keeper_was_killed_are_stopped(rig, engine):
    name = rig.add_command(shell("sleep 3600 & echo $!; wait"))
    engine.start(name)
    left = int(output(engine, name))
    os.kill(run_file(rig, name).keeper(), signal.SIGKILL)
    wait_for(lambda: run_file(rig, name).keeper() is None)
    engine.stop(name, 5)
    assert not engine.inspect(name).running
    assert processes.start_ticks(left) is None


def test_a_process_that_ignores_the_signal_is_killed_after_the_grace(rig, engine):
    name = rig.add_command(shell("trap '' TERM; echo ready; while sleep 1; do :; done"))
    engine.start(name)
    output(engine, name)
    engine.stop(name, 0.2)
    assert engine.inspect(name).exit_code == 137


def test_an_instance_has_a_session_of_its_own(rig, engine):
    name = rig.add_command(SLEEPS)
    engine.start(name)
    (pid,) = wait_for(lambda: pids(rig, name))
    assert os.getsid(pid) == pid


@pytest.mark.parametrize(
    "secret",
    [
        *("DORMOUSE_API_TOKEN", "DJANGO_SECRET_KEY", "DATABASE_URL", "DATABASE_URL_FILE"),
        *("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
    ],
)
def test_our_secrets_are_not_in_its_environment(rig, engine, monkeypatch, secret):
    monkeypatch.setenv(secret, "hush")
    name = rig.add_command(shell("env; echo end"))
    engine.start(name)
    assert f"{secret}=" not in wait_for(lambda: "end" in engine.output(name, 1000) and engine.output(name, 1000))


def test_the_rest_of_our_environment_is_in_its_environment(rig, engine, monkeypatch):
    monkeypatch.setenv("MODEL", "small")
    name = rig.add_command(shell('echo "$MODEL"'))
    engine.start(name)
    assert output(engine, name) == "small\n"


@pytest.mark.parametrize("command", ['["echo", "two words"]', "\"echo 'two words'\""], ids=["list", "string"])
def test_a_command_is_a_list_or_a_string_as_a_shell_reads_it(rig, engine, command):
    name = rig.add_command(command)
    engine.start(name)
    assert output(engine, name) == "two words\n"


@pytest.mark.parametrize("command", ["[]", '""', '"echo \'"', "3"])
def test_a_text_that_is_no_command_is_in_error(rig, engine, command):
    seen = engine.inspect(rig.add_command(command))
    assert isinstance(seen.labels, LabelError)
    assert seen.labels.label == "command"


def test_a_relative_program_is_searched_in_the_folder_of_the_agents_file(rig, engine):
    script = rig.agents_file.parent / "agent.sh"
    script.write_text("#!/bin/sh\necho here\n")
    script.chmod(0o755)
    name = rig.add_command('"./agent.sh"')
    engine.start(name)
    assert output(engine, name) == "here\n"


def test_output_has_at_most_the_lines_asked_for(rig, engine):
    name = rig.add_command(shell("seq 50"))
    engine.start(name)
    assert wait_for(lambda: "50" in engine.output(name, 3) and engine.output(name, 3)) == "48\n49\n50\n"


def test_a_number_is_a_label_too(rig, engine):
    name = rig.add_command(f"{SLEEPS}\nport = 9001\nlog-tail = 5")
    labels = engine.inspect(name).settings()
    assert (labels.port, labels.log_tail) == (9001, 5)


def test_a_name_may_have_any_characters(rig, engine):
    rig.agents_file.write_text(f'["../a b/ü"]\ncommand = {SLEEPS}\n')
    rig.names.append("../a b/ü")
    engine.start("../a b/ü")
    assert engine.inspect("../a b/ü").running
    assert {path.parent for path in rig.run_dir.iterdir()} == {rig.run_dir}


def test_without_a_file_there_are_no_instances(tmp_path):
    engine = ProcessEngine(None, tmp_path)
    assert engine.instances() == []
    with pytest.raises(Missing):
        engine.inspect("anyone")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[ok]\ncommand = 'true'\n[broken\n", "line 3"),
        (b"port = 1\n", "port stands outside the table of an instance"),
        (b"\xff", "'utf-8' codec can't decode"),
    ],
    ids=["garbage", "stray", "bytes"],
)
def test_an_agents_file_that_cannot_be_read_is_an_unreachable_engine(rig, engine, content, why):
    rig.agents_file.write_bytes(content)
    with pytest.raises(EngineUnreachable) as raised:
        engine.instances()
    rig.names.clear()
    assert str(rig.agents_file) in str(raised.value)
    assert why in str(raised.value)
    assert not raised.value.was_asked


def test_an_agents_file_that_does_not_exist_is_named(tmp_path):
    engine = ProcessEngine(tmp_path / "no.toml", tmp_path)
    with pytest.raises(EngineUnreachable, match=r"no\.toml.*No such file"):
        engine.inspect("anyone")


def test_a_process_that_cannot_be_made_is_rejected(rig, engine):
    name = rig.add_command(shell("echo " + "x" * 200_000))  # one argument of more than 128 KiB
    with pytest.raises(StartRejected, match="Argument list too long"):
        engine.start(name)


def test_a_changed_command_changes_the_listed_labels(rig, engine):
    name = rig.add_command('""')
    before = next(one.labels for one in engine.instances() if one.name == name)
    rig.agents_file.write_text(rig.agents_file.read_text().replace('command = ""', f"command = {SLEEPS}"))
    assert next(one.labels for one in engine.instances() if one.name == name) != before


def test_a_name_that_is_too_long_for_a_file_is_refused(rig, engine):
    rig.agents_file.write_text(f'["{"審" * 40}"]\ncommand = "sleep 1"\n')
    with pytest.raises(EngineUnreachable, match="is too long"):
        engine.instances()


def test_a_port_that_another_program_holds_is_a_conflict_and_nothing_is_started(rig, engine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        name = rig.add_command(SLEEPS, port=port)
        with pytest.raises(StartRejected, match=f"its port {port} is taken by another program") as raised:
            engine.start(name)
    assert raised.value.cause == Cause.PORT_CONFLICT
    assert not engine.inspect(name).running
    engine.start(name)
    assert engine.inspect(name).running


def test_output_is_bounded_and_its_end_is_kept(rig, engine):
    name = rig.add_command(shell(f"seq {MAX_OUTPUT_BYTES // 2}; echo the end"))
    engine.start(name)
    wait_for(lambda: not engine.inspect(name).running)
    kept = [path.stat().st_size for path in rig.run_dir.glob(f"{name}.log*")]
    assert len(kept) == 2
    assert sum(kept) < 2 * MAX_OUTPUT_BYTES + 64 * 1024
    assert engine.output(name, 2) == f"{MAX_OUTPUT_BYTES // 2}\nthe end\n"


def test_the_end_of_the_older_output_is_kept_when_a_new_file_has_begun(rig, engine):
    line = "x" * 1023
    name = rig.add_command(shell(f"yes {line} | head -n {MAX_OUTPUT_BYTES // 1024}; echo the end"))
    engine.start(name)
    wait_for(lambda: not engine.inspect(name).running)
    assert engine.output(name, 2) == f"{line}\nthe end\n"
    assert (rig.run_dir / f"{name}.log").stat().st_size < MAX_OUTPUT_BYTES


def test_output_is_bounded_without_dormouse(rig):
    """The process that started the agent has ended before the agent writes."""
    name = rig.add_command(shell(f"read line < go; seq {MAX_OUTPUT_BYTES}; echo the end; sleep 3600"))
    os.mkfifo(rig.agents_file.parent / "go")
    start_and_be_killed(rig, name)
    (rig.agents_file.parent / "go").write_text("go\n")
    wait_for(lambda: "the end" in rig.engine.output(name, 1))
    assert sum(path.stat().st_size for path in rig.run_dir.glob(f"{name}.log*")) < 2 * MAX_OUTPUT_BYTES + 64 * 1024


def test_the_exit_code_is_kept_without_dormouse(rig):
    name = rig.add_command(shell("read line < go; exit 3"))
    os.mkfifo(rig.agents_file.parent / "go")
    start_and_be_killed(rig, name)
    (rig.agents_file.parent / "go").write_text("go\n")
    wait_for(lambda: not rig.engine.inspect(name).running)
    assert rig.engine.inspect(name).exit_code == 3


def test_a_command_that_the_kernel_refuses_is_rejected(rig, engine):
    script = rig.agents_file.with_name("agent.sh")
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    name = rig.add_command('"./agent.sh"')
    with pytest.raises(StartRejected, match=r"cannot be run .*agent\.sh") as raised:
        engine.start(name)
    assert raised.value.exit_code == 127
    wait_for(lambda: not engine.inspect(name).running)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('comand = "true"', "command='' is not set; comand is no key of an agent, did you mean command?"),
        ("", "command='' is not set"),
        ('command = "true"\nidle-timeout = "soon"', "idle-timeout='soon' is no duration"),
        ('command = "true"\nready = "http"', "ready='http' needs a port: set port"),
        ('command = "true"\nready = "health"', "ready='health' is for containers: use http, tcp or running"),
    ],
)
def test_an_error_speaks_of_keys(rig, engine, lines, said):
    rig.agents_file.write_text(f"[agent]\n{lines}\n")
    seen = engine.inspect("agent")
    assert str(seen.labels).startswith(f"agent: {said}")
    with pytest.raises(LabelError):
        engine.start("agent")


def test_an_unknown_key_is_a_warning_with_the_key_that_was_meant(rig, engine):
    rig.agents_file.write_text('[agent]\ncommand = "true"\nidel-timeout = "5m"\ncolour = "red"\n')
    assert engine.inspect("agent").warnings == (
        "idel-timeout is no key of an agent, did you mean idle-timeout?",
        "colour is no key of an agent",
    )


def test_a_missing_instance_is_missed_in_the_agents_file(rig, engine):
    with pytest.raises(Missing) as raised:
        engine.inspect("agent")
    assert raised.value.remedy == "write a table [agent] into the agents file"
