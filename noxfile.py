"""Every check of the workspace, one session each; `nox -l` lists them.

The sessions are short on purpose: what depends on packages comes from `tools/workspace.py`, what depends on combos from
`tests-integration/combos/combos.toml`.
"""

import os
import shutil
import sys
import tomllib
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent / "tools"))
import combos as combos_table
import workspace

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["tests"]

# Tests start hundreds of Pythons; each would compile again all that it imports, which for JAX takes two seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Named Pythons make uv look for a download, which may not be there; the caller's own Python always is.
PYTHONS = os.environ.get("FX_PYTHONS", "").split() or None
PACKAGES = list(workspace.packages())
COMBOS = combos_table.load()
EVERYTHING = list(workspace.packages().values())
TEST_TOOLS = ["pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100"]
PLUGINS = [f"tests-integration/plugins/fx-{name}-plugin" for name in ("demo", "moe", "sqlite")]
WHEELS = workspace.ROOT / ".nox" / "built-wheels"
# Tests compile thousands of programs and run each once, and a quarter of a session's CPU time goes into optimizing
# them. Each package's own session compiles as users do; those that run the same tests elsewhere, or beside Flax, do
# less of it. Level 0 would save more, but rounds otherwise: it fuses no products with sums, so that equal draws differ
# in a bit.
OPTIMIZED_LESS = {"XLA_FLAGS": "--xla_backend_optimization_level=1"}


def install_editable(session: nox.Session, packages: list[workspace.Package], *more: str) -> None:
    """Install packages from their directories, with their extras."""
    session.install(*(part for p in packages for part in ("-e", p.requirement)), *more)


def build_wheels(session: nox.Session) -> dict[str, str]:
    """Build every package and the plugins of the tests, once per run of nox; wheel path by distribution name."""
    stamp = WHEELS / f"built-by-{os.getpid()}"
    if not stamp.exists():
        shutil.rmtree(WHEELS, ignore_errors=True)
        session.install("build[virtualenv]>=1.2", "hatchling>=1.27")
        for directory in [*(p.path for p in EVERYTHING), *PLUGINS]:
            session.run("python", "-m", "build", "-q", "--no-isolation", "-o", str(WHEELS), str(directory), silent=True)
        stamp.touch()
    return {wheel.name.split("-")[0].replace("_", "-"): str(wheel) for wheel in WHEELS.glob("*.whl")}


def wheels_of(session: nox.Session, names: list[str], extras: list[str]) -> list[str]:
    """Requirements that install exactly these packages from wheels, and extras such as ``fx-ckpt[orbax]``."""
    built = build_wheels(session)
    wanted = {name: [e.split("[")[1].rstrip("]") for e in extras if e.startswith(name + "[")] for name in names}
    return [f"{name}[{','.join(ex)}] @ {Path(built[name]).as_uri()}" for name, ex in wanted.items()]


@nox.session(python=PYTHONS)
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def tests(session: nox.Session, package: str) -> None:
    """Each package alone, with only what it declares: its tests and the examples in its docstrings."""
    *below, target = workspace.closure([package])
    lower = [part for p in below for part in ("-e", str(p.path))]
    session.install(*lower, "-e", target.requirement, *target.test_requirements)
    sources = [str(target.path / "src"), str(target.path / "tests")]
    session.run("pytest", "-q", "-n", "2", *(session.posargs or sources))


@nox.session(python=PYTHONS)
def integration(session: nox.Session) -> None:
    """All packages and the plugins together, and processes that SLURM and Open MPI start."""
    session.run("python", "tools/launchers.py")
    tools = ["pip>=24", "pyyaml>=6", "tensorboard>=2.17", "pillow>=10", "jsonschema>=4.18"]
    plugins = [part for directory in PLUGINS for part in ("-e", directory)]
    install_editable(session, EVERYTHING, *plugins, *TEST_TOOLS, *tools)
    parts = ["plugins", "distributed", "training", "compress", "tools"]
    session.run("pytest", "-q", "-n", "2", *(session.posargs or [f"tests-integration/{part}" for part in parts]))


@nox.session
def export(session: nox.Session) -> None:
    """Networks of Linen and NNX, exported and run by the runtimes of the formats."""
    fx = workspace.packages()
    packages = [fx[name] for name in ("fx-core", "fx-transforms", "fx-linen", "fx-nnx")]
    install_editable(session, packages, "-e", f"{fx['fx-export'].path}[onnx,tf,litert]", *TEST_TOOLS)
    session.run("pytest", "-q", "-n", "2", *(session.posargs or ["tests-integration/export"]))


