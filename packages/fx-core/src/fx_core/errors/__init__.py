"""The errors of fx-core, and the kinds of errors that all packages share."""

from fx_core.errors._base import (
    FxError,
)
from fx_core.errors.attention import (
    CacheFullError,
)
from fx_core.errors.checkpoint import (
    AlreadyExistsError,
    InvalidCheckpointError,
)
from fx_core.errors.descriptions import (
    DescriptionError,
)
from fx_core.errors.files import (
    DamagedFilesError,
    ManifestError,
    StorageError,
)
from fx_core.errors.kinds import (
    ArgumentError,
    ArgumentTypeError,
    DtypeError,
    ImmutableError,
    InvalidAttributeError,
    ItemNotFoundError,
    MissingPackageError,
    ShapeMismatchError,
    UnsupportedOperationError,
)
from fx_core.errors.module import (
    ApplyModuleInvalidMethodError,
    AssignSubModuleError,
    DescriptorAttributeError,
    IncorrectPostInitOverrideError,
    InvalidInstanceModuleError,
    MultipleMethodsCompactError,
    ReservedModuleAttributeError,
    SetAttributeFrozenModuleError,
    SetAttributeInModuleSetupError,
    TransformedMethodReturnValueError,
    TransformTargetError,
)
from fx_core.errors.partitioning import (
    PartitioningUnspecifiedError,
    ShardingRuleError,
)
from fx_core.errors.plugins import (
    EntryLoadError,
    EntryNameClashError,
    FxPluginWarning,
    PluginError,
    RegistryBusyError,
    UnknownEntryError,
)
from fx_core.errors.scope import (
    ApplyScopeInvalidVariablesStructureError,
    ApplyScopeInvalidVariablesTypeError,
    ImmutableVariableError,
    InvalidFilterError,
    InvalidRngError,
    InvalidScopeError,
    JaxTransformError,
    LazyInitError,
    ModifyScopeVariableError,
    NameInUseError,
    ScopeCollectionNotFound,
    ScopeParamNotFoundError,
    ScopeParamShapeError,
    ScopeVariableNotFoundError,
    TraceContextError,
)
from fx_core.errors.serialization import (
    StateDictMismatchError,
)
from fx_core.errors.tree import (
    CursorFindError,
    TraverseTreeError,
)
from fx_core.errors.unbound import (
    CallCompactUnboundModuleError,
    CallSetupUnboundModuleError,
    CallShareScopeOnUnboundModuleError,
    CallUnbindOnUnboundModuleError,
)

__all__ = [
    "AlreadyExistsError",
    "ApplyModuleInvalidMethodError",
    "ApplyScopeInvalidVariablesStructureError",
    "ApplyScopeInvalidVariablesTypeError",
    "ArgumentError",
    "ArgumentTypeError",
    "AssignSubModuleError",
    "CacheFullError",
    "CallCompactUnboundModuleError",
    "CallSetupUnboundModuleError",
    "CallShareScopeOnUnboundModuleError",
    "CallUnbindOnUnboundModuleError",
    "CursorFindError",
    "DamagedFilesError",
    "DescriptionError",
    "DescriptorAttributeError",
    "DtypeError",
    "EntryLoadError",
    "EntryNameClashError",
    "FxError",
    "FxPluginWarning",
    "ImmutableError",
    "ImmutableVariableError",
    "IncorrectPostInitOverrideError",
    "InvalidAttributeError",
    "InvalidCheckpointError",
    "InvalidFilterError",
    "InvalidInstanceModuleError",
    "InvalidRngError",
    "InvalidScopeError",
    "ItemNotFoundError",
    "JaxTransformError",
    "LazyInitError",
    "ManifestError",
    "MissingPackageError",
    "ModifyScopeVariableError",
    "MultipleMethodsCompactError",
    "NameInUseError",
    "PartitioningUnspecifiedError",
    "PluginError",
    "RegistryBusyError",
    "ReservedModuleAttributeError",
    "ScopeCollectionNotFound",
    "ScopeParamNotFoundError",
    "ScopeParamShapeError",
    "ScopeVariableNotFoundError",
    "SetAttributeFrozenModuleError",
    "SetAttributeInModuleSetupError",
    "ShapeMismatchError",
    "ShardingRuleError",
    "StateDictMismatchError",
    "StorageError",
    "TraceContextError",
    "TransformTargetError",
    "TransformedMethodReturnValueError",
    "TraverseTreeError",
    "UnknownEntryError",
    "UnsupportedOperationError",
]
