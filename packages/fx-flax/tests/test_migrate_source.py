"""What `fx migrate` makes of programs: imports in all forms, names in use, text, and what it cannot do."""

import importlib.util
import re
import sys
import textwrap

import pytest

pytest.importorskip("libcst")

from fx_flax.errors import UnreadableSourceError
from fx_flax.migration.places import FACADES, LATER, SHADOWED, main_place
from fx_flax.migration.source import migrate_source
from fx_flax.table import flax_modules, module_names


def migrated(program: str) -> str:
    done = migrate_source(textwrap.dedent(program).encode())
    assert [finding for finding in done.findings if finding.kind == "left"] == []
    assert migrate_source(done.text).text == done.text
    return done.text.decode()


def left(program: str) -> list[tuple[int, str]]:
    done = migrate_source(textwrap.dedent(program).encode())
    again = migrate_source(done.text)
    assert again.text == done.text
    return [(finding.line, finding.name) for finding in done.findings if finding.kind == "left"]


WRITER = "fx_train.tensorboard.SummaryWriter\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import flax.linen as nn\n", "import fx_linen as nn\n"),
        ("from flax import linen as nn\n", "import fx_linen as nn\n"),
        ("from flax import nnx\n", "import fx_nnx as nnx\n"),
        ("from flax import linen, struct\n", "from fx_core import struct\nimport fx_linen as linen\n"),
        ("import flax.linen\nflax.linen.Dense\n", "import fx_linen\nfx_linen.Dense\n"),
        ("import flax\nflax.core.freeze({})\n", "import fx_core\nfx_core.freeze({})\n"),
        ("import flax as f\nf.struct.dataclass\n", "import fx_core.struct\nfx_core.struct.dataclass\n"),
        ("import flax\n", "import fx_core\n"),
        ("import os, flax\nflax.linen.relu\n", "import fx_linen\nimport os\nfx_linen.relu\n"),
        ("from flax.linen import Dense as D, Conv\n", "from fx_linen import Dense as D, Conv\n"),
        ("from flax.training import train_state\n", "from fx_train import train_state\n"),
        ("from flax.training.train_state import TrainState\n", "from fx_train.train_state import TrainState\n"),
        ("from flax import metrics\nmetrics.tensorboard.SummaryWriter\n", "import fx_train.tensorboard\n" + WRITER),
        ("from flax.linen.partitioning import ScanIn\n", "from fx_transforms.lift import In as ScanIn\n"),
        ("from flax.linen.linear import PrecisionLike as P\n", "from fx_core.typing import PrecisionLike as P\n"),
        ("from flax.core import lift, freeze\n", "from fx_transforms import lift\nfrom fx_core import freeze\n"),
        ("from flax.linen import *\n", "from fx_linen import *\n"),
        ("if x: import flax.linen as nn; y = 1\n", "if x: import fx_linen as nn; y = 1\n"),
        ("from flax.nnx import statelib\nstatelib.State\n", "from fx_nnx import states as statelib\nstatelib.State\n"),
        ("from flax import nnx\nnnx.graphlib.split\n", "import fx_nnx as nnx\nnnx.graph.split\n"),
        ("from flax import nnx\nnnx.bridge.ToNNX\n", "import fx_nnx as nnx\nimport fx_bridge\nfx_bridge.ToNNX\n"),
        ("from flax import nnx\nnnx.compat.jit\n", "import fx_nnx as nnx\nimport fx_nnx.compat\nfx_nnx.compat.jit\n"),
        ("from flax import errors\nerrors.FlaxError\n", "from fx_core import errors\nerrors.FxError\n"),
        ("import flax\nprint(flax.__version__)\n", "import fx_flax\nprint(fx_flax.API_VERSION)\n"),
        ("from flax.errors import FlaxError\n", "from fx_core.errors import FxError as FlaxError\n"),
        ("from flax.linen.module import _context\n", "from fx_linen.module import _context\n"),
    ],
)  # fmt: skip
def test_imports_in_all_forms(before, after):
    assert migrated(before) == after


