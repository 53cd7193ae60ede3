#!/usr/bin/env python3
"""What single passes, and a few beside each other, leave of a trained teacher without a gradient step.

    tools/bench solved [TEACHER DATA [EVAL_DATA]] [--images 1000] [--eval-images 10000] [--rows REGEX] [--threads 2] [--json FILE]

Each row is one `vitc compile --passes …` whose pipeline is printed with `--verbose`; `tuned` rows are followed by 300 steps of fine-tuning. Points,
agreement and KL are those of the images to measure on, parameters and operations those against the trimmed teacher.
"""
import argparse
import json
import pathlib
import re
import subprocess
import tempfile
import time

import bench_retain


def rows(depth, patches, images):
    """Names and pipelines for a teacher of so many layers, with so many patches."""
    halves = {"first": list(range(depth // 2)), "last": list(range(depth // 2, depth))}
    solve = f"solve{{images={images}}}"
    tuned = "fine-tune{steps=300,batch=64}"

    def conv(layers, options=""):
        text = "all" if layers is None else str(layers).replace(" ", "")
        return f"swap{{mixer=conv,layers={text},images={images}{options}}},distil{{steps=0,images={images}}}"

    def prune(part, options=""):
        return f"prune{{mlp={part},images={images}{options}}}"

    def merge(each, first=0):
        return f"merge{{counts={[each if first <= layer < depth - 1 else 0 for layer in range(depth)]}}}".replace(" ", "")

    half = conv(halves["last"])
    each = max(1, patches // 32)
    late = patches // 6
    return [
        ("last half conv", [half, solve]),
        ("last half conv, own map of the class row", [half, "own-prefix", solve]),
        ("last half conv, tuned", [half, solve, tuned]),
        ("last half conv, class row by the mixer", [conv(halves["last"], ",prefix=mixer"), solve]),
        ("first half conv", [conv(halves["first"]), solve]),
        ("all conv", [conv(None), solve]),
        ("mlp 1/2", [prune(0.5), solve]),
        ("mlp 1/2, as many in each", [prune(0.5, ",allocate=uniform"), solve]),
        ("mlp 1/2, nothing made up for", [prune(0.5, ",compensate=none")]),
        ("mlp 3/4", [prune(0.75), solve]),
        ("last half conv, mlp 1/2", [half, prune(0.5), solve]),
        ("last half conv, mlp 1/2, tuned", [half, prune(0.5), solve, tuned]),
        (f"last half conv, mlp 1/2, merge {late} late, tuned", [half, prune(0.5), solve, tuned, merge(late, depth // 2)]),
        ("first half conv, mlp 1/2", [conv(halves["first"]), prune(0.5), solve]),
        ("first half conv, mlp 1/2, tuned", [conv(halves["first"]), prune(0.5), solve, tuned]),
        (f"first half conv, mlp 1/2, merge {each}", [conv(halves["first"]), prune(0.5), solve, merge(each)]),
        (f"merge {each}", [merge(each)]),
        (f"merge {late} late", [merge(late, depth // 2)]),
        (f"mlp 1/2, merge {each}", [prune(0.5), solve, merge(each)]),
        (f"mlp 1/3, merge {each}", [prune(0.3333), solve, merge(each)]),
        ("by itself to 0.7 of the operations", [
            f"select{{by=auto,count=0,cost=flops,goal=0.7,limit=1e9,solved={images},images=300}}", solve]),
    ]


def main():
    parser = argparse.ArgumentParser(prog="tools/bench solved")
    parser.add_argument("--vitc", required=True)
    parser.add_argument("teacher", nargs="?", default="golden/teacher/fashion-vit.onnx")
    parser.add_argument("data", nargs="?", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("eval_data", nargs="?")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--eval-images", type=int, default=10000)
    parser.add_argument("--rows", default="")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    inspected = subprocess.run(
        [arguments.vitc, "inspect", "--json", arguments.teacher], capture_output=True, text=True, check=True).stdout
    layers = json.loads(inspected)["layers"]
    found = []
    print(f"{'':<52} points         agreement       KL  parameters  operations  seconds", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        patches = bench_retain.patches(arguments.vitc, arguments.teacher, folder)
        for name, passes in rows(len(layers), patches, arguments.images):
            if not re.search(arguments.rows, name):
                continue
            pipeline = ",".join(passes)
            if arguments.verbose:
                print(pipeline, flush=True)
            start = time.monotonic()
            result = subprocess.run(
                [arguments.vitc, "compile", arguments.teacher, "-o", f"{folder}/model.vmod", "--data", arguments.data, "--eval-data",
                 arguments.eval_data or arguments.data, "--eval-images", str(arguments.eval_images), "--threads", str(arguments.threads),
                 "--report", str(report), "--passes", pipeline + ",trim", "--quiet"], capture_output=True, text=True)
            if result.returncode:
                print(f"{name:<52} {result.stderr.strip().splitlines()[-1]}", flush=True)
                continue
            seconds, data = time.monotonic() - start, json.loads(report.read_text())
            fidelity = data["fidelity"]
            points = 100 * (fidelity["accuracy"] - fidelity["teacher"]["accuracy"])
            change = {key: 100 * (data["hybrid"][key] / data["teacher"][key] - 1) for key in ("parameters", "flops")}
            row = {"row": name, "pipeline": pipeline, "points": points, "agreement": fidelity["agreement"], "kl": fidelity["kl"], **change,
                   "seconds": seconds}
            found.append(row)
            print(f"{name:<52} {points:+.2f} ± {196 * fidelity['drop_error']:.2f}   {100 * fidelity['agreement']:8.2f} %  {fidelity['kl']:.5f}"
                  f"    {change['parameters']:+6.1f} %    {change['flops']:+6.1f} %  {seconds:7.0f}", flush=True)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
