"""The table of translated primitives in the documentation is that of the code.

``FX_WRITE=1`` writes it anew.
"""

import os
from pathlib import Path

from fx_export.onnx.primitives import own_primitives

PAGE = Path(__file__).resolve().parents[2] / "docs" / "onnx_coverage.md"
TEXT = """# Primitives in ONNX

What the exporter `onnx` translates. The tests of fx-export compare them with JAX in ONNX Runtime, in the
dtypes that have kernels, but for names of other releases of JAX and those that only appear inside others (`UNSEEN`
in `test_onnx_primitives.py`). A network that uses others gets one error that lists all of them, with module and source
line; see [Export](export.md) for how a plugin adds translations.

| primitive | what it becomes |
|---|---|
"""


def table() -> str:
    return TEXT + "".join(f"| `{name}` | {line} |\n" for name, line in own_primitives().items())


def test_the_table_is_up_to_date():
    if os.environ.get("FX_WRITE"):
        PAGE.write_text(table())
    assert PAGE.read_text() == table(), "run this test with FX_WRITE=1"
