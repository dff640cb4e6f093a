"""fx_core.errors: every class says its values, and survives a trip between processes."""

import dataclasses
import pickle

import pytest
from fx_core import errors

# Every class of the reference API with arguments, and what its text has to contain.
REFERENCE = {
    "AlreadyExistsError": (("dir/checkpoint_3",), ["dir/checkpoint_3", "overwrite=True"]),
    "ApplyModuleInvalidMethodError": ((len,), ["<built-in function len>"]),
    "ApplyScopeInvalidVariablesStructureError": (({"params": {"params": {}}},), ["params"]),
    "ApplyScopeInvalidVariablesTypeError": ((), []),
    "AssignSubModuleError": (("Dense",), ["Submodule Dense", "@compact", "setup"]),
    "CallCompactUnboundModuleError": ((), ["apply"]),
    "CallSetupUnboundModuleError": ((), ["setup()", "bind"]),
    "CallShareScopeOnUnboundModuleError": ((), ["share_scope"]),
    "CallUnbindOnUnboundModuleError": ((), ["bind"]),
    "CursorFindError": (("first", "second"), ["first and second", "find_all"]),
    "DescriptorAttributeError": ((), ["AttributeError"]),
    "ImmutableVariableError": (("cannot write",), ["cannot write"]),
    "IncorrectPostInitOverrideError": ((), ["super().__post_init__()"]),
    "InvalidCheckpointError": (("dir", 4), ["dir", "step 4"]),
    "InvalidFilterError": ((3.5,), ["3.5"]),
    "InvalidInstanceModuleError": ((), ["instance"]),
    "InvalidRngError": (("no stream 'dropout'",), ["no stream 'dropout'"]),
    "InvalidScopeError": (("enc",), ["enc"]),
    "JaxTransformError": ((), []),
    "LazyInitError": (("partial",), ["partial"]),
    "ModifyScopeVariableError": (("params", "w", "/enc"), ["params", "w", "/enc"]),
    "MultipleMethodsCompactError": ((), ["more than one compact method"]),
    "NameInUseError": (("param", "w", "Net"), ["param", "w", "Net"]),
    "PartitioningUnspecifiedError": (("box",), ["'box'", "partition_name"]),
    "ReservedModuleAttributeError": (({"parent": int, "width": int},), ["parent, width"]),
    "ScopeCollectionNotFound": (("stats", "mean", "/bn"), ["stats", "mean", "/bn"]),
    "ScopeParamNotFoundError": (("w", "/dense"), ["w", "/dense"]),
    "ScopeParamShapeError": (("w", "/dense", (2, 3), (2, 4)), ["w", "/dense", "(2, 3)", "(2, 4)"]),
    "ScopeVariableNotFoundError": (("mean", "stats", "/bn"), ["mean", "stats", "/bn"]),
    "SetAttributeFrozenModuleError": (("Net", "width", 3), ["'width' of Net", "width = 3", "setup()"]),
    "SetAttributeInModuleSetupError": ((), ["setup()"]),
    "TraceContextError": (("leaked",), ["leaked"]),
    "TransformTargetError": ((7,), ["got: 7"]),
    "TransformedMethodReturnValueError": (("make",), ["'make'"]),
    "TraverseTreeError": ((None, None), ["neither"]),
}
OURS = {
    "StateDictMismatchError": (("dict", "./a", ["x"], ["y"], ("x",), ("y",)), ["missing 'x'; unknown 'y'", "./a"]),
    "ItemNotFoundError": (("There is no 'k'.",), ["There is no 'k'."]),
    "ShardingRuleError": (("Rules disagree.",), ["Rules disagree."]),
}
KINDS = {
    errors.ArgumentError: [ValueError],
    errors.ArgumentTypeError: [TypeError, ValueError, errors.ArgumentError],
    errors.DtypeError: [ValueError, errors.ArgumentError],
    errors.ShapeMismatchError: [ValueError, errors.ArgumentError],
    errors.ImmutableError: [dataclasses.FrozenInstanceError, AttributeError, ValueError],
    errors.InvalidAttributeError: [AttributeError],
    errors.ItemNotFoundError: [KeyError, IndexError, LookupError],
    errors.MissingPackageError: [ImportError, ModuleNotFoundError],
    errors.UnsupportedOperationError: [NotImplementedError],
    errors.ShardingRuleError: [ValueError],
}


@pytest.mark.parametrize("name", [*REFERENCE, *OURS])
def test_errors_print_their_values_and_pickle(name):
    arguments, parts = {**REFERENCE, **OURS}[name]
    cls = getattr(errors, name)
    assert issubclass(cls, errors.FxError)
    error = cls(*arguments)
    for part in parts:
        assert part in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == str(error)
    assert (again.path, again.collection, again.fix) == (error.path, error.collection, error.fix)
    assert cls.__doc__


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_what_programs_catch_and_pickle_with_their_fields(kind):
    error = kind("It is wrong.", path="Model/layer", collection="params", expected=1, got=(2,), fix="Mend it.")
    assert str(error) == (
        "It is wrong.\n  where: Model/layer (collection 'params')\n  expected: 1\n  got: (2,)\n  what to do: Mend it."
    )
    assert all(isinstance(error, builtin) for builtin in KINDS[kind])
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.got) == (kind, str(error), (2,))


def test_every_name_of_the_package_is_there():
    for name in errors.__all__:
        assert isinstance(getattr(errors, name), type)


def test_fields_are_there_for_programs():
    error = errors.StateDictMismatchError("dict", "./a", ["x"], ["y"], missing=("x",), unknown=("y",))
    assert (error.path, error.expected, error.got, error.missing, error.unknown) == (
        "./a",
        ["x"],
        ["y"],
        ("x",),
        ("y",),
    )
    rule = errors.ShardingRuleError("Uneven.", name="embed", shape=(6, 3), got=6)
    assert (rule.name, rule.shape, rule.got) == ("embed", (6, 3), 6)


def test_a_place_that_is_told_later_survives_pickling():
    error = errors.ArgumentError("Wrong rate.", expected="a number between 0 and 1", got=2).locate("Model/dropout")
    again = pickle.loads(pickle.dumps(error))
    for found in (error, again):
        assert found.path == "Model/dropout"
        assert "\n  where: Model/dropout\n  expected: a number between 0 and 1\n  got: 2" in str(found)
