"""What a reduced model is worth: closeness to the teacher on the same images, size, and time in turn with the teacher."""
import io
import statistics
import time
import warnings

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench_peers import teacher


def export(module, shape):
    """The module as ONNX bytes for inputs of just this shape, so that every other size in it is a constant."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (torch.zeros(shape),), file, dynamo=False, opset_version=17, input_names=["image"],
                          output_names=["logits"])
    return file.getvalue()


class Runner:
    """A module in ONNX Runtime at one size of batch."""

    def __init__(self, module, batch, shape):
        self.batch, self.onnx = batch, export(module, (batch, *shape))
        self.session = teacher.session(self.onnx)

    def __call__(self, images):
        return self.session.run(None, {"image": images})[0]

    def logits(self, images):
        """The logits of any number of images."""
        outputs = []
        for part in images.batches(self.batch):
            filled = np.zeros((self.batch, *part.shape[1:]), np.float32)
            filled[:len(part)] = part
            outputs.append(self(filled)[:len(part)])
        return torch.from_numpy(np.concatenate(outputs))


def fidelity(logits, wanted, labels):
    """Accuracy and closeness to the teacher's logits; `±` of pairs on the same images, one standard error."""
    right, before = ((x.argmax(1) == labels).double() for x in (logits, wanted))
    log_p, log_q = (x.double().log_softmax(1) for x in (wanted, logits))
    divergence = (log_p.exp() * (log_p - log_q)).sum(1)
    error = lambda x: float(x.std() / len(x) ** 0.5)
    return {
        "accuracy": 100 * float(right.mean()),
        "points": 100 * float((right - before).mean()), "points_se": 100 * error(right - before),
        "agreement": 100 * float((logits.argmax(1) == wanted.argmax(1)).double().mean()),
        "kl": float(divergence.mean()), "kl_se": error(divergence),
    }


def size(module, shape):
    """Parameters, and operations of the products for one image, two for a multiplication and addition."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, *shape))
    return {"parameters": sum(p.numel() for p in module.parameters()), "operations": counter.get_total_flops()}


def spread(ratios):
    """The median, and the tenth and the ninetieth percentile."""
    low, high = np.quantile(ratios, [0.1, 0.9])
    return [statistics.median(ratios), float(low), float(high)]


def in_turn(run, run_teacher, images, seconds):
    """The time of `run` over that of `run_teacher`, pair by pair, in either order; of this thread, whatever else the machine does."""
    def clock(function):
        start = time.thread_time()
        function(images)
        return time.thread_time() - start

    ratios, teacher_times, end = [], [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(ratios) < 20:
        pair = [run, run_teacher][:: 1 if len(ratios) % 2 else -1]
        times = {function: clock(function) for function in pair}
        ratios.append(times[run] / times[run_teacher])
        teacher_times.append(times[run_teacher])
    return {"ratio": spread(ratios[2:]), "teacher_ms": statistics.median(teacher_times) * 1e3}


def in_vitc(vitc, path, path_of_teacher, batch, seconds, rounds=5):
    """The same in vitc's own runtime, which takes both in turn: a ratio of each round, of the faster runs, which nothing interrupted."""
    reports = [vitc.bench(path, path_of_teacher, batch, seconds / rounds) for _ in range(rounds)]
    return {"ratio": spread([r["ms_low"] / r["other"]["ms_low"] for r in reports]),
            "teacher_ms": statistics.median(r["other"]["ms_low"] for r in reports)}
