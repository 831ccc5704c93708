"""One pack of runs: build, compile, train."""

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from threadpoolctl import threadpool_limits

from sparse_rl import envs
from sparse_rl.agents import RunInputs
from sparse_rl.kernels import flags, native
from sparse_rl.kernels.compilation import compile_all
from sparse_rl.kernels.machine import allowed_bytes, cores
from sparse_rl.loops import (
    CurriculumLoop,
    HostedLoop,
    HostLoop,
    HostOffPolicyLoop,
    HostStreamingLoop,
    Loop,
    MasterLoop,
    PairedLoop,
    PureLoop,
    make_loop,
)
from sparse_rl.records import checkpoints
from sparse_rl.records.results import Status
from sparse_rl.runs.costs import count, dense_networks
from sparse_rl.runs.lockstep import (
    NOT_COMPILED,
    Layout,
    Lockstep,
    Policy,
    Programs,
    Progress,
    Run,
    Watch,
    stack,
)
from sparse_rl.runs.scales import at_base
from sparse_rl.settings.common import ParametrisedConfig
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError

LEVELLED = (CurriculumLoop, PairedLoop)
"""Loops on levels that somebody chooses."""
DRIVEN = (HostLoop, HostOffPolicyLoop, HostStreamingLoop, MasterLoop)
"""Loops that bring functions of the host which drive compiled programs."""
SIDE_BY_SIDE_FLOPS = 2e9
"""On a CPU, an update above this many FLOPs keeps all cores busy by itself (measured with SimBa at
width 256); below it, one run per core is up to twice as fast."""
WIDE_BYTES = 4 << 20
"""Of a network's largest tensor: 512 × 2048 weights."""


class PreparedPack(NamedTuple):
    """Runs that share a compiled program, and the loop that it is compiled from."""

    loop: Loop
    runs: list[Run]


def program_of(config: RunConfig) -> RunConfig:
    """What a run's compiled program depends on: its configuration without what can be an array.

    Seeds and the learning rate are arrays, and with masks so are sparsities (through the numbers of
    surviving weights). Then only whether a network is pruned at all decides its program: a dense network
    carries no masks, so that it costs and computes what it would without this package. In the other
    storages the number of survivors is the shape of what is stored. Factors of a parametrisation are
    arrays, and at its base there are none.
    """
    by_shape = config.storage.storage != "masked" or config.pruning.pattern == "block"

    def static(sparsity: float) -> float:
        return sparsity if by_shape or not sparsity else 0.5

    agent = config.agent.program()
    if isinstance(agent, ParametrisedConfig) and at_base(config):
        agent = agent.without_base()
    return dataclasses.replace(
        config,
        seed=0,
        mask_seed=0,
        sparsity=0.0,
        agent=agent,
        pruning=dataclasses.replace(
            config.pruning,
            distribution=config.pruning.distribution if by_shape else "uniform",
            actor_sparsity=static(config.actor_sparsity),
            critic_sparsity=static(config.critic_sparsity),
            encoder_sparsity=static(config.pruning.encoder_sparsity),
            mixer_sparsity=static(config.sparsities.get("mixer", 0.0)),
        ),
    )


def default_layout(loop: Loop) -> Layout:
    """Batching runs gains nothing on a CPU and much on an accelerator; environments of the host step
    outside of what can be batched."""
    return "map" if jax.default_backend() == "cpu" or isinstance(loop, DRIVEN) else "vmap"


def compiler_options(loop: Loop) -> dict[str, str | bool]:
    """How a loop's programs are compiled on this device.

    XLA's CPU backend orders a program for concurrency by default: drawing the weights and masks of a
    wide network then holds many dense tensors at once. In the order of least memory updates of wide
    networks are as fast; those of PPO's smallest take a sixth longer.
    """
    if jax.default_backend() != "cpu":
        return {}
    largest = max(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(dense_networks(loop)))
    if largest < WIDE_BYTES:
        return {}
    return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def prepare_pack(configs: Sequence[RunConfig]) -> PreparedPack:
    """Build a pack's environment and agent, and count its runs; compiles nothing.

    Args:
        configs: runs that differ only in what :func:`program_of` ignores.

    Raises:
        ConfigError: this process has set what would change the runs' numbers or break them, or asks for
            kernels of another device.
    """
    unfit = flags.unfit()
    if unfit:
        raise ConfigError(f"{', '.join(unfit)}: runs are not trained with this set; unset it")
    refused = native.refusal()
    if refused:
        raise ConfigError(refused)
    first = configs[0]
    loop = make_loop(first, envs.make(first.env.source, first.env.task, **first.env.options))
    counted = zip(configs, count(configs, loop), strict=True)
    return PreparedPack(loop, [Run(config, inputs, costs) for config, (inputs, costs) in counted])


