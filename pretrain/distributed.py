"""Several processes that train one model: who they are, what they agree on, and how they end together.

    torchrun --nproc-per-node 8 -m pretrain run shards/       # one machine
    srun pretrain run shards/                                 # SLURM, one task a GPU

Each process prepares its slice of the global batch and computes its gradient; the gradients are averaged. The first
process alone writes. Whatever one process learns alone (a signal, a fault) is made known to all before they act on it.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from inspect import signature
from threading import Thread
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from curate import UserError
from curate.console import mode

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from pretrain.method import Method

T = TypeVar("T")

_PARTING = 3.0  # seconds that the first process waits for others that may be gone


@dataclass(frozen=True)
class Place:
    """Which of the processes of a job this one is.

    Attributes:
        rank: among all, from 0.
        world: how many there are.
        local_rank: among those of this machine.
        local_world: how many there are on this machine.
        launched: whether torchrun or srun started it.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    launched: bool = False


def find_place(environment: Mapping[str, str]) -> Place:
    """Read from the environment which process this is: torchrun's variables, or those of a SLURM step.

    Args:
        environment: as ``os.environ``.

    Raises:
        UserError: where the variables are no numbers or contradict one another.

    Example:
        >>> find_place({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
        Place(rank=3, world=4, local_rank=1, local_world=2, launched=True)
    """
    # A batch script itself has SLURM_PROCID too; only what srun starts is a task of a step.
    names = next(
        (
            four
            for four in (
                ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
                ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),
            )
            if four[0] in environment and four[1] in environment
        ),
        None,
    )
    if names is None:
        return Place()
    try:
        rank, world = int(environment[names[0]]), int(environment[names[1]])
        local_rank = int(environment.get(names[2], "0"))
        # SLURM writes 4(x2),3: all machines' counts; the first is near enough for sharing out the cores.
        local_world = int(environment.get(names[3], "1").split("(")[0].split(",")[0])
    except ValueError:
        raise UserError(f"the environment variables {', '.join(names)} are no whole numbers; unset them to train in one process") from None
    if not 0 <= rank < world:
        raise UserError(f"{names[0]}={rank} is no process of {names[1]}={world}; unset them to train in one process")
    return Place(rank, world, local_rank, max(1, local_world), launched=world > 1 or "TORCHELASTIC_RUN_ID" in environment)


class Elsewhere(Exception):
    """Another process met a fault and tells it; this one leaves without a word."""


class Job:
    """What the processes of one training do together. With a single process every method does nothing, at no cost.

    Args:
        place: which process this is.
        store: what all can read and write; None: a single process.
    """

    def __init__(self, place: Place | None = None, store: Any = None) -> None:
        self.place = place or Place()
        self.rank, self.world = self.place.rank, self.place.world
        self.first = self.rank == 0
        self._store = store

    def agree(self, *numbers: float) -> list[float]:
        """Give the largest value of each number over all processes."""
        if self.world == 1:
            return list(numbers)
        import torch
        import torch.distributed as dist

        values = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return values.tolist()

    def gather(self, values: list[T]) -> list[T]:
        """Put the processes' lists together, in the order of their ranks; all get the result."""
        if self.world == 1:
            return values
        import torch.distributed as dist

        lists: list[Any] = [None] * self.world
        dist.all_gather_object(lists, values)
        return [value for part in lists for value in part]

    def mean_(self, values: Tensor) -> Tensor:
        """Average a tensor over the processes, in place; on a GPU without waiting for it."""
        if self.world > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
            values /= self.world
        return values

    def average(self, numbers: dict[str, float]) -> dict[str, float]:
        """Average named numbers over the processes, which all have the same names."""
        if self.world == 1 or not numbers:
            return numbers
        import torch

        return dict(zip(numbers, self.mean_(torch.tensor(list(numbers.values()), dtype=torch.float64)).tolist(), strict=True))

    def from_first(self, action: Callable[[], T]) -> T:
        """Let the first process do something and give its result to all.

        Args:
            action: returns something small that can be pickled.

        Raises:
            Exception: what `action` raised, in the first process.
            Elsewhere: in the others then.
        """
        if self.world == 1:
            return action()
        import torch.distributed as dist

        message: list[Any] = [None, False]
        if self.first:
            try:
                message = [action(), True]
            finally:
                dist.broadcast_object_list(message, src=0)
        else:
            dist.broadcast_object_list(message, src=0)
            if not message[1]:
                raise Elsewhere
        return message[0]

    def broadcast_(self, tensor: Tensor) -> Tensor:
        """Give all the first process's values of a CPU tensor, in place."""
        if self.world > 1:
            import torch.distributed as dist

            dist.broadcast(tensor, src=0)
        return tensor

    def end(self, error: BaseException) -> NoReturn:
        """Leave because of an error, so that exactly one process of the job tells it.

        Raises:
            UserError: where another process has gone without a word (killed, out of memory, its machine down).
            SystemExit: silently, where another one tells.
            BaseException: `error`, where it is for this process to tell.
        """
        if self.world == 1 or isinstance(error, SystemExit):
            raise error
        lost = _is_lost_peer(error)
        code = 2 if lost or isinstance(error, UserError | OSError | Elsewhere) else 1
        # What is still under way on a GPU would keep the interpreter from ending.
        atexit.register(_leave, code)
        tells = not isinstance(error, Elsewhere) and self._is_first_to_tell()
        self._part()
        if not tells:
            raise SystemExit(code) from None
        if lost:
            raise UserError(
                f"one of the {self.world} processes of this job has gone (killed, or out of memory; see its machine's log), so the "
                "others stop; run the same command again to go on from the last checkpoint"
            ) from error
        raise error

    def _is_first_to_tell(self) -> bool:
        try:
            return int(self._store.add("told", 1)) == 1
        except Exception:  # the store lived in the first process, which was killed
            return self.rank == 1

    def _part(self) -> None:
        """Say that this process is about to leave. The one that keeps the store waits until the others have said so too."""
        import torch.distributed as dist

        with suppress(Exception):
            left = int(self._store.add("left", 1))
            if not self.first or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
                return
            # Hanging up wakes those that wait for this process; with a GPU at work it may itself not return.
            Thread(target=dist.destroy_process_group, daemon=True).start()
            until = time.monotonic() + _PARTING
            while left < self.world and time.monotonic() < until:
                time.sleep(0.02)
                left = int(self._store.add("left", 0))


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _is_lost_peer(error: BaseException) -> bool:
    import torch.distributed as dist

    words = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe")
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words))


