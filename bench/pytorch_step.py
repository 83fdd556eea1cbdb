"""Times PyTorch's training step (forward, backward, SGD with momentum) on the CPU.

  python3 bench/pytorch_step.py --model resnet20 --batch 128 [--threads 2] [--compile] [--bf16]

The peer that `broadside bench step` is compared with: same models, same batch, channels_last.
Prints one JSON object; images_per_second has the minimum, median and maximum over repetitions.
"""

import argparse
import json
import pathlib
import platform
import statistics
import sys
import time

import torch
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "testdata" / "golden"))
import models  # noqa: E402


def make_step(options):
    """Returns a function that runs one training step on fixed random images."""
    torch.manual_seed(1)
    model = models.build(options.model).to(memory_format=torch.channels_last).train()
    x = torch.rand(options.batch, *models.input_shape(options.model)).to(memory_format=torch.channels_last)
    y = torch.randint(10, (options.batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    forward = torch.compile(model) if options.compile else model

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            loss = F.cross_entropy(forward(x), y)
        loss.backward()
        optimizer.step()

    return step


def measure(step, options):
    """Images per second of each repetition of `steps` steps."""
    for _ in range(options.warmup):
        step()
    rates = []
    for _ in range(options.repetitions):
        start = time.perf_counter()
        for _ in range(options.steps):
            step()
        rates.append(options.batch * options.steps / (time.perf_counter() - start))
    return rates


def cpu_name():
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20", help="a name that models.build knows")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--warmup", type=int, default=3, help="steps before timing")
    parser.add_argument("--steps", type=int, default=5, help="steps in a repetition")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rates = measure(make_step(options), options)
    print(json.dumps({
        **vars(options),
        "images_per_second": {
            "min": round(min(rates), 1),
            "median": round(statistics.median(rates), 1),
            "max": round(max(rates), 1),
        },
        "torch": torch.__version__,
        "cpu": cpu_name(),
    }))


if __name__ == "__main__":
    main()
