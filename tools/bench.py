#!/usr/bin/env python3
"""The measurements of tools/bench, which prepares what they need."""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = ROOT / ".build" / "bench"


def run_json(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def quantile(values, share):
    values = sorted(values)
    return values[round((len(values) - 1) * share)]


def sgemm_peak(threads, size=1536, seconds=1.5):
    """The best rate in GFLOP/s of square products, of those of PyTorch and of ONNX Runtime."""
    import numpy as np
    import onnx
    import onnxruntime as ort
    import torch

    torch.set_num_threads(threads)
    a, b, c = (torch.randn(size, size) for _ in range(3))
    square = lambda name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [size, size])
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["a", "b"], ["c"])], "product", [square("a")],
                                   [square("c")], [onnx.numpy_helper.from_array(np.ones((size, size), np.float32), "b")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed, best = {"a": a.numpy()}, 0.0
    for product in lambda: torch.mm(a, b, out=c), lambda: session.run(None, feed):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            product()
            best = max(best, 2 * size**3 / (time.perf_counter() - start) / 1e9)
    return best


def peers(name, path, batch, threads):
    """An image, and functions that run the model on it elsewhere, by name; ONNX Runtime is the reference."""
    import numpy as np
    import onnxruntime as ort
    import openvino
    import torch

    import bench_deit

    image = np.random.default_rng(batch).standard_normal((batch, 3, 224, 224), dtype=np.float32)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32",
                              "PERFORMANCE_HINT": "LATENCY"})
    compiled = core.compile_model(str(path), "CPU").create_infer_request()
    module, tensor = bench_deit.model(name), torch.from_numpy(image)
    torch.set_num_threads(threads)

    def eager():
        with torch.inference_mode():
            return module(tensor).numpy()

    return image, {
        "ort": lambda: session.run(None, {"image": image})[0],
        "openvino": lambda: compiled.infer({"image": image})[0],
        "torch": eager,
    }


