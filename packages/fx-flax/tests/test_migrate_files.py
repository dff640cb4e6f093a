"""`fx migrate` on files: dependencies, notebooks, directories, writing, what the command says."""

import json
import os
import re
import stat

import pytest

pytest.importorskip("libcst")

from click.testing import CliRunner
from fx_flax.errors import UnreadableSourceError
from fx_flax.migration import command
from fx_flax.migration.dependencies import migrate_dependencies
from fx_flax.migration.notebook import migrate_notebook
from fx_flax.migration.tree import MigratedFile, candidates, migrate_tree, write

PROGRAM = "import flax.linen as nn\n\nlayer = nn.Dense(3)\n"


def dependencies(name: str, text: str) -> str:
    done = migrate_dependencies(name, text.encode(), {"fx_linen", "fx_core"})
    assert migrate_dependencies(name, done.text, {"fx_nnx"}).text == done.text
    return done.text.decode().replace(">=0.1,<0.2", "@")


def test_lines_of_requirements():
    text = "jax>=0.4\nflax[all] >= 0.8, <1  # nets\n  Flax==0.7; python_version > '3.9'\r\nflaxlib\nmy-flax\nflax"
    assert dependencies("requirements-dev.txt", text) == (
        "jax>=0.4\nfx-core@  # nets\nfx-linen@\n"
        "  fx-core@ ; python_version > '3.9'\r\n  fx-linen@ ; python_version > '3.9'\r\n"
        "flaxlib\nmy-flax\nfx-core@\nfx-linen@"
    )
    done = migrate_dependencies("requirements.txt", b"-e git+https://x/flax.git#egg=flax\n# flax\n", ())
    assert [(finding.line, finding.kind) for finding in done.findings] == [(1, "left")]


def test_every_requirement_has_a_range():
    done = migrate_dependencies(
        "requirements.txt", b"flax\n", {"fx_flax", "fx_nnx", "fx_ckpt", "fx_train", "fx_bridge"}
    )
    assert re.sub(r">=0\.1,<0\.2", "@", done.text.decode()).split() == [
        "fx-bridge@",
        "fx-ckpt@",
        "fx-flax@",
        "fx-nnx@",
        "fx-train@",
    ]


def test_dependencies_of_projects_but_not_their_keywords():
    text = (
        '[project]\nname = "flax"\nkeywords = ["flax"]\ndependencies = [\n    "jax",\n    "flax>=0.8",  # c\n]\n'
        "[project.optional-dependencies]\nx = ['flax;python_version>\"3\"', 'y']\n"
        '[dependency-groups]\ndev = ["flax"]\n[tool.poetry.dependencies]\nflax = "^0.8"\n[tool.other]\nflax = "^0.8"\n'
    )
    assert dependencies("pyproject.toml", text) == (
        '[project]\nname = "flax"\nkeywords = ["flax"]\n'
        'dependencies = [\n    "jax",\n    "fx-core@",\n    "fx-linen@",  # c\n]\n'
        "[project.optional-dependencies]\n"
        "x = ['fx-core@ ;python_version>\"3\"', 'fx-linen@ ;python_version>\"3\"', 'y']\n"
        '[dependency-groups]\ndev = ["fx-core@", "fx-linen@"]\n'
        '[tool.poetry.dependencies]\nfx-core = "@"\nfx-linen = "@"\n[tool.other]\nflax = "^0.8"\n'
    )
    with pytest.raises(UnreadableSourceError, match="Expected"):
        migrate_dependencies("pyproject.toml", b"[flax", ())


def test_dependencies_of_setup_cfg():
    text = "[metadata]\nname = flax\nkeywords =\n    flax\n[options]\ninstall_requires =\n    jax\n    flax>=0.6\n"
    assert dependencies("setup.cfg", text) == text.replace("    flax>=0.6\n", "    fx-core@\n    fx-linen@\n")


def notebook(*sources: object) -> bytes:
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in sources]
    cells.insert(1, {"cell_type": "markdown", "metadata": {}, "source": ["flax.linen is fine é"]})
    return (json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}, indent=1, ensure_ascii=False) + "\n").encode()


def test_cells_of_a_notebook_are_one_program_that_keeps_the_rest():
    before = [
        ["!pip install flax\n", "%load_ext x\n", "from flax import nnx\n", "if x:\n", "    %time f()\n", "y = !ls"],
        "%%bash\nimport flax",
        ["nnx.statelib.State\n", "nnx.relu??\n", "from flax import optim"],
    ]
    done = migrate_notebook(notebook(*before))
    before[0][2] = "import fx_nnx as nnx\n"
    before[2][0] = "nnx.states.State\n"
    assert done.text == notebook(*before)
    assert done.packages == {"fx_nnx"}
    assert migrate_notebook(done.text).text == done.text
    assert [(finding.line, finding.name) for finding in done.findings] == [(3, "code cell 3: flax.optim")]
    with pytest.raises(UnreadableSourceError, match="no notebook"):
        migrate_notebook(b"{}")
    with pytest.raises(UnreadableSourceError, match="laid out"):
        migrate_notebook(notebook("import flax").replace(b'"nbformat": 4', b'"nbformat":  4'))


