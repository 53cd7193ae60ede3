#!/usr/bin/env python3
"""The tests of tools/node_tests, which prepares what they need."""
import argparse
import collections
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# What a refusal's code says, in words; the rest are attributes and shapes that an operator is not claimed for.
REFUSALS = {
    "unsupported-operator": "operator", "element-type": "element type", "input-type": "element type",
    "output-type": "element type", "dynamic-shape": "shape depends on data", "control-flow": "control flow",
    "sequence": "sequence", "opset": "operator set",
}
# Where ONNX Runtime gives something else than the test, vitc gives what ONNX Runtime does: with corners aligned, it places
# pixels by the whole number of results, the test by extent times scale.
RUNTIME = {"test_resize_downsample_scales_linear_align_corners", "test_resize_downsample_scales_cubic_align_corners"}
FOREIGN = {"float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn", "float8_e8m0fnu",
           "int4", "uint4", "int2", "uint2"}


def array(value):
    """An input or output of a test as an array, or None where it is a sequence, absent, or of a type of no array."""
    if isinstance(value, TensorProto):
        value = numpy_helper.to_array(value)
    if value is None or isinstance(value, (list, tuple, onnx.SequenceProto, onnx.OptionalProto)):
        return None
    value = np.asarray(value)
    return None if value.dtype.name in FOREIGN or value.dtype.kind in "OUSc" else value


def stored(value):
    """The array in a type that .npy files have."""
    return value.astype(np.float32) if value.dtype.name == "bfloat16" else value