def test_names_are_followed_through_scopes():
    program = """
    import flax

    def f(flax):
        return flax.core.freeze  # an argument

    def g():
        from flax.core import freeze

        nn = object()
        return nn.Dense, freeze, flax.core.unfreeze
    """
    assert migrated(program) == textwrap.dedent(
        """
        import fx_core

        def f(flax):
            return flax.core.freeze  # an argument

        def g():
            from fx_core import freeze

            nn = object()
            return nn.Dense, freeze, fx_core.unfreeze
        """
    )


def test_an_import_beside_which_names_are_written_in_full():
    program = """
    from flax import serialization

    data = serialization.to_bytes(serialization.to_state_dict(serialization.from_bytes(x, y)))
    """
    assert migrated(program) == textwrap.dedent(
        """
        from fx_ckpt.formats import msgpack as serialization
        import fx_core.serialization

        data = serialization.to_bytes(fx_core.serialization.to_state_dict(serialization.from_bytes(x, y)))
        """
    )


def test_comments_and_layout_stay():
    program = (
        '# -*- coding: latin-1 -*-\r\n"""Caf\xe9."""\r\nfrom flax.linen import (  # layers\r\n    Dense,  # one\r\n'
        "    Conv,\r\n)\r\nimport flax  # all\r\n\r\nx = ( flax . core . freeze( {} ) )\r\n"
    ).encode("latin-1")
    assert migrate_source(program).text == program.replace(b"flax.linen", b"fx_linen").replace(
        b"import flax ", b"import fx_core "
    ).replace(b"flax . core . freeze", b"fx_core.freeze")


def test_annotations_that_are_text():
    program = """
    from flax import nnx
    import flax.linen

    def f(x: "nnx.statelib.State | None", y: 'list[flax.linen.Module]', z: Literal["nnx.State"]) -> "nnx.State": ...
    """
    text = migrated(program)
    assert '"nnx.states.State | None"' in text
    assert "'list[fx_linen.Module]'" in text
    assert 'Literal["nnx.State"]' in text
    assert '-> "nnx.State"' in text


def test_modules_and_objects_that_are_named_by_text():
    text = migrated(
        """
        linen = importlib.import_module("flax.linen")
        mock.patch("flax.linen.Dense.__call__", f)
        pytest.importorskip('flax.training.train_state')
        """
    )
    assert 'import_module("fx_linen")' in text
    assert 'patch("fx_linen.Dense.__call__", f)' in text
    assert "importorskip('fx_train.train_state')" in text
    done = migrate_source(b'NAMES = ["flax.linen.Dense", "flax"]\n')
    assert [(finding.kind, finding.name) for finding in done.findings] == [("note", "flax.linen.Dense")]


def test_blocks_that_lose_their_import():
    text = migrated(
        """
        import flax.linen

        if True:
            import flax
        try: import flax.core
        except ImportError: pass
        print(flax.linen.Dense)
        """
    )
    compile(text, "program", "exec")
    assert "import flax" not in text


@pytest.mark.parametrize(
    ("program", "where", "why"),
    [
        ("import flax\n\nflax.optim.Adam\n", (3, "flax.optim"), r"Flax 0\.12\.\d+ has no flax\.optim"),
        ("from flax import optim\n", (1, "flax.optim"), r"has no flax\.optim"),
        ("from flax.nnx import extract\nextract.Mask\n", (2, "extract.Mask"), "fx lacks it: inner workings"),
        ("from flax.cursor import is_named_tuple, cursor\n", (1, "flax.cursor.is_named_tuple"), "fx lacks it"),
        ("import flax\nf(flax)\n", (2, "flax"), "is used as a value"),
        ("try:\n    import flax\nexcept ImportError:\n    flax = None\n", (4, "flax"), "is used as a value"),
        ("from flax.core.scope import *\n", (1, "flax.core.scope.*"), "import them by name"),
        ("import_module('flax')\n", (1, "flax"), "no one module like it"),
    ],
)
def test_what_cannot_be_done_is_reported_and_left(program, where, why):
    assert left(program) == [where]
    (finding,) = migrate_source(program.encode()).findings
    assert re.search(why, finding.why)


