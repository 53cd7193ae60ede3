#!/usr/bin/env python3
"""Time and memory of attention and of each mixer against the number of tokens: a ViT-S with random weights, patches of 14 pixels.

    tools/bench tokens [--threads 1] [--rounds 3] [--seconds 0.5] [--json FILE] [--chart FILE.svg]

A layer's time is that of everything in `vitc bench --profile` that stands in the place of the attention, the first token's row
included; memory is what a run computes on the way at once, beside the weights, whatever of the model that is.
"""
import argparse
import json
import math
import pathlib
import statistics
import subprocess
import tempfile

import bench_deit
from bench_peers.chart import STYLE, text

SIDES = [8, 14, 16, 24, 37]  # patches of a side; 112 to 518 pixels
LAYERS, HEADS, WIDTH, PATCH = 4, 6, 384, 14
MIXERS = {
    "attention": None, "lstm": "mixer=lstm", "ssd": "mixer=ssd", "glr": "mixer=glr", "glr, half": "mixer=glr,width=0.5",
    "conv": "mixer=conv", "static": "mixer=static",
}
COLOURS = {
    "attention": "#d1495b", "lstm": "#4c8fd6", "ssd": "#a07be0", "glr": "#2a9d8f", "glr, half": "#7f9a3a", "conv": "#c08a2e",
    "static": "#8a8f98",
}
# What is there whatever stands in the place of the attention.
SURROUNDINGS = {"vit.mlp", "vit.layer_norm", "vit.patch_embed", "vit.linear"}


def export(side, folder):
    """A ViT-S of so many patches a side."""
    bench_deit.IMAGE, bench_deit.PATCH = side * PATCH, PATCH
    bench_deit.MODELS["tokens"] = (WIDTH, HEADS, LAYERS)
    path = pathlib.Path(folder) / f"{side}.onnx"
    bench_deit.export("tokens", folder).rename(path)
    return path


def run(*command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{command[1]} failed:\n{result.stderr}")
    return result.stdout


def measure(vitc, side, arguments, folder):
    """Milliseconds of a layer and bytes, by mixer."""
    teacher = export(side, folder)
    models = {}
    for index, (name, swap) in enumerate(MIXERS.items()):
        models[name] = pathlib.Path(folder) / f"{side}-{index}.vmod"
        passes = "fold,raise,dce" if swap is None else f"fold,raise,dce,swap{{{swap},layers=all}}"
        run(vitc, "opt", teacher, "--passes", passes, "-o", models[name])
    common = ["--threads", arguments.threads, "--time", f"{arguments.seconds}s", "--json"]
    times = {name: [] for name in models}
    for _ in range(arguments.rounds):
        for name, path in models.items():
            profile = json.loads(run(vitc, "bench", path, "--profile", *common))
            own = [entry["ms"] for entry in profile["operations"]
                   if entry["operation"].startswith("vit.") and entry["operation"] not in SURROUNDINGS]
            times[name].append(sum(own) / LAYERS)
    memory = {name: json.loads(run(vitc, "bench", path, *common))["memory"] for name, path in models.items()}
    return [
        {"tokens": side * side + 1, "mixer": name, "ms": statistics.median(times[name]), "ms_low": min(times[name]),
         "ms_high": max(times[name]), "memory": memory[name]}
        for name in models
    ]


def panel(rows, left, title, value, unit):
    """One panel, both axes logarithmic."""
    top, width, height = 84, 330, 300
    tokens = sorted({row["tokens"] for row in rows})
    low, high = min(map(value, rows)), max(map(value, rows))
    first, last = math.floor(math.log2(low)), math.ceil(math.log2(high))
    across = lambda count: left + width * math.log(count / tokens[0]) / math.log(tokens[-1] / tokens[0])
    down = lambda amount: top + height * (last - math.log2(amount)) / (last - first)
    parts = [text(left + width / 2, top + height + 38, title, "middle", ' class="title"')]
    for count in tokens:
        parts.append(f'<path class="grid" d="M{across(count):.1f} {top}V{top + height}"/>')
        if count != 257:  # beside 197
            parts.append(text(across(count), top + height + 18, f"{count:,}", "middle"))
    for power in range(first, last + 1):
        parts.append(f'<path class="grid" d="M{left} {down(2.0 ** power):.1f}h{width}"/>')
        parts.append(text(left - 8, down(2.0 ** power) + 4, f"{2.0 ** power:g}{unit}", "end"))
    for name, colour in COLOURS.items():
        own = sorted((row["tokens"], value(row)) for row in rows if row["mixer"] == name)
        line = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in own)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return parts


def draw(rows, title):
    """The chart as SVG; it reads on a light and on a dark page."""
    parts = [text(60, 18, title, attributes=' class="title"')]
    for index, (name, colour) in enumerate(COLOURS.items()):
        x = 68 + index * 110
        parts.append(f'<path d="M{x - 6} 42h12" stroke="{colour}" stroke-width="3"/>')
        parts.append(text(x + 12, 46, name))
    parts += panel(rows, 60, "ms of a layer against tokens", lambda row: row["ms"], "")
    parts += panel(rows, 470, "MB of what is computed on the way", lambda row: row["memory"] / 1e6, "")
    body = "\n".join(parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 850 440" width="850" height="440">\n<style>{STYLE}</style>\n'
            f"{body}\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(prog="tools/bench tokens")
    parser.add_argument("--vitc", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--json")
    parser.add_argument("--chart")
    arguments = parser.parse_args()
    rows = []
    print(f"a layer of a ViT-S with random weights, {arguments.threads} thread(s): ms (median of {arguments.rounds} rounds), "
          "and MB of what a run computes on the way")
    print(f"{'tokens':>7} " + "".join(f"{name:>18}" for name in MIXERS))
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            own = measure(arguments.vitc, side, arguments, folder)
            rows += own
            cells = "".join(f"{row['ms']:10.3f} {row['memory'] / 1e6:7.1f}" for row in own)
            print(f"{own[0]['tokens']:7,} {cells}", flush=True)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.chart:
        title = f"One layer of a ViT-S with random weights, {arguments.threads} thread{'s' if arguments.threads > 1 else ''}, f32"
        pathlib.Path(arguments.chart).write_text(draw(rows, title))


if __name__ == "__main__":
    main()
