"""fx_core.errors: every class says its values, and survives a trip between processes."""

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
    "AlreadyRegisteredError": (("Point",), ["Point", "override=True"]),
    "AmbiguousKeyError": (((1, "1"), "./a"), ["1, '1'", "./a"]),
    "CursorAssignError": (("k", 3, "a/b"), ["'k'", "int: 3", "a/b"]),
    "CursorAttributeError": (("k", 3, ("x", "y"), "a"), ["'k'", "x, y"]),
    "CursorIndexError": ((5, 2, "a"), ["5", "from -2 to 1"]),
    "CursorKeyError": (("k", {"x": 1}, "a"), ["'k'", "['x']"]),
    "FlattenKeyError": ((1, "/"), ["sep='/'"]),
    "FlattenTypeError": (("flatten_dict", "x" * 500), ["flatten_dict", "..."]),
    "FrozenStructError": (("Point", "x", "delete"), ["Cannot delete 'x' of Point"]),
    "InconsistentRulesError": (("a", "x", "y"), ["'a' -> 'x'", "'a' -> 'y'"]),
    "IndivisibleAxisError": (("embed", (6, 3), 0, "model", 4), ["'embed'", "(6, 3)", "'model' of size 4"]),
    "InvalidFlagValueError": (("profile", "a bool", 3), ["profile", "a bool", "3"]),
    "MeshAxisNotFoundError": (("embed", (6,), "model", {"data": 2}), ["'embed'", "(6,)", "'model'", "{'data': 2}"]),
    "MeshAxisReusedError": (("b", "a", (6,), "model", 2), ["'a' and 'b'", "(6,)", "'model' of size 2"]),
    "MeshRequiredError": (("P('data')",), ["P('data')", "jax.set_mesh"]),
    "PartitionAxisError": ((("a",), 3), ["3", "('a',)"]),
    "PartitionNameMismatchError": ((("a", "b"), 1, "L"), ["'L' at index 1", "got: 'b'"]),
    "StateDictMismatchError": (("dict", "./a", ["x"], ["y"], ("x",), ("y",)), ["missing 'x'; unknown 'y'", "./a"]),
    "StructReplaceError": (("Point", ["z"], ["x", "y"]), ["Point", "fields x, y", "got: z"]),
    "TooManyAxisNamesError": ((("a", "b"), (3,)), ["(3,)", "2 axis names"]),
    "TraversalCountError": ((1, 2), ["Too few", "2 values"]),
    "TraversalLookupError": (("k", {"x": 1}), ["'k'", "'x'"]),
    "TraversalTypeError": (("each entry", "a list", 3), ["each entry", "a list", "int: 3"]),
    "UnflattenConflictError": ((("a",),), ["('a',)"]),
    "UnknownFlagError": (("profil", ["profile", "other"]), ["Did you mean 'profile'?"]),
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
    rule = errors.IndivisibleAxisError("embed", (6, 3), 0, "model", 4)
    assert (rule.name, rule.shape, rule.got) == ("embed", (6, 3), 6)


def test_a_place_that_is_told_later_survives_pickling():
    error = errors.DropoutRateError(2).locate("Model/dropout")
    again = pickle.loads(pickle.dumps(error))
    for found in (error, again):
        assert found.path == "Model/dropout"
        assert "\n  where: Model/dropout\n  expected: a number between 0 and 1\n  got: 2" in str(found)