@nox.session
def torch(session: nox.Session) -> None:
    """Modules of PyTorch with weights of Linen and NNX; PyTorch takes three gigabytes, so CI reads what it
    wrote once.
    """
    fx = workspace.packages()
    packages = [fx[name] for name in ("fx-core", "fx-transforms", "fx-linen", "fx-nnx", "fx-export")]
    install_editable(session, packages, *TEST_TOOLS, "torch>=2.6")
    session.run("pytest", "-q", *(session.posargs or ["tests-integration/torch"]))


@nox.session
def ray(session: nox.Session) -> None:
    """Ray Train as what starts the processes; Ray takes a gigabyte, so it has an environment of its own."""
    fx = workspace.packages()
    extras = ["-e", f"{fx['fx-ckpt'].path}[orbax]", "-e", f"{fx['fx-train'].path}[ray]"]
    session.install("-e", str(fx["fx-core"].path), *extras, *TEST_TOOLS)
    session.run("pytest", "-q", *(session.posargs or ["tests-integration/ray"]))


@nox.session
@nox.parametrize("combo", list(COMBOS), ids=list(COMBOS))
def combos(session: nox.Session, combo: str) -> None:
    """A subset of the packages from wheels: its tests run, and what is absent is absent; `--with DIR` adds a plugin."""
    names, wanted = COMBOS[combo]["packages"], COMBOS[combo]
    plugins = {directory: combos_table.needs(directory) for directory in combos_table.outside(session.posargs)}
    if plugins:
        fitting = {name: directory for directory, (name, needed) in plugins.items() if needed <= set(names)}
        if not fitting:
            session.skip(f"the plugins need other packages than {', '.join(names)}")
        built = Path(session.create_tmp()) / "outside"
        session.install("build[virtualenv]>=1.2", "hatchling>=1.27")
        for directory in fitting.values():
            session.run("python", "-m", "build", "-q", "-w", "-o", str(built), str(directory), silent=True)
        ours = wheels_of(session, names, wanted.get("extras", []))
        session.install(*ours, *map(str, built.glob("*.whl")), *TEST_TOOLS)
        for name in fitting:
            session.run("python", "tests-integration/combos/outside.py", name, env={"PYTHONPATH": ""})
        return
    session.install(*wheels_of(session, names, wanted.get("extras", [])), *TEST_TOOLS, *wanted.get("requires", []))
    files = [f"tests-integration/combos/test_{file}.py" for file in ["presence", *wanted["tests"]]]
    session.run("pytest", "-q", *files, *wanted.get("paths", []), env={"FX_COMBO": combo, "PYTHONPATH": ""})


@nox.session
def lowest(session: nox.Session) -> None:
    """Everything at the lowest versions that the packages declare."""
    together(session, "--resolution", "lowest-direct")


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """Everything at the newest versions there are for a Python."""
    together(session)


def together(session: nox.Session, *options: str) -> None:
    """The tests of all packages in one environment."""
    tools = dict.fromkeys(tool for p in EVERYTHING for tool in p.test_requirements)
    session.install(*options, *(p.requirement for p in EVERYTHING), *tools)
    paths = [str(p.path / "tests") for p in EVERYTHING]
    session.run("pytest", "-q", "-n", "2", *(session.posargs or paths), env=OPTIMIZED_LESS)


@nox.session
def wheels(session: nox.Session) -> None:
    """Build, check the metadata, install in a fresh environment, import."""
    built = build_wheels(session)
    session.install("twine>=6", "check-wheel-contents>=0.6")
    session.run("twine", "check", "--strict", *built.values(), *map(str, WHEELS.glob("*.tar.gz")))
    session.run("check-wheel-contents", *built.values())
    session.install(*built.values())
    session.run("python", "-c", "; ".join(f"import {p.module}; print({p.module}.__version__)" for p in EVERYTHING))


@nox.session(python=PYTHONS)
def parity(session: nox.Session) -> None:
    """The same seeds, inputs and bytes in Flax and in fx."""
    install_editable(session, EVERYTHING, *TEST_TOOLS, "flax>=0.12", "qwix>=0.1.8", "gguf>=0.17")
    session.run("pytest", "-q", "-n", "2", *(session.posargs or ["tests-integration/parity"]), env=OPTIMIZED_LESS)


