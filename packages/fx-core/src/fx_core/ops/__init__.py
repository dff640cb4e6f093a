"""Layer mathematics as functions of arrays and keys, shared by Linen and NNX."""
