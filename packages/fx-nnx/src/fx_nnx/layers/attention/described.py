"""What a description says of attention that is kept in the layers inside it."""

from typing import Any

from fx_nnx.layers.params import promote_dtype


def described(attention: Any) -> dict[str, Any]:
    """Returns the arguments of `MultiHeadAttention` that are no attributes of its own."""
    query, out, norm = attention.query, attention.out, attention.query_ln
    return {
        "qkv_promote_dtype": query.promote_dtype,
        "out_promote_dtype": out.promote_dtype,
        "ln_promote_dtype": promote_dtype if norm is None else norm.promote_dtype,
        "qkv_dot_general": query.dot_general,
        "out_dot_general": out.dot_general,
        "qkv_dot_general_cls": query.dot_general_cls,
        "out_dot_general_cls": out.dot_general_cls,
        "keep_rngs": attention.rngs is not None or attention.dropout_rate == 0,
    }
