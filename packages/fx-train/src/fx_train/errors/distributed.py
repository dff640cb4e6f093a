"""Errors of several processes and devices."""

from collections.abc import Mapping, Sequence
from typing import Any

from fx_core.errors import FxError


class MeshDescriptionError(FxError):
    """A mesh cannot be made from a description.

    ::

      make_mesh("data:3, model:2")       # 8 devices
      make_mesh("data:-1, model:2")      # as many as there are, here 4
    """

    def __init__(self, description: str, devices: int, expected: str):
        super().__init__(
            f"No mesh can be made from {description!r}.",
            expected=expected,
            got=f"{description!r} and {devices} devices",
            fix="Write one axis as name:-1 to let it take what is left.",
        )


class MeshAxisError(FxError):
    """A mesh has no axis of this name."""

    def __init__(self, name: object, axes: Sequence[Any]):
        super().__init__(
            f"The mesh has no axis {name!r}.", expected=f"one of {', '.join(map(str, axes))}", got=repr(name)
        )


class UnevenMeshError(FxError):
    """On this mesh the processes' parts of a batch overlap, have gaps, or differ in size."""

    def __init__(self, axes: Sequence[str], parts: Mapping[int, Sequence[int]]):
        super().__init__(
            f"A batch that is split over {', '.join(axes)} has no equal parts for the processes.",
            expected="consecutive places along the axes for each process, as many as the others have",
            got="; ".join(f"process {process}: {list(places)}" for process, places in sorted(parts.items())),
            fix="Put the axes of the batch first in the mesh's description. Their size has to divide the number of "
            "processes, or to be a multiple of it.",
        )


class IncompleteProcessError(FxError):
    """A process knows some but not all of: coordinator, number of processes, its own index."""

    def __init__(self, known: Sequence[str], missing: Sequence[str]):
        super().__init__(
            "This process does not know its place among the others.",
            expected="coordinator, number of processes and index, or none of them",
            got=f"{', '.join(known)} without {', '.join(missing)}",
            fix="Set FX_COORDINATOR, FX_PROCESS_COUNT and FX_PROCESS_INDEX, or start with "
            "python -m fx_train.distributed.launch, srun or mpirun.",
        )


class DistributedStartError(FxError):
    """Not all processes of a program came together."""

    def __init__(
        self,
        found: Mapping[str, Any],
        cause: str,
        expected: str = "every process to call initialize, with one coordinator and number, before it uses a device",
    ):
        place = ", ".join(f"{name} {value}" for name, value in found.items()) or "found by JAX"
        super().__init__(
            "The processes did not come together.",
            expected=expected,
            got=f"{cause.strip().splitlines()[0] if cause.strip() else 'no answer'} ({place})",
            fix="See whether one of them died at its start, whether the coordinator's port can be reached, and start "
            "all anew.",
        )


class FirstProcessError(FxError):
    """What only the first process does has failed there; its own output has the cause."""

    def __init__(self):
        super().__init__("The first process failed at what it does for all.", fix="Look at the output of process 0.")


class NoRayWorkerError(FxError):
    """A process that Ray Train did not start asks for its place among the workers.

    ::

      fx_train.distributed.ray.initialize()      # in the program that makes the trainer
      JaxTrainer(loop, ...).fit()                # in loop, which the workers run
    """

    def __init__(self):
        super().__init__(
            "This process is no worker of a Ray Train job.",
            expected="a call in the loop function of a trainer, such as ray.train.v2.jax.JaxTrainer",
            fix="Call it there, or fx_train.distributed.initialize for processes that something else starts.",
        )


class InvalidRuleError(FxError):
    """A rule for layouts cannot be read.

    ::

      shardings(state, mesh, {"kernel": ("data", None)})             # rules have an order: a list of pairs
      shardings(state, mesh, [("kernel", ("data", None))])
    """

    def __init__(self, rule: object, problem: str):
        super().__init__(
            "A rule for layouts cannot be read.",
            expected='a pair of a regular expression and a layout, such as ("kernel$", ("data", None))',
            got=f"{rule!r} ({problem})",
            fix="Give a list of such pairs; the first one whose pattern is found in the path of an array counts.",
        )
