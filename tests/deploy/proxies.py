"""Debian's nginx, Caddy and HAProxy for the tests, each with its file in `deploy/`."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import ClassVar, Self

from tests.conftest import need
from tests.servers import PROJECT, free_port, wait_for

NGINX = """
user root;
worker_processes 1;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    include {folder}/site.conf;
}}
"""
CADDY = """
{{
    admin localhost:{admin_port}
    http_port {http_port}
    https_port {port}
}}
"""


class ReverseProxy:
    """One program with its file in `deploy/`, in which only names, ports and paths are replaced."""

    program: ClassVar[str]
    file: ClassVar[str]

    def __init__(self, folder: Path, certificate: Path, upstreams: list[int], base_path: str) -> None:
        need("proxies", shutil.which(self.program), f"apt-get install {self.program}")
        self.folder = folder
        self.certificate = certificate
        self.http_port, self.port, self.admin_port = free_port(), free_port(), free_port()
        self.url = f"https://localhost:{self.port}{base_path}"
        self.upstreams, self.base_path = upstreams, base_path
        self.text = (PROJECT / "deploy" / self.file).read_text()
        self._replace("dormouse.example.org", "localhost")
        self.prepare()
        self.log = folder / "proxy.log"
        with self.log.open("ab") as log:
            environment = os.environ | {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=environment)

    def prepare(self) -> None:
        """Replace what is this proxy's own, and write its files."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return the command that runs it in the foreground."""
        raise NotImplementedError

    def reload(self) -> None:
        """Make it read its file again, as its service does."""
        raise NotImplementedError

    def wait_until_up(self) -> Self:
        """Wait until its port is listened on."""

        def is_up() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            with socket.socket() as found:
                return found.connect_ex(("127.0.0.1", self.port)) == 0

        wait_for(is_up, what=self.program)
        return self

    def stop(self) -> None:
        """End it, with the streams that it still serves."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def _replace(self, old: str, new: str) -> None:
        assert old in self.text, f"deploy/{self.file} has no {old!r}"
        self.text = self.text.replace(old, new)


class Nginx(ReverseProxy):
    program = "nginx"
    file = "nginx.conf"

    def prepare(self) -> None:
        lines = "\n".join(f"    server 127.0.0.1:{port};" for port in self.upstreams)
        self._replace("    server 127.0.0.1:8000;  # one line for each web process", lines)
        self._replace("listen 80;", f"listen {self.http_port};")
        self._replace("listen 443 ", f"listen {self.port} ")
        self._replace("/etc/ssl/dormouse", str(self.certificate))
        if self.base_path:
            self._replace("    location / {", f"    location {self.base_path}/ {{")
        (self.folder / "site.conf").write_text(self.text)
        (self.folder / "nginx.conf").write_text(NGINX.format(folder=self.folder))

    def command(self) -> list[str]:
        return ["nginx", "-c", f"{self.folder}/nginx.conf", "-e", f"{self.folder}/nginx.log", "-g", "daemon off;"]

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)


class Caddy(ReverseProxy):
    program = "caddy"
    file = "Caddyfile"

    def prepare(self) -> None:
        path = f" {self.base_path}/*" if self.base_path else ""
        upstreams = "".join(f" 127.0.0.1:{port}" for port in self.upstreams)
        self._replace("\treverse_proxy 127.0.0.1:8000 {", f"\treverse_proxy{path}{upstreams} {{")
        self._replace("# tls /etc/ssl/dormouse.crt", "tls /etc/ssl/dormouse.crt")
        self._replace("/etc/ssl/dormouse", str(self.certificate))
        own = CADDY.format(admin_port=self.admin_port, http_port=self.http_port, port=self.port)
        (self.folder / "Caddyfile").write_text(own + self.text)

    def command(self) -> list[str]:
        return ["caddy", "run", "--config", f"{self.folder}/Caddyfile", "--adapter", "caddyfile"]

    def reload(self) -> None:
        command = ["caddy", "reload", *self.command()[2:], "--address", f"localhost:{self.admin_port}", "--force"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


class Haproxy(ReverseProxy):
    program = "haproxy"
    file = "haproxy.cfg"

    def prepare(self) -> None:
        lines = "\n".join(f"    server web{port} 127.0.0.1:{port} check" for port in self.upstreams)
        self._replace("    server web1 127.0.0.1:8000 check", lines)
        self._replace("bind :80\n", f"bind :{self.http_port}\n")
        self._replace("bind :443 ", f"bind :{self.port} ")
        both = [Path(f"{self.certificate}.{part}").read_text() for part in ("crt", "key")]
        (self.folder / "dormouse.pem").write_text("".join(both))
        self._replace("/etc/haproxy/dormouse.pem", f"{self.folder}/dormouse.pem")
        if self.base_path:
            rule = f"use_backend dormouse if {{ path_beg {self.base_path}/ }}"
            self._replace("    default_backend dormouse", f"    {rule}")
        (self.folder / "haproxy.cfg").write_text(self.text)

    def command(self) -> list[str]:
        return ["haproxy", "-W", "-f", f"{self.folder}/haproxy.cfg"]

    def reload(self) -> None:
        self.process.send_signal(signal.SIGUSR2)


PROXIES = {"nginx": Nginx, "caddy": Caddy, "haproxy": Haproxy}


def make_certificate(folder: Path) -> Path:
    """Make a certificate and its key for `localhost`, and return their path without `.crt` and `.key`."""
    path = folder / "localhost"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", f"{path}.key", "-out", f"{path}.crt"], check=True, capture_output=True)
    return path