def test_what_is_left_does_not_hinder_the_rest():
    done = migrate_source(
        b"from flax.cursor import is_named_tuple, cursor\nimport flax\nflax.optim; flax.core.freeze\n"
    )
    assert done.text.decode() == (
        "from fx_core.cursor import cursor\nfrom flax.cursor import is_named_tuple\n"
        "import fx_core\nimport flax\nflax.optim; fx_core.freeze\n"
    )


def test_a_module_that_is_used_as_a_value_gets_a_note():
    done = migrate_source(b"from flax import nnx\ngetattr(nnx.statelib, name)\n")
    assert done.text == b"import fx_nnx as nnx\ngetattr(nnx.states, name)\n"
    assert [finding.kind for finding in done.findings] == ["note"]


@pytest.mark.parametrize(
    ("text", "why"), [(b"import flax\nx = = 1\n", "line 2"), ("import flax # \xe9\n".encode("latin-1"), "encoding")]
)
def test_text_that_is_no_program(text, why):
    with pytest.raises(UnreadableSourceError, match=why):
        migrate_source(text)


def test_programs_without_flax_are_not_looked_at():
    assert migrate_source(b"this is ( no Python").text == b"this is ( no Python"
    assert migrate_source(b"from . import flax\nfrom my.flax import x\n").findings == ()


SURVEYED = """
core.axes_scan.scan linen.fp8_ops.Fp8DotGeneralOp nnx.A nnx.Data nnx.VariableState nnx.Initializer nnx.statelib.State
nnx.filterlib.Filter nnx.variablelib.Variable nnx.traversals.flatten_mapping nnx.tracers.TraceState nnx.rnglib.Rngs
nnx.optimizer.Optimizer nnx.module.Module nnx.nn.linear.Linear nnx.nn.dtypes.promote_dtype nnx.graphlib.GraphDef
nnx.spmd.get_partition_spec linen.partitioning.ScanIn linen.linear.PrecisionLike linen.partitioning.LogicalRules
nnx.nn.normalization.LayerNorm nnx.nn.initializers.zeros nnx.object.Object nnx.pytreelib.Pytree nnx.graph.split
"""


@pytest.mark.parametrize("name", SURVEYED.split())
def test_names_that_renaming_alone_does_not_reach(name):
    package, *_, last = name.split(".")
    module = f"flax.{name}".rpartition(".")[0]
    written = [f"from {module} import {last}\n", f"import flax\nflax.{name}\n", f"from flax import {package}\n{name}\n"]
    for program in [*written, f"import {module} as m\nm.{last}\n"]:
        text = migrated(program)
        assert "flax" not in text.replace("fx_flax", "")
        if importlib.util.find_spec("fx_linen") and importlib.util.find_spec("fx_nnx"):
            exec(text, {})


def test_variables_are_not_taken_from_the_function_of_that_name():
    program = "from flax.nnx import variablelib\nvariablelib.Variable\nvariablelib.HijaxVariable\n"
    assert migrated(program) == (
        "import fx_nnx as variablelib\nfrom fx_nnx.variables import HijaxVariable\n"
        "variablelib.Variable\nHijaxVariable\n"
    )
    assert migrated("from flax.nnx.variablelib import VarDefaults\n").startswith(
        "from fx_nnx.variables.defaults import"
    )


def test_places_are_reached_by_what_is_imported():
    """A name below a face is written with the name of the face; others are imported."""
    places: set[str] = set()
    for module in flax_modules():
        known = module_names(module)
        places |= {place.partition(":")[0] for place in [*known.places.values(), *known.private.values()]}
        places |= {main_place(module) or "fx_core"}
    for place in sorted(places - LATER):
        face, *parts = place.split(".")
        if importlib.util.find_spec(face) is None or place.startswith(SHADOWED):
            continue
        found = importlib.import_module(face if face in FACADES else place)
        for part in parts if face in FACADES else ():
            found = getattr(found, part)
        assert found is sys.modules[place]
    assert not any((main_place(module) or "").startswith(SHADOWED) for module in flax_modules())
