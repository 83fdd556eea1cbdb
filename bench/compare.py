"""Runs Broadside and PyTorch in turn on this machine and holds the ratios against the targets.

  make build
  python3 bench/compare.py [--rows resnet20,hvp] [--rounds 5] [--out docs/results/]
  python3 bench/compare.py --device cuda ...    # after make cuda, on a machine with a GPU

A round runs one side after the other, so that a drift of the machine's speed hits both. PyTorch first shows
which of its settings (memory format, torch.compile, kind of product) is fastest on the row; that one takes
part. Needs the packages of requirements.txt, in this Python or in the one named by --python, and for
torch.compile a C++ compiler. Leave the machine alone meanwhile.

Prints a table, and with --out writes it as JSON with the environment in the file name. --smoke only shows that
every row runs: its sizes are tiny and its numbers mean nothing. So it does on an emulated GPU, with PyTorch on the CPU:
  BROADSIDE_LIBCUDA=build/emu/libbroadside_emu.so python3 bench/compare.py --smoke --device cuda --peer-device cpu --rows layers
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

import peer
import rows

HERE = pathlib.Path(__file__).resolve().parent
BINARIES = {"cpu": HERE.parent / "bin" / "broadside", "cuda": HERE.parent / "bin" / "broadside-cuda"}


class Skip(Exception):
    """A row that this machine cannot run."""


def broadside(command, options, *flags, rounds=1):
    """Runs a benchmark of ours and returns its result."""
    flags = [str(f) for f in flags]
    if options.device == "cuda":
        flags += ["--device", "cuda"]
    if options.smoke:
        flags += ["--image", "32"]
    out = subprocess.run([options.broadside, "bench", *command.split(), "--json", "--time", f"{rounds * options.time}s", *flags],
                         capture_output=True, text=True)
    if out.returncode:
        raise RuntimeError(out.stderr.strip())
    return json.loads(out.stdout)


class Peer:
    """A PyTorch process that measures when asked to."""

    def __init__(self, script, options, flags):
        self.flags = flags
        self.errors = tempfile.TemporaryFile("w+")
        command = [options.python, HERE / script, "--serve", "--device", options.peer_device, "--time", str(options.time), "--threads", str(options.threads), *flags]
        if options.smoke:
            command += ["--image", "32"]
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True)
        self.environment = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            lines = self.errors.read().strip().splitlines()
            raise RuntimeError(lines[-1] if lines else "ended without a word")
        return json.loads(line)

    def measure(self):
        """One measurement: what the peer answers."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def seconds(self):
        """One measurement: the seconds of a step or product."""
        return self.measure()["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def fastest(script, options, flags, settings):
    """Starts the peer with each setting in turn and keeps the fastest. Returns it with what was tried."""
    best, least, tried = None, None, []
    for setting in settings:
        name = " ".join(setting) or "channels_last"
        try:
            candidate = Peer(script, options, flags + setting)
            took = min(candidate.seconds() for _ in range(2))
        except RuntimeError as error:
            tried.append({"setting": name, "failed": str(error)})
            continue
        tried.append({"setting": name, "seconds": took})
        if best is None or took < least:
            if best:
                best.close()
            best, least = candidate, took
        else:
            candidate.close()
    if best is None:
        raise RuntimeError(f"no setting of PyTorch runs: {tried}")
    return best, tried


def verdict(ratios, least=None, most=None):
    """The spread of ratios, and whether the median is what is wanted."""
    result = {"ratio": peer.spread(ratios)}
    if least is not None:
        result |= {"least": least, "met": result["ratio"]["median"] >= least}
    else:
        result |= {"most": most, "met": result["ratio"]["median"] <= most}
    return result


def against_peers(row, options, script, flags, settings, ours, units):
    """Rounds of ours and each peer in turn. ours returns (value, environment); units turns seconds into a value."""
    peers = [(name, target, *fastest(script, options, flags + more, settings)) for name, more, target in row["theirs"]]
    try:
        mine, theirs = [], [[] for _ in peers]
        for _ in range(options.rounds):
            mine.append(ours())
            for values, (_, _, process, _) in zip(theirs, peers):
                values.append(units(process.seconds()))
    finally:
        for _, _, process, _ in peers:
            process.close()
    results = []
    for (name, target, process, tried), values in zip(peers, theirs):
        rate = [a / b for a, b in zip(mine, values)] if row["kind"] == "step" else [b / a for a, b in zip(mine, values)]
        results.append({"against": name, **verdict(rate, least=target), "broadside": peer.spread(mine), "peer": peer.spread(values),
                        "peer_setting": " ".join(process.flags), "tried": tried, "peer_environment": process.environment})
    return results


def step_row(row, options, seen):
    batch = 16 if options.smoke else row["batch"]
    flags = ["--model", row["model"], "--batch", batch, "--devices", devices(options), *row["ours"], *options.ours.split()]
    if row.get("bf16"):
        needs_bf16(options, flags)

    settings = rows.STEP_CUDA if options.device == "cuda" else rows.STEP

    def ours():
        result = broadside("step", options, *flags, "--rounds", 1)
        seen(result)
        return result["runs"][0]["images_per_second"]["median"]

    return against_peers(row, options, "pytorch_step.py", ["--model", row["model"], "--batch", str(batch)],
                         settings[:1] if options.smoke else settings, ours, lambda s: batch / s)


def needs_bf16(options, flags):
    """Skips where bf16 is refused, or only emulated."""
    try:
        probe = broadside("step", argparse.Namespace(**{**vars(options), "time": 0.01}), *flags, "--rounds", 1)
    except RuntimeError as refusal:
        raise Skip(str(refusal)) from None
    if probe["limits"]["bf16_gflops_one_core"] == 0 and not options.smoke:
        raise Skip("this CPU has no AVX512_BF16: bf16 is emulated")


def hvp_row(row, options, seen):
    samples = 16 if options.smoke else row["samples"]
    flags = ["--model", row["model"], "--samples", samples, "--devices", devices(options), *row["ours"]]
    own = []

    def ours():
        result = broadside("hvp", options, *flags, "--rounds", 1, rounds=2)  # half of the time goes to gradients
        seen(result)
        own.append(result["ratio"]["median"])
        return result["product_ms"]["median"]

    results = against_peers(row, options, "pytorch_hvp.py", ["--model", row["model"], "--samples", str(samples)],
                            rows.HVP[:1] if options.smoke else rows.HVP, ours, lambda s: 1e3 * s)
    return [*results, {"against": "own gradients", **verdict(own, most=rows.PRODUCT_IN_GRADIENTS)}]


def fgsm_row(row, options, seen):
    result = broadside("step", options, "--model", row["model"], "--batch", 16 if options.smoke else 256, "--attack",
                       "--rounds", 4 * options.rounds)
    seen(result)
    ratio = result["attack"]["ratio"]
    return [{"against": "itself", "ratio": ratio, "most": row["most"], "met": ratio["median"] <= row["most"]}]


def workers_row(row, options, seen):
    if os.cpu_count() < 2:
        raise Skip("this machine has one core")
    flags = ["--batch", 16, "--leaf", 8] if options.smoke else ["--batch", row["batch"]]
    result = broadside("step", options, "--model", row["model"], *flags, "--devices", "1,2", "--rounds", options.rounds, rounds=2 * options.rounds)
    seen(result)
    return [{"against": "itself", "ratio": result["scaling"], "least": row["least"], "met": result["scaling"]["median"] >= row["least"]}]


def share_row(row, options, seen):
    shares = []
    for _ in range(options.rounds):
        result = broadside("kernels", options, "--shapes", row["model"], *(["--leaf", 4] if options.smoke else []), rounds=2)
        seen(result)
        shares += [w["peak_share"] for w in result["windows"] if w["kernel"] == "conv2d" and w["window"] == row["window"]]
    return [{"against": "measured peak", **verdict(shares, least=row["least"])}]


def memory_row(row, options, seen):
    peaks = []
    for batch in row["batches"]:
        batch = batch // 16 if options.smoke else batch
        result = broadside("step", options, "--model", row["model"], "--batch", batch, "--rounds", 1, *(["--leaf", 16] if options.smoke else []))
        seen(result)
        peaks.append(result["peak_memory_bytes"])
    return [{"against": "itself", **verdict([peaks[1] / peaks[0]], most=row["most"]), "bytes": peaks}]


def layers_row(row, options, seen):
    """Each layer alone against cuDNN, and normalisations against copying."""
    flags = ["--batch", 2 if options.smoke else row["batch"]]
    process = Peer("pytorch_conv.py", options, ["--model", row["model"], *map(str, flags)])
    ours, theirs = [], []
    try:
        for _ in range(options.rounds):
            ours.append(broadside("kernels", options, "--shapes", row["model"], *flags, "--rounds", 1))
            theirs.append(process.measure())
    finally:
        process.close()
    seen(ours[0])
    row["layers"] = layers = layer_ratios([r["convolutions"] for r in ours], [r["layers"] for r in theirs])
    copy = max(statistics.median(r["copy_gbs"]["median"] for r in ours), statistics.median(r["copy_gbs"] for r in theirs))
    row["norms"] = norms = [{**n, "copy_share": g / copy, "read_twice_share": n["read_twice_share"] / n["copy_share"] * g / copy}
                            for n in ours[0]["norms"] for g in [norm_rate(ours, n)]]
    results = [{"against": f"cuDNN, {p}", **each([x["ratio"] for x in layers if x["precision"] == p], row["least"]),
                "peer_environment": process.environment} for p in dict.fromkeys(x["precision"] for x in layers)]
    return [*results, {"against": "copy, once", **each([n["copy_share"] for n in norms], row["norm_least"]), "copy_gbs": copy},
            {"against": "copy, twice", **each([n["read_twice_share"] for n in norms], row["norm_least"])}]


def layer_ratios(ours, theirs):
    """Our rate over the peer's for every pass through every layer, at the medians of the rounds."""
    def medians(rounds, ms):
        values = {}
        for layer in (layer for r in rounds for layer in r):
            values.setdefault(tuple(layer[k] for k in ("layer", "pass", "precision")), []).append(ms(layer))
        return {key: statistics.median(v) for key, v in values.items()}

    mine, peers = medians(ours, lambda layer: layer["ms"]["median"]), medians(theirs, lambda layer: layer["ms"])
    unknown = sorted(set(mine) - set(peers))
    if unknown:
        raise RuntimeError(f"PyTorch's model has no {', '.join(unknown[0])}")
    return [{"layer": key[0], "pass": key[1], "precision": key[2], "count": first["count"], "ms": mine[key], "peer_ms": peers[key],
             "tflops": first["tflops"] * first["ms"]["median"] / mine[key], "ratio": peers[key] / mine[key]}
            for first in ours[0] for key in [tuple(first[k] for k in ("layer", "pass", "precision"))]]


def norm_rate(rounds, norm):
    """The median GB/s of a normalisation over rounds."""
    return statistics.median(n["gbs"] for r in rounds for n in r["norms"] if (n["layer"], n["pass"]) == (norm["layer"], norm["pass"]))


def each(ratios, least):
    """The spread of ratios of which each is wanted."""
    return {"ratio": peer.spread(ratios), "least": least, "met": min(ratios) >= least}


def show_layers(row):
    """Prints the layers one by one."""
    form = "{:<42} {:>6} {:<16} {:<9} {:>9} {:>9} {:>9} {:>8}"
    print(form.format("convolution", "layers", "pass", "precision", "ms", "peer's", "TFLOP/s", "ratio"))
    for x in row["layers"]:
        print(form.format(x["layer"], x["count"], x["pass"], x["precision"], f"{x['ms']:.4f}", f"{x['peer_ms']:.4f}", f"{x['tflops']:.3g}", f"{x['ratio']:.3f}"))
    print(form.format("batch norm", "layers", "pass", "", "", "", "of copy", "twice"))
    for x in row["norms"]:
        print(form.format(x["layer"], x["count"], x["pass"], "", "", "", f"{x['copy_share']:.3f}", f"{x['read_twice_share']:.3f}"))


def devices(options):
    """Our devices: a GPU, or one for each thread; a step has 8 lanes (batch.lanes)."""
    return 1 if options.device == "cuda" else min(options.threads, 8)


KINDS = {"step": step_row, "hvp": hvp_row, "fgsm": fgsm_row, "workers": workers_row, "share": share_row, "memory": memory_row,
         "layers": layers_row}
FORM = "{:<62} {:<14} {:>12} {:>12} {:>7} {:>7} {:>7}  {:<8} {}"


def show(row, result):
    """Prints a line of the table."""
    ratio, sides = result["ratio"], [f"{result[k]['median']:.1f}" if k in result else "" for k in ("broadside", "peer")]
    target = f">= {result['least']}" if "least" in result else f"<= {result['most']}"
    print(FORM.format(row["what"], result["against"], *sides, *(f"{ratio[k]:.3f}" for k in ("min", "median", "max")),
                      target, "met" if result["met"] else "NOT MET"), flush=True)


def file_name(environment, date):
    def slug(text):
        return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")

    kernels = environment["kernels"]
    if not kernels.startswith("cpu"):
        return f"cuda-compare-{slug(kernels)}-{date}.json"
    isa = re.sub(r".*\((.*)\)", r"\1", kernels)
    return f"cpu-compare-{slug(environment['cpu'])}-{environment['cores']}core-{slug(isa)}-{date}.json"


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(rows.ROWS), default="cpu")
    parser.add_argument("--peer-device", choices=list(rows.ROWS), help="where PyTorch runs; unless given, where Broadside does")
    parser.add_argument("--rows", help="rows to run, with commas between; all unless given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--time", type=float, default=4, help="seconds of one measurement of one side")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="devices of ours and threads of PyTorch")
    parser.add_argument("--ours", default="", help="more flags for our side of the step rows, as in '--leaf 64'")
    parser.add_argument("--python", default=sys.executable, help="the Python that has PyTorch")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the JSON")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes and few settings")
    options = parser.parse_args(arguments)
    options.peer_device = options.peer_device or options.device
    known, options.broadside = rows.ROWS[options.device], BINARIES[options.device]
    options.rows = options.rows.split(",") if options.rows else list(known)
    unknown = [r for r in options.rows if r not in known]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}: there are {', '.join(known)}")
    if options.rounds < 1 or options.threads < 1 or options.time <= 0:
        parser.error("--rounds, --threads and --time must be positive")
    if not options.broadside.exists():
        parser.error(f"{options.broadside} is missing: run make {'cuda' if options.device == 'cuda' else 'build'}")
    return options