def with_constants(model, values, kept):
    """The model with all inputs but the first `kept` as constants; an input that nothing reads where none is left."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    inputs = list(graph.input)
    del graph.input[:]
    graph.input.extend(inputs[:kept])
    if not kept:
        graph.input.append(helper.make_tensor_value_info("nothing", TensorProto.FLOAT, [1]))
        graph.node.append(helper.make_node("Identity", ["nothing"], ["nothing.copy"]))
        graph.output.append(helper.make_tensor_value_info("nothing.copy", TensorProto.FLOAT, [1]))
    for info, value in list(zip(inputs, values))[kept:]:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value), info.name))
        tensor.name = info.name
        graph.initializer.append(tensor)
    return copy, values[:kept] if kept else [np.zeros(1, np.float32)]


class Runner:
    def __init__(self, vitc, opset):
        self.vitc, self.opset = vitc, opset
        self.unwritten = {}

    def written(self, case, folder):
        """The model as `vitc export` writes it, or as it is where that cannot be written; what the checker finds fault with."""
        done = subprocess.run([self.vitc, "export", str(folder / "m.onnx"), "-o", str(folder / "e.onnx"), "--opset", str(self.opset),
                               "--threads", "1"], capture_output=True, text=True, timeout=120)
        if done.returncode == 3:
            errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            self.unwritten[case.name] = errors[0].split(": ", 2)[-1] if errors else ""
            return folder / "m.onnx", None
        if done.returncode != 0:
            return None, f"export, exit {done.returncode}: {done.stderr.strip()[:300]}"
        self.unwritten.pop(case.name, None)
        try:
            onnx.checker.check_model(str(folder / "e.onnx"), full_check=True)
        except Exception as error:
            return None, f"export: {str(error).strip().splitlines()[0][:300]}"
        return folder / "e.onnx", None

    def run(self, case):
        """(verdict, detail): passed, passed with constants, failed, or refused with the diagnostic."""
        verdict = ("refused", {"code": "element-type", "message": "inputs that are no tensors of a type of .npy"})
        for inputs, outputs in case.data_sets:
            names = [value.name for value in case.model.graph.input]
            if not names:
                model, rest = with_constants(case.model, [], 0)
                verdict = self.attempt(case, model, rest, outputs)
                continue
            inputs = list(inputs)[:len(names)]
            verdict = self.attempt(case, case.model, inputs, outputs)
            for kept in (1, 0):
                if verdict[0] != "refused" or len(inputs) <= kept or any(array(x) is None for x in inputs[kept:]):
                    continue
                # Constants may say what a shape depends on, never what an operator is.
                if verdict[1]["code"] == "unsupported-operator" and "shapes depend on data" not in verdict[1]["message"]:
                    continue
                model, rest = with_constants(case.model, inputs, kept)
                again = self.attempt(case, model, rest, outputs)
                if again[0] != "refused":
                    verdict = ("passed with constants", None) if again[0] == "passed" else again
            if not verdict[0].startswith("passed"):
                return verdict
        return verdict

    def attempt(self, case, model, inputs, outputs):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            path = folder / "m.onnx"
            path.write_bytes(model.SerializeToString())
            if self.opset:
                path, fault = self.written(case, folder)
                if fault:
                    return "failed", fault
            words = [self.vitc, "run", str(path), "--diagnostics", "json", "--threads", "1"]
            for place, (info, value) in enumerate(zip(model.graph.input, inputs)):
                value = array(value)
                if value is None:
                    # The refusal that loading gives, if it gives one, says more than a file that cannot be written.
                    words = [self.vitc, "inspect", str(folder / "m.onnx"), "--diagnostics", "json"]
                    break
                np.save(folder / f"x{place}.npy", stored(value))
                words += ["--input", f"{info.name}={folder / f'x{place}.npy'}"]
            else:
                for place in range(len(outputs)):
                    words += ["--output", str(folder / f"y{place}.npy")]
            done = subprocess.run(words, capture_output=True, text=True, timeout=120)
            if done.returncode == 3:
                errors = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
                return "refused", next(e for e in errors if e["severity"] == "error")
            if done.returncode != 0:
                return "failed", f"exit {done.returncode}: {done.stderr.strip()[:300]}"
            if words[1] == "inspect":
                return "refused", {"code": "element-type", "message": "an operand of a type that .npy files have not"}
            for place, wanted in enumerate(outputs):
                wanted = array(wanted)
                if wanted is None:
                    return "refused", {"code": "element-type", "message": "a result of a type that .npy files have not"}
                problem = self.compare(np.load(folder / f"y{place}.npy"), wanted, case)
                if problem:
                    return "failed", f"output {place}: {problem}"
        return "passed", None

    @staticmethod
    def compare(found, wanted, case):
        if found.shape != wanted.shape:
            return f"shape {found.shape}, expected {wanted.shape}"
        # vitc computes narrow floats and rare integers in wider types; a bool stays one.
        if (found.dtype.kind == "b") != (wanted.dtype.kind == "b"):
            return f"type {found.dtype}, expected {wanted.dtype}"
        tolerance, floor = case.rtol, case.atol
        if wanted.dtype.name == "bfloat16" or wanted.dtype == np.float16:
            found = found.astype(wanted.dtype)
        if wanted.dtype.name == "bfloat16":
            # vitc rounds once, at the end; the test after every step.
            floor = 2 ** -7 * np.abs(wanted.astype(np.float64)).max(initial=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not np.allclose(found.astype(np.float64), wanted.astype(np.float64), tolerance, floor, equal_nan=True):
                gap = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
                return f"differs by {np.nanmax(gap):.3g}: {found.ravel()[:4]}, expected {wanted.ravel()[:4]}"
        return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vitc", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--export", type=int, metavar="OPSET")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_node_model_tests
        cases = [case for case in load_node_model_tests() if options.only in case.name]
    runner = Runner(options.vitc, options.export)
    with concurrent.futures.ThreadPoolExecutor(options.threads) as pool:
        verdicts = list(pool.map(runner.run, cases))
    verdicts = [("follows ONNX Runtime", None) if verdict[0] == "failed" and case.name in RUNTIME else verdict
                for case, verdict in zip(cases, verdicts)]
    counts = collections.Counter(verdict for verdict, _ in verdicts)
    passed = counts["passed"] + counts["passed with constants"]
    print(f"onnx {onnx.__version__}: {len(cases)} tests: {passed} passed ({counts['passed with constants']} with operands as "
          f"constants), {counts['failed']} failed, {counts['follows ONNX Runtime']} as ONNX Runtime has it, "
          f"{counts['refused']} refused")
    if options.export:
        unwritten = {case.name: runner.unwritten[case.name] for case, (verdict, _) in zip(cases, verdicts)
                     if case.name in runner.unwritten and verdict.startswith("passed")}
        print(f"version {options.export}: of those that passed {passed - len(unwritten)} as they were written, {len(unwritten)} cannot be")
        for name, reason in unwritten.items() if options.list else ():
            print(f"  {name}: {reason}")
    reasons = collections.defaultdict(list)
    for case, (verdict, detail) in zip(cases, verdicts):
        if verdict == "failed":
            print(f"FAILED {case.name}: {detail}")
        elif verdict == "refused":
            reason = REFUSALS.get(detail["code"], "attribute, shape or form")
            if "shapes depend on data" in detail["message"]:
                reason = REFUSALS["dynamic-shape"]
            reasons[reason].append((case.name, detail))
    for reason, entries in sorted(reasons.items()):
        print(f"refused, {reason}: {len(entries)}")
        if options.list:
            for name, detail in entries:
                print(f"  {name}: [{detail['code']}] {detail['message']}")
    sys.exit(1 if counts["failed"] else 0)


if __name__ == "__main__":
    main()
