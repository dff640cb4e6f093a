"""Which modules have cases, and what each of them can measure."""

import dataclasses
import importlib.util

LINEN, NNX = ("fx_linen", "flax.linen"), ("fx_nnx", "flax.nnx")
BOTH = (*LINEN, *NNX)


@dataclasses.dataclass(frozen=True)
class Group:
    """Cases of one module.

    Attributes:
      title: heading of their table.
      over: what the ratios are over.
      libraries: what the cases can measure: ours first, then peers; none if there is nothing to choose.
      quick: whether they are part of a quick run.
      seconds: how long they may take.
    """

    title: str
    over: str = "the same written by hand with JAX"
    libraries: tuple[str, ...] = ()
    quick: bool = False
    seconds: int = 240

    def ours(self) -> tuple[str, ...]:
        """Give our own libraries."""
        return tuple(name for name in self.libraries if name.startswith("fx"))

    def present(self) -> tuple[str, ...]:
        """Give the libraries that are installed."""
        found = [name for name in self.libraries if importlib.util.find_spec(name.partition(".")[0])]
        return tuple(name for name in self.libraries if name == "fx" or name in found)


GROUPS = {
    "imports": Group("Import", "`import jax`, CPU time", ("fx", "flax"), quick=True),
    "first_step": Group(
        "First step of a new process: import, init, trace, compile, run; CPU time", libraries=BOTH, seconds=420
    ),
    "linen_trace": Group("Trace and lower, functional modules", libraries=(*LINEN, "haiku"), quick=True),
    "nnx_trace": Group("Trace, object modules", libraries=(*NNX, "equinox"), quick=True),
    "stages": Group("Trace, lower and compile, CPU time", libraries=BOTH),
    "init_trace": Group("Trace of init in jit", "drawing as many arrays", (*BOTH, "haiku", "equinox"), quick=True),
    "linen_lifted": Group("Lifted transforms, functional modules", libraries=LINEN, quick=True),
    "nnx_lifted": Group("Lifted transforms, object modules", libraries=NNX, quick=True),
    "linen_step": Group("Compiled training step, functional modules", libraries=LINEN, quick=True),
    "nnx_step": Group("Compiled training step, object modules", libraries=NNX, quick=True),
    "nnx_parts": Group("split and merge around a jitted function", libraries=NNX, quick=True),
    "nnx_calls": Group("Ways to call a step, and transforms outside of jit"),
    "nnx_graph": Group("Taking models apart", "flattening as many arrays", (*NNX, "equinox"), quick=True),
    "linen_init": Group("First parameters, functional modules, CPU time", "`jax.jit(model.init)`", LINEN),
    "nnx_build": Group("First parameters, object modules, CPU time", "drawing as many numbers", NNX),
    "summaries": Group("Summary of ResNet-50", "the same table by hand with JAX and rich", BOTH, quick=True),
    "decode": Group("Decoding with a cache, one token", libraries=BOTH, quick=True),
    "bridge": Group("A wrapped module over its twin", "the twin"),
    "train_loop": Group("Training loop"),
    "ckpt": Group("Checkpoints", "writing and reading the same bytes", ("fx", "flax")),
    "small_arrays": Group("Restore of 10,000 small arrays", "the fastest way through Orbax", ("fx", "orbax")),
    "export": Group("ONNX Runtime", "jitted JAX"),
    "export_start": Group(
        "First answer of a new process, from a checkpoint and from a bundle",
        libraries=("fx", "flax"),
        seconds=900,
    ),
    "compress": Group("Quantized weights", "float32"),
    "memory": Group("Peak of memory", libraries=BOTH),
    "plugins": Group("Looking up an entry of a plugin", "of 0 plugins", quick=True),
    "install": Group("Installed size", "JAX with what it needs", quick=True),
    "growth": Group("Growth with the work", libraries=(*NNX, *LINEN, "fx_ckpt", "fx_core"), seconds=400),
}