def timed(function, seconds):
    """Milliseconds of each run within so many seconds, of 15 at least, after two that do not count."""
    for _ in range(2):
        function()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 15:
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def deviation(vitc, path, image, wanted, threads):
    """The largest difference of our output from the peer's, over the peer's largest number."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", image)
        subprocess.run([vitc, "run", path, "--input", f"{folder}/x.npy", "--output", f"{folder}/y.npy", "--threads",
                        str(threads)], check=True, stdout=subprocess.DEVNULL)
        return float(np.abs(np.load(f"{folder}/y.npy") - wanted).max() / np.abs(wanted).max())


def forward(arguments):
    import onnxruntime as ort
    import openvino
    import torch

    import bench_deit

    t = arguments.threads
    print(f"forward, f32, {t} threads, {arguments.rounds} rounds of {arguments.seconds} s each in turn; ONNX Runtime "
          f"{ort.__version__}, OpenVINO {openvino.__version__.split('-')[0]}, PyTorch {torch.__version__} eager")
    peak = sgemm_peak(t)
    print(f"peak of sgemm: {peak:.0f} GFLOP/s")
    print(f"{'model':12} batch  {'':9} {'ms':>8} {'low':>7} {'high':>7}  its time over vitc's (low-high)")
    for name in arguments.models.split(","):
        path = str(bench_deit.export(name, MODELS))
        for batch in map(int, arguments.batches.split(",")):
            image, others = peers(name, path, batch, t)
            differs = deviation(arguments.vitc, path, image, others["ort"](), t)
            ours, times = [], {peer: [] for peer in others}
            for _ in range(arguments.rounds):
                ours.append(run_json([arguments.vitc, "bench", path, "--batch", str(batch), "--threads", str(t), "--time",
                                      f"{arguments.seconds}s", "--json"]))
                for peer, function in others.items():
                    times[peer].append(timed(function, arguments.seconds))
            medians = [result["ms"] for result in ours]
            best = statistics.median(medians)
            rate = ours[0]["flops"] / best / 1e6
            print(f"{name:12} {batch:5}  {'vitc':9} {best:8.2f} {min(r['ms_low'] for r in ours):7.2f} "
                  f"{max(r['ms_high'] for r in ours):7.2f}  {rate:.0f} GFLOP/s, {rate / peak:.0%} of the peak; differs from "
                  f"ONNX Runtime by {differs:.1e}", flush=True)
            for peer, rounds in times.items():
                ratios = [statistics.median(theirs) / mine for theirs, mine in zip(rounds, medians)]
                print(f"{'':12} {'':5}  {peer:9} {statistics.median(map(statistics.median, rounds)):8.2f} "
                      f"{min(quantile(x, 0.1) for x in rounds):7.2f} {max(quantile(x, 0.9) for x in rounds):7.2f}  "
                      f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})", flush=True)


def mixers(arguments):
    """Alternates the peers with our own benchmark."""
    line = re.compile(r"(conv|glr|lstm\S*|ssd-\S+) (\d+ tokens x \d+ x batch \d+): (\d+) samples/s")
    sides = {
        "vitc": [arguments.bench, "mixers", str(arguments.threads), str(arguments.seconds)],
        "torch": [sys.executable, "tools/bench_mixers.py", "--threads", str(arguments.threads), "--seconds",
                  str(arguments.seconds)],
    }
    rates = {}
    for _ in range(arguments.rounds):
        for side, command in sides.items():
            text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
            for kind, size, rate in line.findall(text):
                rates.setdefault((kind, size), {}).setdefault(side, []).append(int(rate))
    print(f"a training step, or a forward pass, or the scan of ssd alone, {arguments.threads} threads, samples a second: median of {arguments.rounds} rounds")
    for (kind, size), both in sorted(rates.items()):
        ours, theirs = statistics.median(both["vitc"]), statistics.median(both["torch"])
        ratios = [a / b for a, b in zip(both["vitc"], both["torch"])]
        print(f"{kind:17} {size:28} vitc {ours:8.0f}  torch {theirs:8.0f}  ratio {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f}-{max(ratios):.2f})", flush=True)


# Between us and the command stands a small process: a child's peak begins with the memory of whoever starts it.
LAUNCHER = """
import os, resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(code)
"""


def peak(command):
    """The most memory that a command had at once, in bytes."""
    result = subprocess.run([sys.executable, "-I", "-S", "-c", LAUNCHER, *command], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr}")
    return int(result.stdout)


def memory(arguments):
    import bench_deit

    path = str(bench_deit.export(arguments.model, MODELS))
    weights = run_json([arguments.vitc, "bench", path, "--time", "0.1s", "--json"])["parameters"] * 4
    print(f"{arguments.model}: weights {weights / 1e6:.1f} MB; peak memory of a process over that")
    with tempfile.TemporaryDirectory() as folder:
        common = ["--data", "synthetic:32", "--threads", str(arguments.threads), "--batch", "4"]
        compiling = [arguments.vitc, "compile", path, "-o", f"{folder}/out.vmod", "--replace", "layers=3,6,9", *common]
        for name, command in {
            "score": [arguments.vitc, "score", path, *common[:4]],
            "distil": [*compiling, "--distil-steps", "4", "--fine-tune-steps", "0"],
            "fine-tune": [*compiling, "--distil-steps", "4", "--fine-tune-steps", "4"],
        }.items():
            bytes = peak(command)
            print(f"{name:10} {bytes / 1e6:8.1f} MB {bytes / weights:6.2f}", flush=True)
    times = []
    for _ in range(21):
        start = time.perf_counter()
        subprocess.run([arguments.vitc, "--version"], check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - start) * 1e3)
    print(f"vitc --version: {statistics.median(times):.1f} ms ({min(times):.1f}-{max(times):.1f}), {peak([arguments.vitc, '--version']) / 1e6:.1f} MB")


def main():
    parser = argparse.ArgumentParser(prog="tools/bench", description="Measures vitc beside its peers.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, function in [("forward", forward), ("mixers", mixers), ("memory", memory)]:
        kind = kinds.add_parser(name)
        kind.set_defaults(run=function)
        kind.add_argument("--vitc", required=True)
        kind.add_argument("--bench", required=True)
        kind.add_argument("--threads", type=int, default=2)
        if name == "memory":
            kind.add_argument("--model", default="deit-small")
        else:
            kind.add_argument("--seconds", type=float, default=1 if name == "forward" else 4)
            kind.add_argument("--rounds", type=int, default=7 if name == "forward" else 3)
        if name == "forward":
            kind.add_argument("--models", default="deit-tiny,deit-small")
            kind.add_argument("--batches", default="1,8")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
