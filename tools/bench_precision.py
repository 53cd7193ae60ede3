#!/usr/bin/env python3
"""The forward pass of vision transformers in f32, bf16 and int8: vitc beside OpenVINO and ONNX Runtime, all in turn in one run.

    tools/bench precision [MODEL.onnx…] [--models deit-tiny,deit-small] [--batches 1,8] [--threads 2] [--rounds 7] [--seconds 1]
                          [--quick] [--json FILE] [--chart FILE.svg] [--record]

Without MODEL.onnx, DeiT with random weights. vitc's int8 brings weights into 8 bits by the pass `quantise` and tokens as they come. OpenVINO's
int8 is NNCF's post-training quantisation for transformers, on 64 random images, run with the hints f32 and bf16; ONNX Runtime's is dynamic, and
static (QDQ, per channel) on the same images. A ratio is a peer's time over vitc's in the same round; where the rounds of a ratio lie on both
sides of 1 it is not resolvable. --quick takes DeiT-Small, batch 1, three rounds of half a second. --threads takes several numbers, too (1,2).
Behind the table it is said which ratios have changed since the last run on such a processor whose ratios are kept in
tools/bench_history.json; --record keeps those of this run there.
"""
import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime
import openvino

import bench_bars
import bench_history
from bench import MODELS, quantile, run_json, timed

CALIBRATION = 64  # random images that static quantisers see


def images(shape, batch, count):
    """Batches of random images."""
    random = np.random.default_rng(batch)
    return [random.standard_normal((batch, *shape), dtype=np.float32) for _ in range(count)]


def input_of(path):
    """Name and shape of a model's image."""
    value = onnx.load(path, load_external_data=False).graph.input[0]
    return value.name, [axis.dim_value for axis in value.type.tensor_type.shape.dim][1:]


def openvino_runner(model, threads, hint):
    """What runs a model in OpenVINO with a hint of precision; None where it cannot."""
    core = openvino.Core()
    if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads,
                                                 "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    return lambda x: request.infer([x])[0]


def nncf_model(path, name, shape):
    """The model as NNCF quantises a transformer."""
    import nncf

    data = nncf.Dataset(images(shape, 1, CALIBRATION), lambda x: {name: x})
    return nncf.quantize(openvino.Core().read_model(path), data, model_type=nncf.ModelType.TRANSFORMER, subset_size=CALIBRATION)


def onnxruntime_runner(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def onnxruntime_models(path, name, shape, folder):
    """The model as ONNX Runtime quantises it, dynamically and statically."""
    from onnxruntime.quantization import CalibrationDataReader, quant_pre_process, quantize_dynamic, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(images(shape, 1, CALIBRATION))

        def get_next(self):
            image = next(self.rest, None)
            return None if image is None else {name: image}

    ready = folder / "ready.onnx"
    quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
    quantize_dynamic(str(ready), str(folder / "dynamic.onnx"), per_channel=True)
    quantize_static(str(ready), str(folder / "static.onnx"), Reader(), per_channel=True)
    return {"ONNX Runtime int8 dynamic": folder / "dynamic.onnx", "ONNX Runtime int8 static": folder / "static.onnx"}


def runners(path, threads, folder):
    """What runs the model elsewhere, by name."""
    name, shape = input_of(path)
    result = {"ONNX Runtime f32": onnxruntime_runner(path, threads)}
    for label, file in onnxruntime_models(path, name, shape, folder).items():
        result[label] = onnxruntime_runner(file, threads)
    result["OpenVINO f32"] = openvino_runner(str(path), threads, "f32")
    result["OpenVINO bf16"] = openvino_runner(str(path), threads, "bf16")
    quantised = nncf_model(path, name, shape)
    result["OpenVINO int8"] = openvino_runner(quantised, threads, "f32")
    result["OpenVINO int8 + bf16"] = openvino_runner(quantised, threads, "bf16")
    return shape, {label: runner for label, runner in result.items() if runner}


def vitc_models(vitc, path, folder):
    """The model in each of vitc's precisions."""
    result = {}
    for precision, narrow in {"f32": "", "bf16": ",quantise{weights=bf16}", "int8": ",quantise"}.items():
        passes = "fold,raise,dce,trim" + narrow
        result[f"vitc {precision}"] = folder / f"{precision}.vmod"
        subprocess.run([vitc, "opt", str(path), "--passes", passes, "-o", str(result[f"vitc {precision}"])], check=True,
                       capture_output=True)
    return result


def row(model, batch, threads, runner, rounds):
    """Median, best tenth and worst tenth of all runs."""
    return {"model": model, "batch": batch, "threads": threads, "runner": runner, "ms": statistics.median(map(statistics.median, rounds)),
            "ms_low": min(quantile(times, 0.1) for times in rounds), "ms_high": max(quantile(times, 0.9) for times in rounds)}


def ratios_of(ours, theirs):
    """A peer's time over ours, round by round."""
    return [statistics.median(b) / statistics.median(a) for a, b in zip(ours, theirs)]


def compare(ours, theirs):
    """The same in words; the best of the one over the best of the other."""
    ratios = ratios_of(ours, theirs)
    best = min(map(min, theirs)) / min(map(min, ours))
    word = "" if min(ratios) > 1 or max(ratios) < 1 else ", not resolvable"
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}), best {best:.2f}{word}"