def compile_programs(loop: Loop, inputs: Sequence[RunInputs], layout: Layout) -> Programs:
    """Compile a pack's three programs, side by side; where levels are shown, a fourth.

    With ``map`` the programs hold one run, so they serve packs of any size; with ``vmap`` all.

    Raises:
        ValueError: the layout is ``vmap``, and the environments are on the host.
    """
    started = time.monotonic()
    if isinstance(loop, DRIVEN):
        if layout == "vmap":
            raise ValueError("layout=vmap batches what is compiled, not environments of the host")
        return Programs(
            *cast(HostedLoop, loop).compile(inputs[0], compiler_options(loop)),
            time.monotonic() - started,
        )
    pure = cast(PureLoop, loop)
    init, chunk, evaluate = pure.init, pure.chunk, pure.evaluate
    arguments: Any = inputs[0]
    if layout == "vmap":
        init, chunk = jax.vmap(init), jax.vmap(chunk, in_axes=(None, 0))
        evaluate = jax.vmap(evaluate, in_axes=(None, 0))
        arguments = stack(inputs)
    first = jax.ShapeDtypeStruct((), jnp.int32)
    drawing = jax.jit(init).trace(arguments)
    state = drawing.out_info
    lowered = {
        "init": drawing.lower(),
        "chunk": jax.jit(chunk, donate_argnums=1).lower(first, state),
        "evaluate": jax.jit(evaluate).lower(first, state),
    }
    if isinstance(loop, LEVELLED):
        show = jax.vmap(loop.show, in_axes=(None, 0)) if layout == "vmap" else loop.show
        showing = jax.jit(show).trace(first, state)
        if showing.out_info:  # a method that keeps levels
            lowered["show"] = showing.lower()
    made = compile_all(lowered, compiler_options(loop))
    return Programs(**made, seconds=time.monotonic() - started)


def one_blas_thread() -> threadpool_limits:
    """While it is entered, OpenBLAS computes in the thread that calls it.

    XLA finds singular values on a CPU with it, and its threads then wait actively beside XLA's own: a
    third of the time of a small run. Enter it after programs are compiled, when the library is loaded.
    """
    return threadpool_limits(1, "blas")


def cut(pack: PreparedPack, size: int) -> list[PreparedPack]:
    """A pack in parts of ``size`` runs, the last one maybe smaller."""
    return [pack._replace(runs=pack.runs[i : i + size]) for i in range(0, len(pack.runs), size)]


