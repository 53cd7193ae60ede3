#!/usr/bin/env python3
"""`tools/bench reduce`: vitc beside its peers at making one trained vision transformer smaller, on the same images.

Every row starts from the same teacher, sees the same training images, and is measured on all test images. The teacher that rows
are compared with is without the rows of its last block that nobody reads, on both sides. One thread throughout.
"""
import argparse
import json
import pathlib
import re
import sys
import tempfile
import time

import torch

from bench_peers import chart, depth, hybrids, images, lowrank, measure, merging, pruning, teacher, tuning

ROOT = pathlib.Path(__file__).resolve().parent.parent
FASHION = "/usr/share/datasets/fashion-mnist"
BATCHES = (1, 8)
NOTE = """Points ± 1.96 standard errors of pairs on the same images. Parameters, operations and times are against the teacher without
the rows of its last block that nobody reads. Times, for 1 and 8 images, are over the teacher's, which ran in turn, on one thread: the
median, and the tenth and the ninetieth percentile; in ONNX Runtime of the pairs, by the thread's own clock, in vitc's runtime of rounds,
by the faster runs of each. What ONNX Runtime times of vitc is a model of the same sizes with random weights, since vitc writes no ONNX
(– for recurrences). s: seconds of the processor to make it, which for vitc include its own evaluation on 500 images."""


def peer_rows(vit, calibration, training, minutes):
    """Name, setting, and what makes the model, for all peers."""
    few = calibration.sample(500)
    tuned = lambda model: tuning.distilled(model, vit, training, minutes)
    for share in (0.25, 0.5, 0.75):
        yield "magnitude pruning", f"MLP −{share:.0%}", lambda: pruning.magnitude(vit, share)
    yield "magnitude pruning", f"MLP −50%, {minutes:g} min", lambda: tuned(pruning.magnitude(vit, 0.5))
    for share in (0.25, 0.5, 0.75):
        yield "torch-pruning", f"MLP −{share:.0%}", lambda: pruning.taylor(vit, calibration, share)
    for share in (0.25, 0.5):
        yield "torch-pruning", f"MLP, heads −{share:.0%}", lambda: pruning.taylor(vit, calibration, share, heads=True)
    yield "torch-pruning", f"MLP −50%, {minutes:g} min", lambda: tuned(pruning.taylor(vit, calibration, 0.5))
    yield "torch-pruning", f"MLP, heads −50%, {minutes:g} min", lambda: tuned(pruning.taylor(vit, calibration, 0.5, heads=True))
    for weighted, name in [(False, "SVD"), (True, "weighted SVD")]:
        for share in (0.75, 0.5, 0.35):
            yield name, f"{share:.0%} kept", lambda: lowrank.decompose(vit, calibration, share, weighted)
    for count in (2, 4, 6):
        yield "ToMe", f"r = {count}", lambda: merging.Merging(vit, count)
    for count in (1, 2, 3):
        yield "blocks dropped", f"{count}", lambda: depth.dropped(vit, few, count)
    for count in (1, 2, 3):
        yield "blocks made linear", f"{count}", lambda: depth.linear(vit, calibration, count)


def vitc_settings(minutes):
    """The options of vitc's rows; the last is the default."""
    yield "--no-train"
    yield "--no-train --replace auto"
    for drop in ("--max-drop 0.3", "", "--max-drop 3"):
        yield f"--no-train --replace 0 {drop}".strip()
    for drop in ("--max-drop 0.3", "", "--max-drop 3"):
        yield f"--mixer conv --no-train --replace auto {drop}".strip()
    yield f"--replace auto --time-budget {minutes:g}m"
    yield ""