def pairs(model, batch, threads, times):
    """The ratios that are kept: each of vitc's precisions against the peers in it, and int8 against all of vitc's others."""
    wanted = [("vitc f32", ["ONNX Runtime f32", "OpenVINO f32"]), ("vitc bf16", ["OpenVINO bf16"]),
              ("vitc int8", [label for label in times if "int8" in label and not label.startswith("vitc")] + ["OpenVINO bf16"])]
    found = []
    for own, peers in wanted:
        for peer in peers:
            if peer in times:
                ratios = ratios_of(times[own], times[peer])
                found.append({"model": model, "batch": batch, "threads": threads, "own": own, "peer": peer,
                              "ratio": round(statistics.median(ratios), 3), "low": round(min(ratios), 3), "high": round(max(ratios), 3)})
    return found


def measure(path, arguments, threads, folder):
    """Rows of one model, and the ratios that are kept."""
    own = vitc_models(arguments.vitc, path, folder)
    shape, others = runners(path, threads, folder)
    rows, ratios = [], []
    for batch in map(int, arguments.batches.split(",")):
        image = images(shape, batch, 1)[0]
        times = {label: [] for label in [*own, *others]}
        for _ in range(arguments.rounds):
            for label, file in own.items():
                result = run_json([arguments.vitc, "bench", str(file), "--batch", str(batch), "--threads", str(threads),
                                   "--time", f"{arguments.seconds}s", "--json"])
                times[label].append([result["ms_low"], result["ms"], result["ms_high"]])
            for label, runner in others.items():
                times[label].append(timed(lambda: runner(image), arguments.seconds))
        ratios += pairs(path.stem, batch, threads, times)
        for label, rounds in times.items():
            line = row(path.stem, batch, threads, label, rounds)
            rows.append(line)
            against = "" if label in own else f"  over vitc int8 {compare(times['vitc int8'], rounds)}"
            if label == "OpenVINO bf16":
                against += f", over vitc bf16 {compare(times['vitc bf16'], rounds)}"
            if label == "vitc int8":
                against = "".join(f"  vitc {name} over it {compare(times['vitc int8'], times[f'vitc {name}'])}" for name in ("f32", "bf16"))
            print(f"{path.stem:14} {batch:3} {threads:3}  {label:26} {line['ms']:8.2f} {line['ms_low']:8.2f} {line['ms_high']:8.2f}{against}", flush=True)
    return rows, ratios


def processor():
    """What /proc/cpuinfo calls this machine's processor."""
    names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main():
    parser = argparse.ArgumentParser(prog="tools/bench precision")
    parser.add_argument("--vitc", required=True)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--models", default="deit-tiny,deit-small")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--chart")
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.models, arguments.batches, arguments.rounds, arguments.seconds = "deit-small", "1", 3, 0.5
    files = arguments.files
    if not files:
        import bench_deit

        files = [pathlib.Path(bench_deit.export(name, MODELS)) for name in arguments.models.split(",")]
    versions = f"ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__.split('-')[0]}"
    print(f"{processor()}, {arguments.rounds} rounds of {arguments.seconds} s each in turn; {versions}")
    print(f"{'model':14} batch, threads {'':16} {'ms':>8} {'low':>8} {'high':>8}  a time over another's (least-most of the rounds)")
    rows, ratios = [], []
    for path in files:
        for threads in map(int, arguments.threads.split(",")):
            with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = measure(path, arguments, threads, pathlib.Path(name))
                rows, ratios = rows + found[0], ratios + found[1]
    history = pathlib.Path(__file__).parent / "bench_history.json"
    for change in bench_history.changes(bench_history.read(history), processor(), ratios):
        print(change)
    if arguments.record:
        bench_history.record(history, processor(), ratios)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps({"processor": processor(), "rows": rows, "ratios": ratios}, indent=1) + "\n")
    if arguments.chart:
        title = f"forward pass on {processor()}; {versions}"
        pathlib.Path(arguments.chart).write_text(bench_bars.draw(rows, title))


if __name__ == "__main__":
    sys.exit(main())
