"""A short distillation of a reduced model towards the teacher: KL of the outputs, all weights, a limited time of the processor."""
import copy
import math
import time

import torch


def distilled(model, teacher, images, minutes, rate=5e-4, batch=64, seed=0):
    """The model after AdamW with a cosine for so many minutes of the processor, the teacher's outputs included."""
    model = copy.deepcopy(model).train().requires_grad_()
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    begin = time.process_time()
    while (spent := (time.process_time() - begin) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, spent / 0.05) * 0.5 * (1 + math.cos(math.pi * spent))
        x = images[torch.randint(len(images), (batch,), generator=generator)]
        with torch.inference_mode():
            wanted = teacher(x).log_softmax(1)
        loss = torch.nn.functional.kl_div(model(x).log_softmax(1), wanted.clone(), reduction="batchmean", log_target=True)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model.eval()
