import jax
import jax.numpy as jnp
from fx_core.compat import jax as compat


def test_what_is_traced_again_has_the_line_and_the_scope_of_its_equation():
    def recorded(x):
        with jax.named_scope("layer"):
            return jnp.sin(x)

    (equation,) = jax.make_jaxpr(recorded)(1.0).eqns

    def again(x):
        with jax.named_scope("outer"), compat.located(equation):
            return jnp.cos(x)

    (made,) = jax.make_jaxpr(again)(1.0).eqns
    assert compat.sources(made)[0] == compat.sources(equation)[0]
    assert compat.sources(made)[0][1] == recorded.__code__.co_firstlineno + 2
    assert str(made.source_info.name_stack) == "outer/layer"
