#!/usr/bin/env python3
"""A teacher and hybrids of it written as ONNX: milliseconds of a run in ONNX Runtime and OpenVINO, beside vitc's own.

    tools/bench export TEACHER HYBRID… [--threads 2] [--batches 1,8] [--rounds 15] [--opset 17]

All models run in turn, in each runtime; shown are medians, with the tenth and the ninetieth percentile, and how many times faster than the
teacher. The teacher is trimmed: of its last layer only the rows that somebody reads are computed, as in the hybrids.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnxruntime
import openvino


def run(*command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{command[1]} failed:\n{result.stderr}")
    return result.stdout


def sessions(path, threads):
    """For each runtime what runs a batch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    compiled = openvino.Core().compile_model(
        str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    shape = session.get_inputs()[0].shape
    return shape, {"ONNX Runtime": lambda x: session.run(None, {name: x}), "OpenVINO": lambda x: request.infer([x])}


def main():
    parser = argparse.ArgumentParser(prog="tools/bench export")
    parser.add_argument("--vitc", required=True)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--opset", type=int, default=17)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        paths = [pathlib.Path(path) for path in arguments.models]
        teacher = folder / "teacher.vmod"
        run(arguments.vitc, "opt", paths[0], "--passes", "fold,raise,dce,trim", "-o", teacher)
        paths[0] = teacher
        runners = []
        for index, path in enumerate(paths):
            out = folder / f"{index}.onnx"
            run(arguments.vitc, "export", path, "-o", out, "--opset", arguments.opset)
            runners.append(sessions(out, arguments.threads))
        print(f"ms of a run, {arguments.threads} threads, f32, opset {arguments.opset}: median (10 % … 90 %), and times faster than the teacher")
        for batch in map(int, arguments.batches.split(",")):
            shape = [batch] + [extent if isinstance(extent, int) else 224 for extent in runners[0][0][1:]]
            x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            for runtime in ["ONNX Runtime", "OpenVINO"]:
                times = [[] for _ in paths]
                for round in range(arguments.rounds + 2):
                    for index, (_, own) in enumerate(runners):
                        start = time.perf_counter()
                        own[runtime](x)
                        if round >= 2:
                            times[index].append((time.perf_counter() - start) * 1e3)
                report(batch, runtime, arguments.models, times)
            times = [[] for _ in paths]
            for _ in range(3):
                for index, path in enumerate(paths):
                    found = json.loads(run(arguments.vitc, "bench", path, "--batch", batch, "--threads", arguments.threads, "--time", "0.5s", "--json"))
                    times[index].append(found["ms"])
            report(batch, "vitc", arguments.models, times)


def report(batch, runtime, names, times):
    for name, own in zip(names, times):
        ordered = sorted(own)
        low, high = ordered[len(own) // 10], ordered[-1 - len(own) // 10]
        faster = statistics.median(times[0]) / statistics.median(own)
        print(f"batch {batch:3}  {runtime:12}  {pathlib.Path(name).name:28} {statistics.median(own):9.3f} ({low:.3f} … {high:.3f})  {faster:5.2f}x", flush=True)


if __name__ == "__main__":
    main()
