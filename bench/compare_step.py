"""Runs Broadside's and PyTorch's training step in turn and prints the ratio of their rates.

  go test -c -o bin/engine.test ./engine
  python3 bench/compare_step.py [--model resnet20] [--batch 256] [--rounds 5]

Each round runs one after the other, so that a drift of the machine's speed hits both. Both use both
cores, the same model, batch and float32; PyTorch runs channels_last. Prints one JSON object.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def ours(options):
    """Images per second of the engine's benchmark."""
    out = subprocess.run(
        [str(HERE.parent / "bin" / "engine.test"), "-test.run", "^$", "-test.benchtime", options.time,
         "-test.bench", f"^BenchmarkStep$/^{options.model}$/^batch{options.batch}$"],
        check=True, capture_output=True, text=True, cwd=HERE.parent / "engine").stdout
    return float(re.search(r"([\d.]+) images/s", out)[1])


def peer(options):
    """Images per second of PyTorch: the median repetition."""
    out = subprocess.run(
        [sys.executable, str(HERE / "pytorch_step.py"), "--model", options.model, "--batch", str(options.batch),
         "--threads", str(options.threads), "--steps", "3", "--repetitions", "5"],
        check=True, capture_output=True, text=True).stdout
    result = json.loads(out)
    return result["images_per_second"]["median"], result["torch"], result["cpu"]


def spread(values):
    return {"min": round(min(values), 3), "median": round(statistics.median(values), 3), "max": round(max(values), 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20", help="a name that both sides know")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--time", default="4s", help="time of one run of ours")
    options = parser.parse_args()
    mine, theirs = [], []
    for _ in range(options.rounds):
        mine.append(ours(options))
        rate, torch, cpu = peer(options)
        theirs.append(rate)
    print(json.dumps({
        "model": options.model, "batch": options.batch, "threads": options.threads, "rounds": options.rounds,
        "broadside_images_per_second": spread(mine), "pytorch_images_per_second": spread(theirs),
        "ratio": spread([a / b for a, b in zip(mine, theirs)]), "torch": torch, "cpu": cpu,
    }, indent=1))


if __name__ == "__main__":
    main()
