"""The documents name files that exist, and nothing refers to documents that do not ship."""

import re
import subprocess

import pytest

from tests.servers import PROJECT

DOCUMENTS = sorted(path.relative_to(PROJECT) for path in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
#: A path in backticks that begins with one of our folders or is a file at the top.
PATH = re.compile(
    r"`((?:access|agents_ui|benchmarks|config|docs|events|lifecycle|telling|tests|tools|\.ci)/[\w./-]*\w/?"
    r"|[\w-]+\.(?:py|toml|in|ini))`"
)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)\)")
NOT_SHIPPED = re.compile(r"\b(?:DESIGN|NEXT|CASES|EVIDENCE|STYLE)\.md\b|\bshared/")
#: Module names without a folder are explained by the sentence around them.
BESIDE = {"process.py", "probes.py", "leader.js"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_the_files_that_a_document_names_exist(document):
    named = set(PATH.findall((PROJECT / document).read_text())) - BESIDE
    assert not [path for path in sorted(named) if not (PROJECT / path).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_the_links_of_a_document_lead_somewhere(document):
    folder = (PROJECT / document).parent
    assert not [link for link in LINK.findall((PROJECT / document).read_text()) if not (folder / link).exists()]


def test_nothing_refers_to_a_document_that_does_not_ship():
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    found = []
    for name in listed.splitlines():
        path = PROJECT / name
        if path == PROJECT / "tests" / "test_docs.py" or path.suffix in (".png", ".LICENSE") or not path.is_file():
            continue
        found += [name for line in path.read_text().splitlines() if NOT_SHIPPED.search(line)]
    assert not found