@pytest.fixture
def project(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.py").write_text(PROGRAM)
    (tmp_path / "src/b.py").write_text("import flax\nflax.optim\n")
    (tmp_path / "src/c.py").write_text("import flax\nx = = 1\n")
    (tmp_path / "src/plain.py").write_text("x = 1\n")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/base.txt").write_text("flax\n")
    for hidden in (".git", "venv", "env"):
        (tmp_path / hidden).mkdir()
        (tmp_path / hidden / "a.py").write_text(PROGRAM)
    (tmp_path / "env/pyvenv.cfg").write_text("")
    return tmp_path


def test_what_is_looked_at(project):
    os.symlink(project / "src", project / "link")
    names = [str(path.relative_to(project)) for path in candidates([project])]
    assert names == ["requirements/base.txt", "src/a.py", "src/b.py", "src/c.py", "src/plain.py"]
    told: list[tuple[int, int]] = []
    files = migrate_tree([project], lambda done, of: told.append((done, of)))
    assert told == [(number, 5) for number in range(1, 6)]
    assert [(file.path.name, file.changed, file.done) for file in files] == [
        ("base.txt", True, True),
        ("a.py", True, True),
        ("b.py", False, False),
        ("c.py", False, False),
    ]
    assert files[0].after.startswith(b"fx-linen")


def test_the_command_shows_then_writes_then_finds_nothing(project):
    run = CliRunner()
    shown = run.invoke(command.migrate, [str(project)])
    assert shown.exit_code == 1
    assert "-import flax.linen as nn\n+import fx_linen as nn\n" in shown.output
    assert f"{project / 'src/b.py'}:2: left: flax.optim: Flax 0.12" in shown.output
    assert f"{project / 'src/c.py'}: left alone: line 2" in shown.output
    assert "2 files would change, 2 need a look by hand. `--write` changes them." in shown.output
    assert (project / "src/a.py").read_text() == PROGRAM
    written = run.invoke(command.migrate, [str(project), "--write"])
    assert written.exit_code == 1
    assert (project / "src/a.py").read_text() == "import fx_linen as nn\n\nlayer = nn.Dense(3)\n"
    assert (project / "src/c.py").read_text() == "import flax\nx = = 1\n"
    assert "0 files would change, 2 need" in run.invoke(command.migrate, [str(project)]).output
    assert run.invoke(command.migrate, [str(project / "src/a.py")]).exit_code == 0
    assert run.invoke(command.migrate, [str(project / "nowhere.py")]).exit_code == 2


def test_the_report_for_programs(project):
    report = json.loads(CliRunner().invoke(command.migrate, [str(project / "src"), "--json"]).output)
    assert (report["written"], report["changed"], report["left"], report["failed"]) == (False, 1, 2, {})
    first, second, third = report["files"]
    assert first["diff"].startswith("--- a/")
    assert second["findings"] == [
        {"line": 2, "name": "flax.optim", "why": second["findings"][0]["why"], "kind": "left"}
    ]
    assert third["unreadable"].startswith("line 2")


def test_writing_keeps_permissions_and_links_and_never_a_half(tmp_path, monkeypatch):
    target, link = tmp_path / "target.py", tmp_path / "link.py"
    target.write_text(PROGRAM)
    target.chmod(0o751)
    link.symlink_to(target)
    (file,) = migrate_tree([link])
    write(file)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o751
    assert target.read_bytes() == file.after
    with pytest.raises(OSError, match="has changed in the meantime"):
        write(file)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        write(MigratedFile(target, file.after, b"new"))
    assert target.read_bytes() == file.after
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.py", "target.py"]


def test_without_libcst_the_command_says_what_to_install(project, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = CliRunner().invoke(command.migrate, [str(project)])
    assert done.exit_code == 1
    assert "pip install 'fx-flax[migrate]'" in done.output


def test_directories_that_may_not_be_read_are_passed_over(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "net.py").write_text(PROGRAM)
    looked, found = os.stat, []

    def stat_of(path, *args, **kwargs):
        if "closed" + os.sep in os.fspath(path):
            found.append(path)
            raise PermissionError(13, "Permission denied", path)
        return looked(path, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", stat_of)
        assert candidates([tmp_path]) == [tmp_path / "net.py"]
    assert found
