"""LiteRT: small files for phones and other small machines, by the converter of TensorFlow."""