@nox.session(name="as-flax")
def as_flax(session: nox.Session) -> None:
    """Libraries that import Flax, on fx and on Flax: the quick ones, those named, or `all`."""
    libraries = tomllib.loads((workspace.ROOT / "tests-integration/as_flax/libraries.toml").read_text())
    names = list(libraries) if session.posargs == ["all"] else session.posargs
    names = names or [name for name, library in libraries.items() if library.get("quick")]
    required = [requirement for name in names for requirement in libraries[name]["requires"]]
    flax = ["flax==0.12.8; python_version < '3.12'", "flax==0.12.12; python_version >= '3.12'"]
    packages = workspace.closure(["fx-bridge", "fx-train", "fx-ckpt", "fx-flax"])
    session.install(*(part for p in packages for part in ("-e", str(p.path))), "optax>=0.2.3", *flax, *required)
    session.run("python", "tests-integration/as_flax/compare.py", *names)


@nox.session
def quickstart(session: nox.Session) -> None:
    """Train, kill, resume and export a network on real images, from wheels in a fresh environment."""
    names = ["fx-core", "fx-transforms", "fx-linen", "fx-train", "fx-ckpt", "fx-export"]
    extras = ["fx-core[cli]", "fx-ckpt[orbax]", "fx-train[progress]", "fx-export[onnx]"]
    session.install(*wheels_of(session, names, extras), "-r", "examples/digits/requirements.txt")
    session.run("python", "tests-integration/quickstart/quickstart.py", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """Every example, shortened: it runs, resumes to the bit, and the GPT gives the same on other meshes."""
    plugin = "tests-integration/plugins/fx-moe-plugin"
    install_editable(session, EVERYTHING, "-r", "examples/digits/requirements.txt", "-e", plugin, *TEST_TOOLS)
    session.run("pytest", "-q", "-n", "2", *(session.posargs or ["tests-integration/examples"]))


@nox.session
def browser(session: nox.Session) -> None:
    """Pages about runs in a real browser; Chromium comes from the system, or from apt where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    if not os.environ.get("FX_CHROMIUM") and not any(map(shutil.which, names)):
        become_root = [] if os.geteuid() == 0 else ["sudo"]
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            session.run(*become_root, "apt-get", "-q", *command, external=True)
    install_editable(session, workspace.closure(["fx-train"]), *TEST_TOOLS)
    session.run("pytest", "-q", *(session.posargs or ["tests-integration/browser"]))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation, warnings are errors, and run all code in it; `-- --serve` shows it while you write."""
    install_editable(session, EVERYTHING, "-r", "docs/requirements.txt", *TEST_TOOLS)
    site = "docs/_build/html"
    if session.posargs == ["--serve"]:
        session.install("sphinx-autobuild>=2024.10")
        written = [
            part for name in ("api", "errors", "changes", "generated") for part in ("--ignore", f"docs/{name}/*")
        ]
        sources = ["--watch", "packages", "--re-ignore", r"__pycache__|/tests/"]
        session.run("sphinx-autobuild", "--open-browser", "--port", "0", *written, *sources, "docs", site)
        return
    readmes = [str(p.path / "README.md") for p in EVERYTHING]
    session.run("pytest", "-q", "-c", "docs/pytest.ini", "docs", "README.md", *readmes)
    session.run("pytest", "-q", "tests-integration/docs")
    session.run("sphinx-build", "-q", "-W", "--keep-going", "-b", "html", "docs", site)
    session.run("python", "tools/notebooks.py", "--check", "--run")
    session.run("python", "tools/docs_counts.py", site)


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting and lint."""
    session.install("ruff>=0.9")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types of all packages."""
    install_editable(session, EVERYTHING, "pyright[nodejs]>=1.1.390")
    session.run("pyright", *session.posargs)


@nox.session
def contracts(session: nox.Session) -> None:
    """Imports that only go down, public names as committed in each package's `api.txt`, and the words of the docs."""
    install_editable(session, EVERYTHING, "import-linter>=2.1", "griffe>=1.5")
    session.run("lint-imports", "--no-cache")
    session.run("python", "tools/imports.py")
    session.run("python", "tools/flax_names.py", "--check")
    session.run("python", "tools/error_classes.py")
    session.run("python", "tools/words.py")
    session.run("python", "tools/api.py", "--check", *(f"--against={tag}" for tag in session.posargs))


@nox.session
def bench(session: nox.Session) -> None:
    """fx and its peers over raw JAX, written to `benchmarks/RESULTS.md`; `-- --quick`, `-- --case LSTM`."""
    install_editable(session, EVERYTHING, "onnxruntime>=1.18", "flax>=0.12", "equinox>=0.11", "dm-haiku>=0.0.13")
    chosen = any(not argument.startswith("--quick") for argument in session.posargs)
    session.run("python", "-m", "benchmarks", "--peers", *([] if chosen else ["--write"]), *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Collect the changelog of one package and tag it: `nox -s release -- fx-core`."""
    session.install("towncrier>=24.8", "packaging>=24")
    session.run("python", "tools/release.py", *session.posargs)
