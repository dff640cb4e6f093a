"""What fx costs, beside other libraries, as ratios to the same work written by hand in JAX.

    nox -s bench                        # all cases and peers; writes RESULTS.md, results.json and docs/performance.md
    nox -s bench -- --quick             # few rounds of what is quick
    nox -s bench -- --case LSTM         # cases with this in their name, printed only
    python -m benchmarks linen_trace    # one module, without peers; --peers, --lib, --write as above

All sides of a case are measured in turns in one process, and medians compared, so that a busy machine disturbs all.
`benchmarks.registry` lists the modules. A module that is measured alone replaces its part of the results.
"""