class Bench:
    """The teacher, the images, and a folder for what is made."""

    def __init__(self, arguments, folder):
        self.folder, self.seconds = pathlib.Path(folder), arguments.seconds
        self.folder.mkdir(parents=True, exist_ok=True)
        self.test = images.load(arguments.model, arguments.eval_data, "test")
        self.training = images.load(arguments.model, arguments.data, "train")
        self.shape = self.test[:1].shape[1:]
        self.vit = teacher.load(arguments.model, self.test[:8])
        self.vitc = hybrids.Vitc(arguments.vitc, arguments.model, arguments.data, arguments.eval_data)
        self.reference = self.vitc.raised(arguments.model, self.folder / "reference.vmod")
        self.runners = {batch: measure.Runner(self.vit, batch, self.shape) for batch in BATCHES}
        self.wanted = self.runners[8].logits(self.test)
        self.size = measure.size(self.vit, self.shape)

    def measured(self, name, setting, measure):
        """The row that `measure(slug)` makes, or that a run before this one has left."""
        slug = re.sub(r"[^a-z0-9.]+", "-", f"{name} {setting}".lower()).strip("-")
        path = self.folder / f"{slug}.row.json"
        if not path.exists():
            trained = "min" in setting or name == "vitc" and "--no-train" not in setting
            row = {"name": name, "setting": setting, "trained": trained, **measure(slug)}
            path.write_text(json.dumps(row))
            print(f"{name} {setting}: {row['points']:+.2f} points", file=sys.stderr, flush=True)
        return json.loads(path.read_text())

    def made(self, path, make):
        """The seconds of the processor that it took to write this model with `make(path)`, unless it is there."""
        note = path.with_suffix(".seconds")
        if not (path.exists() and note.exists()):
            note.write_text(json.dumps(make(path)))
        return json.loads(note.read_text())

    def peer(self, slug, make):
        """What is measured of a peer: its model runs in ONNX Runtime, and as vitc reads it in vitc's."""
        def write(path):
            begin = time.process_time()
            model = make()
            seconds = time.process_time() - begin
            torch.save(model, path)
            return seconds

        path, source = self.folder / f"{slug}.pt", self.folder / f"{slug}.onnx"
        seconds = self.made(path, write)
        model = torch.load(path, weights_only=False).eval()
        runners = {batch: measure.Runner(model, batch, self.shape) for batch in BATCHES}
        source.write_bytes(runners[1].onnx)
        try:
            raised = self.vitc.raised(source, path.with_suffix(".vmod"))
        except RuntimeError as reason:
            print(f"{slug}: not in vitc's runtime: {reason}", file=sys.stderr)
            raised = None
        return {"seconds": seconds, **self.sizes(measure.size(model, self.shape), self.size),
                **measure.fidelity(runners[8].logits(self.test), self.wanted, self.test.labels), **self.times(runners, raised)}

    def hybrid(self, slug, options):
        """What is measured of a hybrid: it runs in vitc's runtime; what ONNX Runtime times is a model of the same sizes."""
        path = self.folder / f"{slug}.vmod"
        seconds = self.made(path, lambda path: self.vitc.compile(options, path))
        report = self.vitc.bench(path, self.reference, 1, 0.1)
        size, of_teacher = ({"parameters": r["parameters"], "operations": r["flops"]} for r in (report, report["other"]))
        model = hybrids.same_shape(self.vitc.text(path), self.vit)
        runners = model and {batch: measure.Runner(model, batch, self.shape) for batch in BATCHES}
        logits = self.vitc.logits(path, self.test)
        return {"seconds": seconds, **self.sizes(size, of_teacher), **measure.fidelity(logits, self.wanted, self.test.labels),
                **self.times(runners, path)}

    def sizes(self, size, of_teacher):
        return {**size, **{f"{key}_kept": size[key] / of_teacher[key] for key in size}}

    def times(self, runners, in_vitc):
        """Of one and of more images, in the runtimes that have the model."""
        times = {}
        for batch in BATCHES:
            if runners:
                x = self.test[:batch].numpy()
                times[f"onnxruntime_{batch}"] = measure.in_turn(runners[batch], self.runners[batch], x, self.seconds)
            if in_vitc:
                times[f"vitc_{batch}"] = measure.in_vitc(self.vitc, in_vitc, self.reference, batch, self.seconds)
        return times


def table(rows):
    """The rows in Markdown."""
    def ratio(row, key):
        if key not in row:
            return "–"
        middle, low, high = row[key]["ratio"]
        return f"{middle:.2f} ({low:.2f}–{high:.2f})"

    signed = lambda number, digits: f"{number:+.{digits}f}".replace("-", "−") if round(number, digits) else "0"
    change = lambda share: f"{signed(100 * share - 100, 1)} %"
    times = [f"{runtime}_{batch}" for runtime in ("onnxruntime", "vitc") for batch in BATCHES]
    lines = ["| | | points | agreement, % | KL | parameters | operations | ONNX Runtime, 1 | 8 | vitc's runtime, 1 | 8 | s |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        points = f"{signed(row['points'], 2)} ± {1.96 * row['points_se']:.2f}"
        setting = f"`{row['setting'] or 'default'}`" if row["name"] == "vitc" else row["setting"]
        lines.append(f"| {row['name']} | {setting} | {points} | {row['agreement']:.1f} | {row['kl']:.4f} | "
                     f"{change(row['parameters_kept'])} | {change(row['operations_kept'])} | "
                     f"{' | '.join(ratio(row, key) for key in times)} | {row['seconds']:.0f} |")
    return "\n".join(lines)


def teacher_times(row):
    """What the ratios are of."""
    times = [f"{row[key]['teacher_ms']:.2f} ms for {batch} in {name}"
             for runtime, name in [("onnxruntime", "ONNX Runtime"), ("vitc", "vitc's runtime")] for batch in BATCHES
             if (key := f"{runtime}_{batch}") in row]
    return f"The teacher takes {', '.join(times)}."


def main():
    parser = argparse.ArgumentParser(prog="tools/bench reduce", description=__doc__)
    parser.add_argument("--vitc", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--model", default=ROOT / "golden" / "teacher" / "fashion-vit.onnx", type=pathlib.Path)
    parser.add_argument("--data", default=FASHION)
    parser.add_argument("--eval-data")
    parser.add_argument("--images", type=int, default=1000, help="training images that peers calibrate on")
    parser.add_argument("--minutes", type=float, default=3, help="of the processor for a distillation")
    parser.add_argument("--seconds", type=float, default=1.5, help="for each measurement of time")
    parser.add_argument("--rows", default="", help="only those whose name and setting this expression matches")
    parser.add_argument("--keep", help="a folder for models and rows; those that are there are not made again")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--chart", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.eval_data = arguments.eval_data or arguments.data
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, arguments.keep or folder)
        calibration = bench.training.sample(arguments.images)
        rows = [bench.measured("teacher", "", lambda slug: bench.peer(slug, lambda: bench.vit))]
        for name, setting, make in peer_rows(bench.vit, calibration, bench.training, arguments.minutes):
            if re.search(arguments.rows, f"{name} {setting}"):
                rows.append(bench.measured(name, setting, lambda slug: bench.peer(slug, make)))
        for options in vitc_settings(arguments.minutes):
            if re.search(arguments.rows, f"vitc {options}"):
                rows.append(bench.measured("vitc", options, lambda slug: bench.hybrid(slug, options)))
    title = f"{arguments.model.stem}: {rows[0]['accuracy']:.2f} % of {len(bench.test):,} images"
    print(f"{title}. {NOTE}\n\n{teacher_times(rows[0])}\n\n{table(rows)}")
    if arguments.json:
        arguments.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if arguments.chart:
        arguments.chart.write_text(chart.draw(rows, title))


if __name__ == "__main__":
    main()
