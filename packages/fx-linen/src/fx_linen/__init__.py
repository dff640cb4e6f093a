"""Functional neural network modules for JAX: init, apply, immutable parameters."""

from fx_linen import module
from fx_linen._version import __version__
from fx_linen.module import (
    InterceptorContext,
    Module,
    apply,
    compact,
    compact_name_scope,
    disable_named_call,
    enable_named_call,
    init,
    init_with_output,
    intercept_methods,
    merge_param,
    nowrap,
    override_named_call,
    share_scope,
    wrap_method_once,
)

__all__ = [
    "InterceptorContext",
    "Module",
    "__version__",
    "apply",
    "compact",
    "compact_name_scope",
    "disable_named_call",
    "enable_named_call",
    "init",
    "init_with_output",
    "intercept_methods",
    "merge_param",
    "module",
    "nowrap",
    "override_named_call",
    "share_scope",
    "wrap_method_once",
]