@contextmanager
def processes(place: Place, choose: Callable[[], torch.device]) -> Iterator[tuple[Job, torch.device]]:
    """Meet the other processes of the job, and part from them at the end.

    Args:
        place: which process this is.
        choose: gives the device on which this process trains; gloo connects CPUs, NCCL GPUs.

    Yields:
        The job and the device. With one process nothing is opened.

    Raises:
        UserError: where the others cannot be reached, or what the block or `choose` raised, in exactly one process.
        SystemExit: silently in the others then.
    """
    if place.world == 1:
        yield Job(place), choose()
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    if place.rank > 0:  # one voice
        mode.quiet, mode.json = True, False
    _name_meeting_point(place)
    try:
        store, rank, world = next(rendezvous("env://"))
    except (dist.DistError, RuntimeError, ValueError) as error:
        at = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"process {place.rank} of {place.world} cannot reach the others at {at} ({reason})") from None
    job = Job(place, dist.PrefixStore("job", store))
    try:
        device = choose()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.PrefixStore("group", store), rank=rank, world_size=world)
        yield job, device
        job.agree(0.0)  # none leaves before all are done
    except BaseException as error:
        job.end(error)
    dist.destroy_process_group()


def _name_meeting_point(place: Place) -> None:
    """Set what torch reads: torchrun has done so, under SLURM it follows from the step."""
    environment = os.environ
    environment["RANK"], environment["WORLD_SIZE"] = str(place.rank), str(place.world)
    if "MASTER_ADDR" not in environment:
        one_machine = environment.get("SLURM_STEP_NUM_NODES", "1") == "1"
        environment["MASTER_ADDR"] = "127.0.0.1" if one_machine else environment.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1")
    if "MASTER_PORT" not in environment:
        # Steps of other jobs on the same machine meet elsewhere.
        environment["MASTER_PORT"] = str(20000 + int(environment.get("SLURM_JOB_ID", "0")) % 20000)


def spread(method: Method, job: Job, device: torch.device) -> nn.Module:
    """Wrap a method so that its processes average their gradients (DistributedDataParallel).

    Args:
        method: as `shard_parameters` left it, or whole.
        job: of the processes.
        device: where the method is.

    Returns:
        What gives the loss of a batch and a step. A sharded method and a single process's need no wrapper.
    """
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DistributedDataParallel

    if job.world == 1 or isinstance(method, FSDPModule):
        return method
    devices = [device] if device.type == "cuda" else None
    # Buffers are constants or follow from the weights: no need to send them about at every step. torch renamed the argument.
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in signature(DistributedDataParallel).parameters else "broadcast_buffers"
    more: dict[str, Any] = {buffers: False}
    return DistributedDataParallel(method, device_ids=devices, gradient_as_bucket_view=True, **more)


def shard_parameters(method: Method, units: list[nn.Module], job: Job, device: torch.device) -> None:
    """Share out weights, gradients and optimiser moments to the processes (FSDP2).

    Args:
        method: changed in place; its parameters become DTensors.
        units: modules that are gathered when they are called, each on its own; all else is one more unit.
        job: of the processes.
        device: where the method is.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (job.world,))
    for unit in units:
        fully_shard(unit, mesh=mesh)
    fully_shard(method, mesh=mesh)


@contextmanager
def no_exchange(model: nn.Module, active: bool) -> Iterator[None]:
    """Keep gradients at home, where more parts of the batch are to follow.

    Args:
        model: what `spread` gave.
        active: False: exchange them in the backward pass.
    """
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DistributedDataParallel

    at_home: AbstractContextManager[Any] = nullcontext()
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(not active)
    elif active and isinstance(model, DistributedDataParallel):
        at_home = model.no_sync()
    with at_home:
        yield


def whole(tensor: Tensor) -> Tensor:
    """Give the whole of a tensor that processes share, and any other as it is. All processes must call it."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """Give this process's share of a tensor, and any other as it is."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, model: Tensor) -> Tensor:
    """Lay a whole tensor out as `model` is: on its device, and shared out as it is. All processes must call it.

    Args:
        tensor: whole, the same values in every process.
        model: of the same shape.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(model, DTensor):
        return tensor.to(model.device)
    return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements)