def main():
    options = parse(None)
    date = datetime.datetime.now(datetime.timezone.utc)
    out = {"what": "Broadside and PyTorch in turn, bench/compare.py", "date": date.isoformat(timespec="seconds"), "smoke": options.smoke,
           "rounds": options.rounds, "seconds": options.time, "threads": options.threads, "environment": None, "rows": {}}

    def seen(result):
        out["environment"] = result["environment"]
        if "limits" in result:
            out["limits"] = result["limits"]

    if options.smoke:
        print("smoke run: the sizes are tiny and the numbers mean nothing")
    print(FORM.format("", "against", "broadside", "peer", "min", "median", "max", "target", ""))
    failed = False
    for name in options.rows:
        row = rows.ROWS[options.device][name]
        try:
            results = KINDS[row["kind"]](row, options, seen)
        except Skip as reason:
            print(f"{row['what']}: skipped: {reason}", flush=True)
            out["rows"][name] = {"what": row["what"], "skipped": str(reason)}
            continue
        except RuntimeError as error:  # the other rows are worth having
            failed = True
            print(f"{row['what']}: failed: {error}", flush=True)
            out["rows"][name] = {"what": row["what"], "failed": str(error)}
            continue
        out["rows"][name] = {"what": row["what"], "results": results, **{k: row[k] for k in ("layers", "norms") if k in row}}
        for result in results:
            show(row, result)
        if "layers" in row:
            show_layers(row)
    if options.out and out["environment"]:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / file_name(out["environment"], f"{date:%Y-%m-%d}")
        path.write_text(json.dumps(out, indent=1) + "\n")
        print(path)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
