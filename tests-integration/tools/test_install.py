"""`tools/install.py`: what it hands to pip, from a clone, from wheels and from git."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def dry_run(*arguments, code=0):
    command = [sys.executable, str(ROOT / "tools/install.py"), "--dry-run", "--with", "pip install", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout.split()[2:] if code == 0 else done.stderr


def test_a_package_brings_what_it_needs_of_the_family():
    core, transforms, linen = dry_run("fx-linen")
    assert [core, transforms, linen] == [str(ROOT / "packages" / n) for n in ("fx-core", "fx-transforms", "fx-linen")]
    assert dry_run("--editable", "fx-ckpt") == [
        *("-e", str(ROOT / "packages/fx-core")),
        *("-e", str(ROOT / "packages/fx-ckpt")),
    ]


def test_extras_bring_extras_and_packages():
    core, ckpt = dry_run("fx-ckpt[cli,orbax]")
    assert core.strip("'").endswith("fx-core[cli]")
    assert ckpt.strip("'").endswith("fx-ckpt[cli,orbax]")
    assert [Path(p.strip("'")).name.split("[")[0] for p in dry_run("fx-flax[nnx]", "fx-core")] == [
        *("fx-core", "fx-transforms", "fx-nnx", "fx-flax"),
    ]


def test_git_and_wheels(tmp_path):
    text = " ".join(dry_run("--git", "https://host/fx.git@v1", "fx-train"))
    assert "'fx-train @ git+https://host/fx.git@v1#subdirectory=packages/fx-train'" in text
    (tmp_path / "fx_core-0.1.0-py3-none-any.whl").touch()
    assert (tmp_path / "fx_core-0.1.0-py3-none-any.whl").as_uri() in " ".join(
        dry_run("--wheels", str(tmp_path), "fx-core")
    )
    assert f"no wheel of fx-ckpt in {tmp_path}" in dry_run("--wheels", str(tmp_path), "fx-ckpt", code=1)


def test_unknown_names_are_errors():
    assert "There is no package fx-keras; there are: fx-core" in dry_run("fx-keras", code=1)
    assert "fx-train has no extra orbax; it has: grain" in dry_run("fx-train[orbax]", code=1)
