"""``fx ckpt``: looking at checkpoints, checking, comparing, converting and removing them."""
