"""How one of several processes ends by an error: at once, and saying what to do.

Without this, it would wait for the others before it goes (JAX does, at the end of a program), while they wait for it.
"""

import atexit
import sys
import time
from types import TracebackType

from fx_core.compat.jax import abandon_processes, coordination_client, place_among_processes

__all__ = ["end_at_once_by_errors", "lost_peer", "meet", "what_to_do"]

# The service that the processes talk to ends with the first of them, and JAX aborts whoever is left then.
_FAREWELL = 3.0
_SIGNS = ("gloo", "nccl", "coordination service", "coordination_service", "connection closed by peer")


def lost_peer(error: BaseException) -> bool:
    """Returns whether an error of JAX says that the connection to another process broke."""
    known = isinstance(error, RuntimeError | ValueError) and any(sign in str(error).lower() for sign in _SIGNS)
    before = error.__cause__ or error.__context__
    return known or (before is not None and lost_peer(before))


def meet(place: str, timeout: float) -> bool:
    """Returns whether all processes come to one place of the program in time. Unlike `barrier`, it gives up.

    It works where the devices do not, for example since another process is gone.

    Args:
      place: a name for the place, which no other meeting of this program has.
      timeout: seconds to wait for the others.
    """
    client = coordination_client()
    if client is None:
        return True
    try:
        client.wait_at_barrier(f"fx_train/{place}", round(timeout * 1000))
    except RuntimeError:
        return False
    return True


def what_to_do(error: BaseException) -> str:
    """Returns a text about the end of this process."""
    index, count = place_among_processes()
    if lost_peer(error):
        why = "lost another process, which ended or cannot be reached: its output has the cause"
    else:
        why = f"ended by {type(error).__name__}, and the others cannot go on without it"
    return (
        f"Process {index} of {count} {why}.\n"
        "  fix: Start all processes anew; a run with checkpoints goes on from its last whole one."
    )


def end_at_once_by_errors() -> None:
    """From now on, this process does not wait for the others when an uncaught error ends it."""
    former = sys.excepthook

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        former(kind, error, trace)
        print(what_to_do(error), file=sys.stderr, flush=True)
        # Runs before the end that JAX registered, which would wait.
        atexit.register(_leave)

    sys.excepthook = report


def _leave() -> None:
    index, count = place_among_processes()
    client, deadline = coordination_client(), time.monotonic() + _FAREWELL
    try:
        if index:
            client.key_value_set(f"fx_train/left/{index}", "left")
        else:
            for other in range(1, count):
                left = max(0.0, deadline - time.monotonic())
                client.blocking_key_value_get(f"fx_train/left/{other}", round(left * 1000))
            time.sleep(1)  # they said that they go, and take a moment
    except RuntimeError:
        pass  # nobody can wait for a process that was killed
    abandon_processes()
