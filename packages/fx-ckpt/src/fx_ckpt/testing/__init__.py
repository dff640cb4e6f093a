"""What can happen to checkpoints, done to them: crashes, failing disks, damage, hostile files.

The tests of fx-ckpt use it, and authors of backends may. ``python -m fx_ckpt.testing`` prints the tables of
``docs/reliability.md``. Needs the extra ``fx-core[testing]``.
"""
