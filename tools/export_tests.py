"""Compares what `vitc export` writes with vitc, in ONNX Runtime and in OpenVINO."""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
import openvino

TEACHER = "golden/teacher/fashion-vit.onnx"
# How far the largest output may be off, as a part of it.
TOLERANCE, TOLERANCE_STATES = 1e-4, 3e-4
# The same for a teacher beside the file that it comes from, both in ONNX Runtime.
TOLERANCE_TEACHER = 1e-5


def cases(heads):
    """Names, and the passes that make each model of a teacher whose layers have these heads: eight layers or more."""
    yield "teacher", ""
    last = len(heads) - 1
    pair = f"[2,{last}]"

    def each(numbers):
        """These numbers for the first layers, the last of them for the last layer, the one before it for those between."""
        return "[" + ",".join(map(str, numbers[:-1] + numbers[-2:-1] * (len(heads) - len(numbers)) + numbers[-1:])) + "]"

    kept = "[" + ",".join(str(min(n, k * n // 3)) for n, k in zip(heads, [2, 0, 1, 3, 3, 2, 3, 1] * len(heads))) + "]"
    scans = ["glr", "lstm", "lstm{form=full}", "ssd", "mamba", "retention"]
    for mixer in scans:
        for order in ["forward", "bidirectional", "cross"]:
            yield f"{mixer} {order}", f"swap{{mixer={mixer},order={order},layers={pair},images=8}}"
        yield f"{mixer} own rows", f"swap{{mixer={mixer},prefix=mixer,layers={pair},images=8}}"
    for mixer in ["conv", "conv{kernel=5}", "conv{border=edge,share=head}", "conv{border=centre,mean=false}", "static", "static{fit=solve}", "pointwise", "none"]:
        for prefix in ["auto", "mixer"]:
            yield f"{mixer} {prefix}", f"swap{{mixer={mixer},prefix={prefix},layers={pair},images=8}},distil{{steps=0,images=8}}"
    for mixer in [*scans, "conv", "static", "pointwise", "none"]:
        if mixer != "lstm{form=full}":
            yield f"{mixer} merged", f"swap{{mixer={mixer},layers=[3,5],images=8}},distil{{steps=0,images=8}},merge{{counts={each([0, 0, 8, 8, 4, 4, 4, 0])}}}"
    for mixer in ["glr", "lstm", "ssd", "conv", "static"]:
        yield f"{mixer} kept", f"swap{{mixer={mixer},layers=[3,5],images=8}},distil{{steps=0,images=8}},retain{{keep=0.7,layers=[2,3,4]}}"
    yield "kept", "retain{keep=0.7}"
    for mixer in ["glr", "lstm", "ssd", "conv", "static"]:
        yield f"{mixer} on kept", f"retain{{keep=0.7,layers=[1,2],teacher=true}},swap{{mixer={mixer},layers=[3,5],images=8}},distil{{steps=0,images=8}}"
    yield "kept, halting", "retain{rule=halt,steps=0,gamma=2,beta=2,images=16}"
    yield "kept, halting, trimmed", "retain{rule=halt,steps=0,gamma=2,beta=2,images=16},trim"
    yield "half of the width", f"swap{{mixer=glr,width=0.5,layers={pair},images=8}}"
    yield "merged", "merge{count=4}"
    yield "perceptrons", "prune{mlp=0.5,images=16,allocate=uniform}"
    yield "heads", f"prune{{heads={kept},images=16}}"
    yield "head channels", "factorise{scores=0.5,values=0.5,images=16}"
    yield "maps", "factorise{maps=perceptrons,images=16}"
    yield "blocks", "depth{layers=[1],images=16},depth{layers=[4],map=linear,images=16}"
    yield "shared", "share{layers=[1,2,6],images=16}"
    yield "all", ("swap{mixer=conv,layers=[6],images=8}," f"swap{{mixer=glr,layers=[{last}],images=8}}," "prune{mlp=0.5,images=16,allocate=uniform},"
                  "factorise{scores=0.5,values=0.5,images=16},depth{layers=[4],map=linear,images=16},"
                  f"merge{{counts={each([0, 0, 4, 4, 0, 4, 4, 0])}}},trim")


def run(*command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{command[1]}: {result.stderr.strip().splitlines()[-1] if result.stderr.strip() else result.returncode}")


def compare(vitc, model, opset, tolerance, folder, original=None):
    """What is wrong with the model's file in one version, also beside the original that it was read from; nothing where all is well."""
    path = folder / "model.onnx"
    run(vitc, "export", model, "-o", path, "--opset", opset)
    onnx.checker.check_model(str(path), full_check=True)
    if any(node.domain not in ("", "ai.onnx") or node.op_type in ("Loop", "Scan") for node in onnx.load(str(path)).graph.node):
        return "holds operators that are not standard"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    entry = session.get_inputs()[0]
    worst = 0.0
    for batch in (1, 3):
        if isinstance(entry.shape[0], int) and batch != entry.shape[0]:
            continue
        shape = [batch] + [extent if isinstance(extent, int) else 224 for extent in entry.shape[1:]]
        x = np.random.default_rng(batch).standard_normal(shape).astype(np.float32)
        np.save(folder / "x.npy", x)
        run(vitc, "run", model, "--input", folder / "x.npy", "--output", folder / "y.npy")
        wanted = np.load(folder / "y.npy")
        own = session.run(None, {entry.name: x})[0]
        for found in (own, compiled(x)[0]):
            worst = max(worst, float(np.abs(found - wanted).max() / np.abs(wanted).max()))
        if original:
            wanted = onnxruntime.InferenceSession(original, providers=["CPUExecutionProvider"]).run(None, {entry.name: x})[0]
            difference = float(np.abs(own - wanted).max() / np.abs(wanted).max())
            if difference > TOLERANCE_TEACHER:
                return f"differs by {difference:.1e} from the file that it comes from"
    return "" if worst <= tolerance else f"differs by {worst:.1e}"


def main():
    parser = argparse.ArgumentParser(prog="tools/export_tests")
    parser.add_argument("--vitc", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--teacher", default=TEACHER)
    parser.add_argument("--opsets", default="13,17,21")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("models", nargs="*")
    arguments = parser.parse_args()
    opsets = [int(number) for number in arguments.opsets.split(",")]
    done, failures = 0, []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        found = subprocess.run([arguments.vitc, "inspect", "--json", arguments.teacher], capture_output=True, text=True, check=True)
        heads = [layer["heads"] for layer in json.loads(found.stdout)["layers"]]
        for title, passes in [*cases(heads), *((path, None) for path in arguments.models)]:
            if arguments.only not in title:
                continue
            model = folder / "model.vmod"
            try:
                if passes is None:
                    model = title
                else:
                    text = ",".join(filter(None, ["fold,raise,dce", passes]))
                    run(arguments.vitc, "opt", arguments.teacher, "--passes", text, "--data", "synthetic:24", "-o", model, "--threads", arguments.threads)
                for opset in opsets:
                    # Merging adds rows up where they lie, which older versions cannot.
                    if opset < 16 and ("merge" in title or "kept" in title or title == "all"):
                        continue
                    tolerance = TOLERANCE_STATES if title.split()[0] in ("ssd", "mamba", "retention") else TOLERANCE
                    done += 1
                    if fault := compare(arguments.vitc, model, opset, tolerance, folder, arguments.teacher if title == "teacher" else None):
                        failures.append(f"{title}, version {opset}: {fault}")
            except Exception as error:
                failures.append(f"{title}: {error}")
            if failures and failures[-1].startswith(title):
                print(failures[-1], flush=True)
    print(f"{done} files compared, {len(failures)} faults")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
