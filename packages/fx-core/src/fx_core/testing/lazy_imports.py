"""What packages that import modules later (`fx_core.lazy_imports`) have to keep."""

import ast
import importlib
import pathlib
import pkgutil
import subprocess
import sys
from types import ModuleType

__all__ = ["check_lazy_imports", "modules_imported"]

_THREADS = """
import importlib, sys, threading, jax
package = importlib.import_module(sys.argv[1])
names = [name for names in package._LATER.values() for name in names]
start, found = threading.Barrier(8), []
def look(order):
    start.wait()
    values = []
    jaxpr = jax.make_jaxpr(lambda: values.extend(getattr(package, name) for name in order))()
    found.append((order, values, len(jaxpr.eqns)))
threads = [threading.Thread(target=look, args=(names[i:] + names[:i],)) for i in range(0, 8 * 3, 3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(found) == 8, "a thread failed"
assert all([getattr(package, name) for name in order] == values for order, values, _ in found)
assert not any(equations for _, _, equations in found), "an import traces operations"
"""


def check_lazy_imports(package: ModuleType) -> None:
    """Checks a package whose table ``_LATER`` says what it imports later.

    Every name of ``__all__`` and of the table is found, in the module that the table names; type checkers see the same
    names; no name is also that of a module; threads that ask for them at once all find them; a function that asks for
    them while it is traced traces nothing.

    Raises:
      AssertionError: one of these does not hold.
    """
    later = package._LATER
    name = package.__name__
    assert {module: sorted(names) for module, names in later.items() if names} == _seen_by_type_checkers(package)
    shown = [shown for names in later.values() for shown in names]
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert len(shown) == len(set(shown)), "a name is in two modules"
    assert not modules & set(shown), "a name would be that of a module once the module is imported"
    assert set(package.__all__) <= set(dir(package))
    for module, names in later.items():
        inner = importlib.import_module(f"{name}.{module}")
        assert "." in module or getattr(package, module) is inner
        assert all(getattr(package, shown) is getattr(inner, shown) for shown in names)
    assert [shown for shown in package.__all__ if not hasattr(package, shown)] == []
    done = subprocess.run([sys.executable, "-c", _THREADS, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def modules_imported(package: str, prefix: str = "fx_") -> list[str]:
    """Returns the modules with names that begin with ``prefix`` that a new process imports with ``package``."""
    program = f"import sys, {package}\nprint(*sorted(name for name in sys.modules if name.startswith({prefix!r})))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return done.stdout.split()


def _seen_by_type_checkers(package: ModuleType) -> dict[str, list[str]]:
    assert package.__file__ is not None
    found: dict[str, list[str]] = {}
    for statement in ast.parse(pathlib.Path(package.__file__).read_text()).body:
        if not (isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")):
            continue
        for line in statement.body:
            if isinstance(line, ast.ImportFrom) and line.module and line.module != package.__name__:
                names = [alias.name for alias in line.names]
                if names == ["*"]:
                    names = importlib.import_module(line.module).__all__
                found.setdefault(line.module.removeprefix(f"{package.__name__}."), []).extend(names)
    return {module: sorted(names) for module, names in found.items()}
