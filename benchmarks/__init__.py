"""What fx costs, as ratios to the same work written by hand in JAX.

    nox -s bench                  # all cases
    nox -s bench -- linen_trace   # one
    nox -s bench -- --peers       # with Flax where it is installed

Both sides of a ratio are measured in turns in one process, and medians compared, so that a busy machine disturbs both.
Two cases need new processes: imports, and ``linen_init``, the CPU time of ``model.init`` against it under ``jit``.
"""
