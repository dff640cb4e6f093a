"""Why fx is not first, in a sentence for each case, by the module of the case and a part of its name and library.

The first part that fits counts; an empty one fits all cases of the module.
"""

_CALLS = "Each call of a module enters a scope, reads its variables and promotes dtypes."
_NORMS = "Norms of fx compute moments near a value of the input, which takes more equations."
_LSTM = "The cell is set up around the loop and again inside of it, which the short trace of a cell cannot hide."
_STEP = (
    "The step is the same program; around it, modules are recognized as unchanged, and each variable is read and "
    "written: an object that the processor has to fetch, where by hand there is one list."
)
_APART = "Modules are taken apart before the transform, and what changed is written to them after it."

REASONS: dict[str, dict[str, str]] = {
    "imports": {
        "fx_train": "It imports optax, beside its own modules and those of fx-core.",
        "": "Its own modules and those of fx-core are read too.",
    },
    "first_step": {
        "stack_equal": "The loop compiles fast; the import of the library and its parameters remain.",
        "": "Unrolled networks compile nearly the same program as by hand, after the import of the library.",
    },
    "linen_trace": {"RNN": _LSTM, "transformer": f"{_CALLS} {_NORMS}", "": _CALLS},
    "nnx_trace": {"LSTM": _LSTM, "transformer": f"{_CALLS} {_NORMS}", "": _CALLS},
    "stages": {
        "trace, LSTM": _LSTM,
        "transformer": f"{_CALLS} {_NORMS} By hand it has 942 equations, with modules of fx 1,277.",
        "trace": _CALLS,
        "": "The program has as many equations as by hand, but for two of an LSTM; the rest varies from run to run.",
    },
    "init_trace": {
        "fx_linen": "`init` traces the forward pass, which yields the shapes: for the MLP in 40 ms, where the draws "
        "alone take 20 and the forward pass alone takes 27.",
        "": "Each layer is an object whose attributes are set one by one, and looked at when the state is taken: 1,759 "
        "attributes of the transformer. The draws by hand fill one dictionary. Layers of Equinox split one key, and "
        "draw uniform numbers, which takes fewer equations than truncated normal ones.",
    },
    "linen_lifted": {
        "remat of jit": "By hand twelve layers are one function, which JAX traces once; fx compares fields, variables "
        "and arguments of each of the twelve, to find out that it may use that trace.",
        "": "Variables are grouped before the transform, and scopes made inside of it.",
    },
    "nnx_lifted": {
        "one function": "By hand all layers are one function, which JAX traces once. `nnx.remat` traces each layer, as "
        "Flax does: a layer may read what changed between two calls. `stack_equal` traces one.",
        "traced before": "By hand, and in Flax, JAX has kept the derivative of the body from the call before, for the "
        "body is the same function. fx makes one for each call: what the layers are like may have changed.",
        "outside of jit": _APART,
        "LSTM": _LSTM,
        "": _APART,
    },
    "linen_step": {
        "": "The step is the same program; its parameters are dictionaries, and by hand one list. JAX takes 0.15 ms to "
        "take apart, compare and build the 450 dictionaries of 64 layers and their optimizer."
    },
    "nnx_step": {
        "nested": "Around the program, modules are recognized as unchanged, and each variable is read and written; by "
        "hand, JAX takes apart the dictionaries, compares them with those of the call before, and builds new ones.",
        "": _STEP,
    },
    "nnx_parts": {
        "merge to a new model": "An object is made for each module and each variable, and the structure recorded.",
        "update of the model": "Around the program, states are flattened in Python, the definition of the graph is "
        "compared, and each variable is written.",
    },
    "nnx_calls": {
        "donated": "All variables come back and are written, as their old buffers are gone; the step by hand donates "
        "nothing, and returns what changed.",
        "with in_shardings": "All variables come back in their layouts and are written; the step by hand has no "
        "shardings, and returns what changed.",
        "grad": "Outside of jit each operation of a layer is differentiated by itself; the product and the sum by hand "
        "are two compiled functions.",
        "train step": _STEP,
        "": _APART,
    },
    "nnx_graph": {
        "split(Param, ...)": "Variables are put in a state for each filter, with their paths.",
        "merge": "An object is made for each module and each variable, where the list of arrays needs none, and its "
        "structure is recorded, so that the next `split` walks through nothing.",
        "update": "Each variable is read and written, and the shape of its value compared with that of the old one. "
        "Before Python 3.12 an attribute of a class with `__getattr__` is read in three times the time.",
        "clone": "An object is made for each module and each variable. A copy of a model of Equinox has objects for "
        "modules only.",
        "first split": "The model is walked once, and its structure recorded, which makes all later calls short.",
        "": "The record of the structure is looked up, and checked for changes.",
    },
    "linen_init": {"": "The forward pass is traced for the shapes, and the kernel that draws is compiled."},
    "nnx_build": {
        "": "An object is made for each layer and variable, and a key derived for each parameter; by hand, kernels "
        "have plain normal numbers."
    },
    "summaries": {
        "alone": "The table traces `init`, initializers included, notes the shapes of each call, and lays out text; "
        "this denominator is the trace of the forward pass and nothing else.",
        "": "More columns are laid out than by hand.",
    },
    "decode": {
        "fx_nnx": "The cache and the parameters go in and out as states, which Python flattens at each call; by hand "
        "they are tuples and dictionaries, which JAX flattens itself.",
        "": "The cache and the parameters are dictionaries by module.",
    },
    "bridge": {
        "Linen in NNX": "The module is called through `apply`: its variables are gathered before, and written after.",
        "NNX in Linen": "The module is put together from variables of the scope, and taken apart after the call.",
    },
    "train_loop": {
        "not prefetched": "Without prefetching each step waits for the loader: the case shows what prefetching saves.",
        "prefetched": "The thread of the loader shares Python's lock and the cores with the step.",
        "Run": "Callbacks work every hundredth step, and the code of the loop comes back into the processor's caches "
        "at each step.",
        "": "A state is an object, which Python takes apart and puts together at each step.",
    },
    "ckpt": {
        "checksums": "The file is in the system's cache, so that reading is a copy, and hashing reads the bytes too.",
        "async": "Arrays are copied, and the thread that writes them is started.",
        "peak": "A file is written from buffers and read to them, beside the arrays themselves.",
        "orbax": "Orbax writes and reads chunks with an index of its own; fx hashes the files besides.",
        "save": "Bytes are hashed, and written to a draft, which takes its name at last, with a manifest.",
        "restore": "The hashes of all files are verified, before arrays are made of their bytes.",
    },
    "small_arrays": {
        "orbax": "Orbax reads the arrays here too; before, each is declared to it with dtype and shape, and compared "
        "with the metadata of the files.",
        "": "Each array is compared with its place in the target, in Python.",
    },
    "export": {"": "ONNX Runtime has other kernels than XLA, and fuses other operations."},
    "export_start": {
        "from load on": "Files are hashed; reading, linking and running take as long as for the model built again.",
        "over the model": "Starting Python and importing JAX take most of the time of both.",
        "bundle": "Files are hashed and verified, and fx-export is imported beside JAX.",
        "": "The library is imported, files are hashed and verified, and modules called.",
    },
    "compress": {
        "dynamic": "Activations are scaled and rounded at each call, which costs one row more than fewer bytes save.",
        "int4": "Two numbers of each byte are taken apart before the product, as XLA has no kernel for them on a CPU.",
        "int8": "Numbers become float32 before the product, as XLA has no kernel for int8 on a CPU.",
    },
    "memory": {
        "": "Modules of the library, its traces and the programs that draw parameters take memory; arrays are the same."
    },
    "plugins": {
        "first look-up": "Beside the entry points, the metadata of each plugin is read for its name and version, and "
        "the plugin that the name begins with is imported.",
        "all entries": "More names are listed than without plugins.",
        "": "It is a look-up in a dictionary of more names, whose time varies from run to run.",
    },
    "install": {"": "optax and what it needs are part of it, for training."},
}


def reason(module: str, case: str, library: str) -> str:
    """Give the sentence for a case and a library, or none."""
    name = f"{case}, {library}"
    return next((text for part, text in REASONS.get(module, {}).items() if part in name), "")
