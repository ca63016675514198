"""The same plan in NVIDIA's trtexec: is edgepose's way of running it as fast as theirs?"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from statistics import median

from edgepose.benchmarks.gpu.load_checks import built_plan
from edgepose.benchmarks.gpu.rows import Finding, SkippedError, one_line
from edgepose.model.passport import read_passport
from edgepose.trt.versions import as_numbers

ELSEWHERE = "/usr/src/tensorrt/bin"  # where JetPack and Debian's packages put it
WITHIN = 0.05
REPEATS, SECONDS = 200, 3


def check_against_trtexec(work: Path, count: int, repeats: int = REPEATS) -> Finding:
    """The engine alone, as a CUDA graph and without copies: edgepose before and after trtexec, medians of both."""
    program = shutil.which("trtexec") or shutil.which("trtexec", path=ELSEWHERE)
    if program is None:
        raise SkippedError(f"there is no trtexec on PATH or in {ELSEWHERE}")
    plan = built_plan(work)
    passport = read_passport(plan)
    if passport.plan.runtime != "tensorrt":
        raise SkippedError(f"{plan.name} is of {passport.plan.runtime}, trtexec runs TensorRT's")
    before, profile = engine_ms(plan, count, repeats)
    shape = (count, 3, *passport.spec.image.size_hw)
    theirs = trtexec_ms(program, plan, shape, profile, as_numbers(passport.plan.tensorrt))
    ours = median([*before, *engine_ms(plan, count, repeats)[0]])
    ratio = ours / theirs
    found = f"{plan.name}, {count} crops: edgepose {ours:.4f} ms, trtexec {theirs:.4f} ms: {ratio:.3f} times"
    return Finding(ratio <= 1 + WITHIN, found, f"{1 + WITHIN} times at most")


def engine_ms(plan: Path, count: int, repeats: int) -> tuple[list[float], int]:
    """Times of the engine's graph by CUDA events, ms, and the optimisation profile that it ran with."""
    from edgepose.cuda.memory import open_device  # pycuda

    with open_device().active():
        return _engine_ms(plan, count, repeats)


def _engine_ms(plan: Path, count: int, repeats: int) -> tuple[list[float], int]:
    from edgepose.cuda.graphs import Graph
    from edgepose.cuda.memory import DeviceMemory, Stream, make_events
    from edgepose.trt.network import Network
    from edgepose.trt.versions import load_runner

    passport, times = read_passport(plan), []
    stream, network = Stream(), Network(plan, passport, load_runner(plan, passport.plan))
    tensors = {**network.inputs, **network.outputs}
    memory = {name: DeviceMemory(network.max_batch * tensor.row_bytes) for name, tensor in tensors.items()}
    run = partial(network.run, count, {name: each.address for name, each in memory.items()}, stream.handle)
    try:
        profile = network.profile_of(count)
        run()
        stream.wait()
        graph = Graph(stream.handle, run)
        start, end = make_events(2)
        for _ in range(repeats):
            stream.mark(start)
            graph.launch(stream.handle)
            stream.mark(end)
            end.synchronize()
            times.append(end.time_since(start))
        graph.close()
    finally:
        stream.wait()
        network.close()
        for each in memory.values():
            each.free()
    return times, profile


def trtexec_ms(
    program: str, plan: Path, shape: tuple[int, ...], profile: int, version: tuple[int, ...], seconds: int = SECONDS
) -> float:
    """The median GPU compute time that trtexec tells of one optimisation profile, ms, with a graph and without copies.

    Args:
        version: of TensorRT, whose trtexec this is.

    Raises:
        SkippedError: it does not run the plan: it is of another TensorRT than the one that edgepose uses, say.
    """
    command = [program, f"--loadEngine={plan}", f"--shapes=crops:{'x'.join(map(str, shape))}"]
    command += [f"--useProfile={profile}", f"--duration={seconds}", "--warmUp=500"]
    if version < (11,):  # from 11 on both are the default, and no option of these names is promised
        command += ["--useCudaGraph", "--noDataTransfers"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60)
    told = re.search(r"GPU Compute Time:.*?median = ([\d.]+) ms", done.stdout)
    if done.returncode != 0 or told is None:
        lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if "[E]" in line] or [done.stderr]
        raise SkippedError(f"{program} does not run {plan.name}: {one_line(RuntimeError(lines[-1]))}")
    return float(told[1])
