#!/usr/bin/env python3
"""Time and accuracy against the part of the patches that goes on, dropped (`retain`) and merged (`merge`).

    tools/bench retain TEACHER DATA [--keep 0.9,0.8,0.7,0.6,0.5] [--threads 2] [--batch 1] [--rounds 5] [--seconds 1] [--json FILE]

Both take patches away at a quarter, a half and three quarters of the depth, the same numbers; nothing is trained. Times are those of `vitc bench`, in
turn with the teacher, both trimmed; accuracy, agreement and KL those of `vitc eval` on DATA.
"""
import argparse
import json
import math
import pathlib
import statistics
import subprocess
import tempfile


def run(*command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{command[1]} failed:\n{result.stderr}")
    return result.stdout


def known(value):
    return math.nan if value is None else value


def patches(vitc, teacher, folder):
    """The number of patches: those of which as many go on behind `retain{keep=1e-9}` as one."""
    path = pathlib.Path(folder) / "all.vit"
    run(vitc, "opt", teacher, "--passes", "fold,raise,dce,retain{keep=0.000001,layers=[0]}", "-o", path)
    line = next(line for line in path.read_text().splitlines() if "vit.keep" in line)
    return int(line.rsplit("i64[batch, ", 1)[1].split("]")[0])


def main():
    parser = argparse.ArgumentParser(prog="tools/bench retain")
    parser.add_argument("--vitc", required=True)
    parser.add_argument("teacher")
    parser.add_argument("data")
    parser.add_argument("--keep", default="0.9,0.8,0.7,0.6,0.5")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    vitc, rows = arguments.vitc, []
    with tempfile.TemporaryDirectory() as folder:
        whole = pathlib.Path(folder) / "teacher.vmod"
        run(vitc, "opt", arguments.teacher, "--passes", "fold,raise,dce,trim", "-o", whole)
        layers = len(json.loads(run(vitc, "inspect", "--json", whole))["layers"])
        count, places = patches(vitc, arguments.teacher, folder), [layers * part // 4 for part in (1, 2, 3)]
        print("keep  what     patches          ms           teacher's    times  accuracy  agreement       KL", flush=True)
        for keep in map(float, arguments.keep.split(",")):
            left = [math.ceil(keep ** power * count - 1e-6) for power in (1, 2, 3)]
            gone = [a - b for a, b in zip([count, *left], left)]
            counts = [0] * layers
            for place, number in zip(places, gone):
                counts[place] = number
            forms = {"dropped": f"retain{{keep={keep}}}"}
            if all(2 * number <= before for number, before in zip(gone, [count, *left])):
                forms["merged"] = f"merge{{counts={counts}}}".replace(" ", "")
            for name, passes in forms.items():
                model = pathlib.Path(folder) / f"{name}-{keep}.vmod"
                run(vitc, "opt", arguments.teacher, "--passes", f"fold,raise,dce,{passes},trim", "-o", model)
                times = []
                for _ in range(arguments.rounds):
                    found = json.loads(run(
                        vitc, "bench", model, "--against", whole, "--threads", arguments.threads, "--batch", arguments.batch, "--time",
                        f"{arguments.seconds}s", "--json"))
                    times.append((found["ms"], found["other"]["ms"]))
                own, other = (statistics.median(pair[i] for pair in times) for i in (0, 1))
                ratio = statistics.median(b / a for a, b in times)
                scores = json.loads(run(vitc, "eval", model, "--data", arguments.data, "--against", arguments.teacher, "--json"))
                row = {"keep": keep, "what": name, "patches": left, "ms": own, "teacher_ms": other, "times": ratio,
                       **{key: scores[key] for key in ("images", "accuracy", "agreement", "kl")}, "teacher_accuracy": scores["teacher"]["accuracy"]}
                rows.append(row)
                accuracy = "" if scores["accuracy"] is None else f"{100 * (scores['accuracy'] - scores['teacher']['accuracy']):+.2f}"
                print(f"{keep:<5g} {name:<8} {'/'.join(map(str, left)):<11} {own:8.2f} ({min(t[0] for t in times):.2f} … {max(t[0] for t in times):.2f})"
                      f" {other:8.2f}  {ratio:5.2f}x  {accuracy:>8}  {known(scores['agreement']):9.4f}  {known(scores['kl']):7.4f}", flush=True)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
