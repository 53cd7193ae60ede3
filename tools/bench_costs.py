#!/usr/bin/env python3
"""Fits what an operation costs in time: so many picoseconds for each floating-point operation and each byte, so many
nanoseconds for each node. Prints the rates as the Swift that Sources/VitOps/Cost/CostTable+Rates.swift is made of."""
import argparse
import collections
import itertools
import json
import pathlib
import platform
import subprocess
import sys
import tempfile

import numpy as np

import bench_deit

# The tables: what brings weights into the bits that each is of.
TABLES = {"f32": "", "bf16": "quantise{weights=bf16}", "int8": "quantise{weights=int8}"}
WORDS = {"f32": "products are those of floats", "bf16": "weights of linear maps are bfloat16", "int8": "those have 8 bits"}
# Operations of which fewer profiles are known get the rates of all others together.
FEWEST = 6
SURGERY = [
    "", "swap{mixer=glr,layers=all}", "swap{mixer=glr,layers=all,width=0.5}", "swap{mixer=lstm,layers=all}",
    "swap{mixer=ssd,layers=all}", "swap{mixer=conv,layers=all}", "swap{mixer=static,layers=all}",
    "prune{mlp=0.5,images=8}", "factorise{scores=0.5,values=0.5,images=8}", "prune{mlp=0.25,images=8},factorise{scores=0.25,values=0.25,images=8}",
    "merge{count=8}", "swap{mixer=conv,layers=all},merge{count=8}",
]
SHAPES = {"tiny": (192, 3, 4, 224, 16), "small": (384, 6, 3, 224, 16), "long": (192, 3, 3, 448, 16), "narrow": (96, 3, 6, 112, 16)}


def models(folder, vitc):
    """Files of models with random weights, of several sizes, with everything in them that vitc puts into a hybrid."""
    for name, (dim, heads, layers, image, patch) in SHAPES.items():
        bench_deit.MODELS[name] = (dim, heads, layers)
        bench_deit.IMAGE, bench_deit.PATCH = image, patch
        teacher = bench_deit.export(name, folder)
        for number, surgery in enumerate(SURGERY):
            out = pathlib.Path(folder) / f"{name}-{number}.vmod"
            passes = ",".join(filter(None, ["fold", "raise", "dce", surgery, "trim"]))
            command = [vitc, "opt", str(teacher), "--passes", passes, "-o", str(out), "--data", "synthetic:16", "--quiet"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{name}: {surgery}: {done.stderr.strip()}", file=sys.stderr)
                continue
            yield out


def profile(path, vitc, seconds, batch):
    """What `vitc bench` says of each operation, on one thread."""
    command = [vitc, "bench", str(path), "--profile", "--json", "--threads", "1", "--batch", str(batch), "--time", f"{seconds}s"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["operations"]


def profiles(path, vitc, seconds, table):
    """(operation, nodes, flops, bytes, nanoseconds) of runs on one image and on four; what there is to do is counted on floats."""
    narrow = path.with_suffix(".narrow.vmod")
    if TABLES[table]:
        command = [vitc, "opt", str(path), "--passes", TABLES[table], "-o", str(narrow), "--quiet"]
        subprocess.run(command, check=True, capture_output=True)
    for batch in 1, 4:
        counted = profile(path, vitc, seconds if not TABLES[table] else 0.05, batch)
        timed = {row["operation"]: row["ms"] for row in profile(narrow, vitc, seconds, batch)} if TABLES[table] else {}
        for row in counted:
            name = row["operation"]
            if ms := timed.get(name, row["ms"] if not TABLES[table] else None):
                yield name, row["nodes"], row["flops"], row["bytes"], ms * 1e6
    narrow.unlink(missing_ok=True)


def fit(rows):
    """The rates that are nowhere negative and miss the times least, relative to them."""
    given = np.array([[flops, bytes, nodes] for nodes, flops, bytes, _ in rows], float)
    times = np.maximum(np.array([time for *_, time in rows]), 1.0)
    best = None
    for chosen in itertools.chain.from_iterable(itertools.combinations(range(3), n) for n in (1, 2, 3)):
        a = given[:, chosen] / times[:, None]
        scale = np.maximum(np.abs(a).max(axis=0), 1e-30)
        found = np.linalg.lstsq(a / scale, np.ones(len(times)), rcond=None)[0] / scale
        missed = np.sqrt(np.mean((a @ found - 1) ** 2))
        if (found >= 0).all() and (best is None or missed < best[0]):
            rates = np.zeros(3)
            rates[list(chosen)] = found
            best = missed, rates
    return best


def swift(tables, cpu):
    """The tables as Swift."""
    line = "Rate(picosecondsPerFlop: {:.2f}, picosecondsPerByte: {:.2f}, nanoseconds: {:.0f})"
    lines = [f"// Written by tools/bench costs: one thread, {cpu}.", "", "extension CostTable {"]
    for table, rates in tables.items():
        others = rates.pop(None)
        lines += [f"  /// Where {WORDS[table]}.", f"  static let {table} = Rates(", "    known: ["]
        lines += [f'      "{name}": ' + line.format(*value) + "," for name, value in sorted(rates.items())]
        lines += ["    ],", "    others: " + line.format(*others) + ")"]
    return "\n".join(lines + ["}"])


def main():
    parser = argparse.ArgumentParser(prog="tools/bench costs", description=__doc__)
    parser.add_argument("--vitc", required=True)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--rows", help="a file that keeps the profiles")
    arguments = parser.parse_args()
    rows = {table: collections.defaultdict(list) for table in arguments.tables}
    with tempfile.TemporaryDirectory() as folder:
        for path in models(folder, arguments.vitc):
            for table in arguments.tables:
                for operation, *row in profiles(path, arguments.vitc, arguments.seconds, table):
                    rows[table][operation].append(row)
            path.unlink()
    if arguments.rows:
        pathlib.Path(arguments.rows).write_text(json.dumps(rows))
    tables = {}
    for table, profiled in rows.items():
        found = {name: fit(some) for name, some in profiled.items() if len(some) >= FEWEST}
        found[None] = fit([row for name, some in profiled.items() if len(some) < FEWEST or name.startswith("onnx.") for row in some])
        for name, (missed, _) in sorted(found.items(), key=lambda entry: str(entry[0])):
            print(f"{table}: {name}: {len(profiled.get(name, []))} profiles, missed by {missed:.0%}", file=sys.stderr)
        tables[table] = {name: rates * [1e3, 1e3, 1] for name, (_, rates) in found.items()}
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    print(swift(tables, cpu))


if __name__ == "__main__":
    main()
