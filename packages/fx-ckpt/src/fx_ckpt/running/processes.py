"""Several processes that write one checkpoint: one makes the directory, all fill it, one makes it visible."""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from fx_core.compat.jax import coordination_client

from fx_ckpt.errors import OtherProcessError

if TYPE_CHECKING:
    from fx_ckpt.draft import Draft

_TIMEOUT_MS = 10 * 60 * 1000
_numbers = itertools.count()


def count() -> int:
    """Returns how many processes there are; devices are not touched while there is only one."""
    return 1 if coordination_client() is None else jax.process_count()


def index() -> int:
    """Returns which of them this is."""
    return 0 if count() == 1 else jax.process_index()


def write_together(draft: "Draft") -> Path:
    """Writes a checkpoint with all processes; on return it is on the disk, for all.

    Every process calls this at the same time, with its part of the same tree.

    Raises:
      OtherProcessError: it failed in another process, which raised the cause.
    """
    new = draft.directory() if index() == 0 else None

    def begin() -> str:
        if new is None:
            return ""
        new.__enter__()
        draft.begin(new.directory)
        return str(new.directory)

    directory = Path(agree(begin)[0])
    try:
        agree(lambda: draft.fill(new, directory))
    except BaseException:
        if new is not None:
            new.__exit__(*sys.exc_info())
        raise
    agree(lambda: None if new is None else new.__exit__(None, None, None))
    return draft.path


def first_only(task: Callable[[], Any]) -> None:
    """Lets the first process do something, and the others wait for it; alone, just do it.

    Raises:
      OtherProcessError: it failed in the first process, which raised the cause.
    """
    if count() == 1:
        task()
    else:
        agree(task if index() == 0 else lambda: None)


def agree(task: Callable[[], Any]) -> list[str]:
    """Runs a task in every process; if it fails anywhere, raise everywhere.

    Returns:
      What each process's task gave, as text.

    Raises:
      OtherProcessError: it failed in another process.
    """
    number, problem, answer = next(_numbers), None, ""
    try:
        answer = f"+{task() or ''}"
    except BaseException as error:
        problem, answer = error, f"-{type(error).__name__}: {error}"
    client = coordination_client()
    client.key_value_set(f"fx_ckpt/{number}/{index()}", answer)
    answers = [client.blocking_key_value_get(f"fx_ckpt/{number}/{i}", _TIMEOUT_MS) for i in range(count())]
    if problem is not None:
        raise problem
    for process, text in enumerate(answers):
        if text.startswith("-"):
            raise OtherProcessError(
                f"Process {process} could not save.",
                expected="a save by all processes",
                got=text[1:],
                fix="See the error of that process; the earlier checkpoints are as they were.",
            )
    return [text[1:] for text in answers]
