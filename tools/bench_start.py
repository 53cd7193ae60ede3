#!/usr/bin/env python3
"""From nothing to the first output, and the most memory on the way: vitc beside ONNX Runtime, in turn in one run.

    tools/bench start TEACHER.onnx [MODEL.vmod…] [--threads 2] [--rounds 7] [--json FILE]

For vitc the time is that of a process, `vitc run MODEL --input x.npy`, from its start to its end, and the memory the process's most. For
ONNX Runtime, as generous as can be, it is a session's creation and one run inside a process that has loaded all it needs, and the memory what
that process takes more by then. Files are in the page cache. One random image; medians, least and most.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

PEER = """
import json, sys, time
import numpy, onnxruntime

def resident(key):
    for line in open("/proc/self/status"):
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024

x = numpy.load(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = int(sys.argv[3]), 1
before, start = resident("VmRSS"), time.perf_counter()
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, {session.get_inputs()[0].name: x})
print(json.dumps({"ms": 1e3 * (time.perf_counter() - start), "mb": resident("VmHWM") - before}))
"""


def image(path, folder):
    """A random image for the model, in a file."""
    import onnx

    axes = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    file = folder / "x.npy"
    np.save(file, np.random.default_rng(0).standard_normal((1, *[axis.dim_value for axis in axes][1:]), dtype=np.float32))
    return file


def vitc(command):
    """A process's wall time, and the most memory that it had."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: exit {status}")
    return {"ms": 1e3 * (time.perf_counter() - start), "mb": usage.ru_maxrss / 1024}


def main():
    parser = argparse.ArgumentParser(prog="tools/bench start")
    parser.add_argument("--vitc", required=True)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        x = image(arguments.files[0], folder)
        runners = {}
        for path in arguments.files:
            command = [arguments.vitc, "run", str(path), "--input", str(x), "--output", str(folder / "y.npy"), "--threads",
                       str(arguments.threads), "--quiet"]
            runners[path.name, "vitc"] = lambda command=command: vitc(command)
            if path.suffix == ".onnx":
                peer = [sys.executable, "-c", PEER, str(path), str(x), str(arguments.threads)]
                runners[path.name, "ONNX Runtime"] = lambda peer=peer: json.loads(
                    subprocess.run(peer, check=True, capture_output=True, text=True).stdout)
        found = {key: [] for key in runners}
        for _ in range(arguments.rounds + 1):
            for key, run in runners.items():
                found[key].append(run())
        print(f"{arguments.threads} threads, {arguments.rounds} rounds in turn\n{'model':32} {'':14} {'ms':>8} {'least':>8} {'most':>8} {'MB':>8}")
        for (model, runner), results in found.items():
            times, memory = ([result[key] for result in results[1:]] for key in ("ms", "mb"))
            row = {"model": model, "threads": arguments.threads, "runner": runner, "ms": statistics.median(times), "ms_low": min(times),
                   "ms_high": max(times), "mb": statistics.median(memory)}
            rows.append(row)
            print(f"{model:32} {runner:14} {row['ms']:8.1f} {row['ms_low']:8.1f} {row['ms_high']:8.1f} {row['mb']:8.1f}")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
