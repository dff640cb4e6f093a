"""The first commands of the chapter "Write a plugin" do what it shows, in an empty folder."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHAPTER = Path(__file__).resolve().parents[2] / "docs/write_a_plugin.md"


def transcript():
    """The commands of the chapter's first block, each with the lines that it shows."""
    block = CHAPTER.read_text().partition("```text\n")[2].partition("```")[0]
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(shlex.split(part.splitlines()[0]), part.splitlines()[1:]) for part in parts]


def install(site, package):
    """Does what ``pip install`` of the chapter does, beside what is there."""
    if importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    else:
        uv = shutil.which("uv")
        assert uv, "neither pip nor uv is there to install with"
        command = [uv, "pip", "install", "--python", sys.executable]
    command += ["-q", "--no-deps", "--target", str(site.directory), str(package)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run(site, command, here):
    program, *arguments = command
    if program == "pip":
        assert arguments[:4] == ["install", "-q", "-e", "."]
        return install(site, here)
    if program == "fx":
        return site.fx(*arguments, cwd=here, FX_DISABLE_PLUGINS="fx-demo-plugin")  # of which the doctor says more
    if program == "pytest":
        return site.python("-m", "pytest", *arguments, "-W", "error", "-p", "no:cacheprovider", cwd=here)
    assert program == "python"
    return site.python(*arguments, cwd=here)


def steady(lines):
    """Lines without what differs from machine to machine."""
    text = re.sub(
        r"in [\d.]+s.*|\d+ plugins, \d+ entries|^[.s]+ *\[ *\d+%\]$", "", "\n".join(lines), flags=re.MULTILINE
    )
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def test_it_takes_less_than_ten_commands():
    assert 5 <= len(transcript()) < 10


@pytest.mark.slow
def test_the_chapter_shows_what_happens(site, tmp_path):
    here = tmp_path
    for command, shown in transcript():
        if command[0] == "cd":
            here = here / command[1]
            continue
        done = run(site, command, here)
        assert done.returncode == 0, done.stdout + done.stderr
        assert steady(done.stdout.splitlines()) == steady(shown), command