def halves(pack: PreparedPack) -> list[PreparedPack]:
    """A pack in two; in one if it has a single run, in none if it has none."""
    return cut(pack, max(1, (len(pack.runs) + 1) // 2))


def shares(runs: Sequence[Run], layout: Layout, devices: int, study_dir: Path) -> list[list[Run]]:
    """Runs that take their chunks together: with ``map`` each alone, with ``vmap`` a group per device,
    the last one maybe smaller.

    Where no checkpoint is at the same env steps in all of the runs, they were trained apart before, and
    those with another newest one stay apart: together they would begin anew.
    """
    if layout == "map":
        return [[run] for run in runs]
    size = -(-len(runs) // devices)
    saved = [checkpoints.steps(study_dir / run.config.run_id) for run in runs]
    together: dict[int, list[Run]] = {}
    for run, steps in zip(runs, saved, strict=True):
        newest = 0 if set.intersection(*map(set, saved)) else max(steps, default=0)
        together.setdefault(newest, []).append(run)
    return [alike[i : i + size] for alike in together.values() for i in range(0, len(alike), size)]


def check_devices(loop: Loop, count: int) -> None:
    """Raise :class:`ConfigError` if a pack's runs cannot be shared out over so many devices."""
    if count > 1 and isinstance(loop, DRIVEN):
        raise ConfigError(
            f"devices_per_pack={count}: runs of agent={loop.config.agent.name} on "
            f"env={loop.config.env.name} are driven by the host, on one device; give 1, and "
            "hydra/launcher=processes to use several"
        )


def devices_here(count: int) -> list[Any]:
    """So many devices of this process, for the runs of a pack.

    Raises:
        ConfigError: there are fewer.
    """
    found = jax.local_devices()
    if count > len(found):
        here = f"{len(found)} {found[0].platform} device" + ("s" if len(found) > 1 else "")
        raise ConfigError(
            f"devices_per_pack={count}: this process has {here}; give at most {len(found)}"
        )
    return found[:count]


def available_bytes() -> int:
    """Memory for training on this device; on a CPU what the process may take of the machine's."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return allowed_bytes()


def runs_that_fit(run: Run) -> int:
    """How many runs like this one the device's memory holds, a fifth left free; at least one."""
    return max(1, int(0.8 * available_bytes()) // run.costs.memory_bytes)


def workers(runs: Sequence[Run], layout: Layout, devices: int = 1) -> int:
    """Programs that run side by side: one per core on a CPU while a single one cannot fill the cores,
    else one per device."""
    if runs[0].config.agent.alone:
        return 1
    if layout == "vmap" or runs[0].costs.flops_per_update_dense > SIDE_BY_SIDE_FLOPS:
        return min(len(runs), devices)
    return min(len(runs), cores(), runs_that_fit(runs[0]))


def _on(device: Any) -> contextlib.AbstractContextManager[Any]:
    """What a thread compiles and computes inside is this device's; ``None``: the process's own."""
    return contextlib.nullcontext() if device is None else jax.default_device(device)


class Share(NamedTuple):
    """Runs that take their chunks together."""

    device: Any
    """Where; ``None``: on the process's own."""
    runs: Sequence[Run]
    programs: Programs


def _compiled(loop: Loop, groups: Sequence[Sequence[Run]], layout: Layout, devices: int) -> list[Share]:
    """Groups of runs on their devices in turn, with the programs of each: those of one size are compiled
    once per device.

    One device after the other, so that an accelerator's programs are compiled once: the cache on disk
    has them for the others.
    """
    check_devices(loop, devices)
    places = devices_here(devices) if devices > 1 else [None]
    made: dict[Any, Programs] = {}
    found = []
    for i, group in enumerate(groups):
        device = places[i % len(places)]
        with _on(device):
            if (device, len(group)) not in made:
                inputs = [run.inputs for run in group]
                made[device, len(group)] = compile_programs(loop, inputs, layout)
        found.append(Share(device, group, made[device, len(group)]))
    return found


def _say_stopping(error: BaseException, run: Run, watch: Watch) -> None:
    """A log point may take minutes: whoever pressed Ctrl-C is told that it was heard."""
    if isinstance(error, KeyboardInterrupt):
        note = "stopping: each run saves at its next log point"
        watch(Progress(_run_id(run), 0, 0, math.nan, None, note))


def _harmless(watch: Watch) -> Watch:
    """The same, but for a terminal that is gone or a log on a full disk."""

    def told(progress: Progress) -> None:
        with contextlib.suppress(OSError, UnicodeError):
            watch(progress)

    return told


def _run_id(run: Run) -> str:
    return run.config.run_id


def _by_run(runs: Sequence[Run], statuses: Sequence[Status]) -> dict[str, Status]:
    return dict(zip(map(_run_id, runs), statuses, strict=True))


def train_pack(
    pack: PreparedPack,
    study_dir: Path,
    *,
    logging: str = "none",
    watch: Watch = lambda progress: None,
    layout: Layout | None = None,
    policy: Policy = Policy(),  # noqa: B008
    stop: threading.Event | None = None,
    devices: int = 1,
) -> dict[str, Status]:
    """Train runs that share a compiled program, each recorded in ``study_dir/<run_id>``: from its newest
    checkpoint there, with the numbers it would have had undisturbed.

    Args:
        pack: what :func:`prepare_pack` made.
        study_dir: folder of the study.
        logging: the view beside the rows on disk (:mod:`sparse_rl.records.views`).
        watch: called from worker threads after each log point and at each run's end.
        layout: how the runs share the program; by default what suits the device.
        policy: when states are written to disk.
        stop: set it from outside to end all runs at their next log point, with a checkpoint.
        devices: of this process that the runs are shared out over. Each has programs of its own.

    Returns:
        run_id → how it ended. One that fails or diverges is recorded with why, and stops no other.

    Raises:
        KeyboardInterrupt: passed on, after unfinished runs were recorded as ``preempted``.
    """
    loop, runs = pack
    layout, stop, watch = layout or default_layout(loop), stop or threading.Event(), _harmless(watch)

    def lockstep(of: Share) -> Lockstep:
        return Lockstep(loop, of.programs, of.runs, study_dir, layout, logging, watch, policy, stop)

    def train(share: Share) -> list[Status]:
        if stop.is_set():
            return ["pending"] * len(share.runs)
        together = lockstep(share)
        try:
            with _on(share.device):
                return together.train()
        except Exception as error:  # a result of the run, not the end of the sweep
            return together.fail(error)

    try:
        groups = _compiled(loop, shares(runs, layout, devices, study_dir), layout, devices)
    except Exception as error:  # out of memory, say
        return _by_run(runs, lockstep(Share(None, runs, NOT_COMPILED)).fail(error))

    with one_blas_thread(), ThreadPoolExecutor(workers(runs, layout, devices)) as pool:
        try:
            futures = [pool.submit(train, group) for group in groups]
            statuses = [status for future in futures for status in future.result()]
        except BaseException as error:
            stop.set()
            _say_stopping(error, runs[0], watch)
            raise
    return _by_run([run for group in groups for run in group.runs], statuses)
