"""Compile requirements*.in to requirements*.txt with hashes, or check that the two agree.

python -m tools.requirements            check: every pin of a .in is in its .txt, and every pin has hashes
python -m tools.requirements --write    compile
"""

import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
NAMES = ("requirements", "requirements-otel", "requirements-dev", "requirements-bench")
PIN = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?==([^\s;]+)", re.MULTILINE)
#: A requirement as pip reads it: one line, with its continuations.
COMPILED = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)((?:.*\\\n)*.*)", re.MULTILINE)


def compile_all() -> None:
    """Compile all, for Python 3.11 and later, for all platforms."""
    for name in NAMES:
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
        # A pin without its extras does not satisfy pip 23 if a package asks for `coverage[toml]`.
        options = ["--no-strip-extras", "--no-emit-index-url", "--no-emit-find-links", "--no-header"]
        options += ["--output-file", f"{name}.txt"]
        subprocess.run([sys.executable, "-m", *command, *options, f"{name}.in"], cwd=PROJECT, check=True)
        compiled = PROJECT / f"{name}.txt"
        compiled.write_text(f"# Compiled from {name}.in by `make requirements`. Do not edit.\n{compiled.read_text()}")


def find_disagreements() -> list[str]:
    """Return what is wrong, as sentences."""
    found = []
    for name in NAMES:
        wanted = dict(PIN.findall((PROJECT / f"{name}.in").read_text()))
        compiled = {
            package: (version, rest)
            for package, version, rest in COMPILED.findall((PROJECT / f"{name}.txt").read_text())
        }
        found += [
            f"{name}.txt has not {package}=={version} of {name}.in: run make requirements"
            for package, version in wanted.items()
            if compiled.get(package.lower(), ("",))[0] != version
        ]
        found += [
            f"{name}.txt: {package} has no hash"
            for package, (_, rest) in compiled.items()
            if "--hash=sha256:" not in rest
        ]
    return found


def main() -> None:
    """Compile if `--write` is given, and check in any case."""
    if "--write" in sys.argv[1:]:
        compile_all()
    if found := find_disagreements():
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
