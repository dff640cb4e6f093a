"""Layer mathematics as functions of arrays and keys, shared by every face of fx."""
