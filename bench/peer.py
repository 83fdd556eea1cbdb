"""What the PyTorch sides of the comparison share: flags, settings, timing, and being driven from outside.

A peer builds its work once. Alone it measures it and prints one JSON object. With --serve it prints a line when
it is ready and then answers every line of its input with one measurement, so that compare.py can let it take
turns with Broadside. With --stream it times every run by itself and prints a JSON line after each measurement, so
that whoever ends it has what there was.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "testdata" / "golden"))


def parser(doc, stream=False):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default="resnet20", help="a name that models.build knows")
    p.add_argument("--image", type=int, default=0, help="height and width of the images; 0: the model's usual ones")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--contiguous", action="store_true", help="PyTorch's default memory format instead of channels_last")
    p.add_argument("--time", type=float, default=4, help="seconds of one measurement")
    p.add_argument("--repetitions", type=int, default=5, help="measurements")
    p.add_argument("--serve", action="store_true", help="measure once for every line of the input")
    if stream:
        p.add_argument("--stream", action="store_true", help="time single runs, and print a JSON line after each measurement")
        p.add_argument("--runs", type=int, default=20, help="runs of a measurement at least, with --stream")
    return p


def start(options):
    """Imports PyTorch with its threads and denormals set, and returns it."""
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))  # read when PyTorch is loaded
    import torch

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # before the other threads start: they inherit it
    torch.backends.cudnn.benchmark = True  # a GPU's fastest kernels
    tf32(torch, False)  # cuDNN has it on
    torch.manual_seed(1)
    return torch


def tf32(torch, on):
    """Lets products of f32 round their factors to TF32, or forbids it."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on


def network(torch, options, batch):
    """Returns the model, random images and random labels."""
    import models

    channels, height, width = models.input_shape(options.model)
    classes = 1000 if height > 64 else 10
    if options.image:
        height = width = options.image
    layout = torch.contiguous_format if options.contiguous else torch.channels_last
    model = models.build(options.model, classes).to(options.device, memory_format=layout)
    x = torch.rand(batch, channels, height, width).to(options.device, memory_format=layout)
    return model, x, torch.randint(classes, (batch,)).to(options.device)


def measure(torch, options, work, seconds):
    """Seconds that one run of work takes, over runs of at least `seconds`."""
    start, runs = time.perf_counter(), 0
    while runs == 0 or time.perf_counter() - start < seconds:
        if options.device == "cpu":
            work()
            runs += 1
            continue
        for _ in range(10):  # a GPU that is waited for after every run would idle
            work()
        torch.cuda.synchronize()
        runs += 10
    return (time.perf_counter() - start) / runs


def singles(torch, options, work):
    """Seconds of single runs of work, by the GPU's own clock where there is one."""
    took, start = [], time.perf_counter()
    while len(took) < options.runs or time.perf_counter() - start < options.time:
        if options.device == "cpu":
            before = time.perf_counter()
            work()
            took.append(time.perf_counter() - before)
            continue
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(options.runs + 1)]
        marks[0].record()
        for mark in marks[1:]:
            work()
            mark.record()
        torch.cuda.synchronize()
        took += [a.elapsed_time(b) / 1e3 for a, b in zip(marks, marks[1:])]
    return took


def stream(torch, options, work, about):
    """Measures several times and prints all that was measured so far after each."""
    took = []
    for _ in range(options.repetitions):
        took.append(singles(torch, options, work))
        print(json.dumps({**vars(options), **about, **environment(torch), "seconds": spread(sum(took, [])),
                          "measurements": [{"runs": len(t), "seconds": spread(t)} for t in took]}), flush=True)


def run(torch, options, work, **about):
    """Warms work up, then measures it as the options say. What else is to be told of it goes into a stream."""
    start = time.perf_counter()
    for _ in range(3):
        work()
    if options.device == "cuda":
        torch.cuda.synchronize()
    if options.stream:
        stream(torch, options, work, {**about, "warm_up_seconds": time.perf_counter() - start})
        return
    if options.serve:
        serve(torch, lambda: {"seconds": measure(torch, options, work, options.time)})
        return
    took = [measure(torch, options, work, options.time) for _ in range(options.repetitions)]
    print(json.dumps({**vars(options), **environment(torch), "seconds": spread(took)}, indent=1))


def serve(torch, answer):
    """Prints a line when ready, and an answer for every line of the input."""
    print(json.dumps({"ready": True, **environment(torch)}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(answer()), flush=True)


def spread(values):
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def environment(torch):
    gpu = {"gpu": torch.cuda.get_device_name(), "cudnn": torch.backends.cudnn.version()} if torch.cuda.is_available() else {}
    return gpu | {"torch": torch.__version__, "threads": torch.get_num_threads(), "cpu": cpu_name(),
            "mkldnn": torch.backends.mkldnn.is_available(), "capability": torch.backends.cpu.get_cpu_capability(),
            "omp": {k: v for k, v in os.environ.items() if k.startswith(("OMP_", "GOMP_", "KMP_", "ONEDNN_"))}}


def cpu_name():
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()
