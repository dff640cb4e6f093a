"""What is in the files: msgpack, safetensors and Orbax's trees, the extents of arrays and their digests."""
