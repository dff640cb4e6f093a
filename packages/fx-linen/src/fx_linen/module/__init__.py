"""Modules: how networks are described, named, bound to variables and run."""

from fx_linen.module._base import ModuleBase
from fx_linen.module._context import (
    current_module,
    detached,
    disable_named_call,
    enable_named_call,
    enclosing_module,
    override_named_call,
)
from fx_linen.module._errors import UnboundModuleError
from fx_linen.module._functional import apply, init, init_with_output, merge_param
from fx_linen.module._intercept import Interceptor, InterceptorContext, intercept_methods
from fx_linen.module._methods import compact, compact_name_scope, nowrap, wrap_method_once
from fx_linen.module._module import Module
from fx_linen.module._rebind import Naming, absorb_state, module_scopes, naming_of, rebind, resume_naming
from fx_linen.module._share import share_scope

__all__ = [
    "Interceptor",
    "InterceptorContext",
    "Module",
    "ModuleBase",
    "Naming",
    "UnboundModuleError",
    "absorb_state",
    "apply",
    "compact",
    "compact_name_scope",
    "current_module",
    "detached",
    "disable_named_call",
    "enable_named_call",
    "enclosing_module",
    "init",
    "init_with_output",
    "intercept_methods",
    "merge_param",
    "module_scopes",
    "naming_of",
    "nowrap",
    "override_named_call",
    "rebind",
    "resume_naming",
    "share_scope",
    "wrap_method_once",
]
