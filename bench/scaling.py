#!/usr/bin/env python3
"""The scaling model of docs/SCALING.md: what n devices reach with a batch, from three rates that can be measured.

    python3 bench/scaling.py                # the tables of docs/SCALING.md
    python3 bench/scaling.py --images-per-second 3410 --parameters 25.6e6 --bus 208e9 --latency 30e-6

It counts a step as the leaves of the slowest device, the part of the all-reduce that backward does not hide, and the
update. It knows nothing of data loading, of clocks that fall when all devices work, or of stragglers: it is a bound.
"""
import argparse
import math


def step(n, batch, leaf, rate, parameters, bus, latency, update, backward=2 / 3, bucket=4 << 20):
    """Seconds of a step: computing, all-reduce, the part of it that shows, update."""
    leaves = math.ceil(batch / leaf / n)
    compute = leaves * leaf / rate
    size = 4 * parameters
    if n == 1:
        return compute, 0.0, 0.0, update
    # Each device receives 2 (n-1)/n of the buffer, at the rate of the bus; each bucket costs the latency of its phases.
    reduce = 2 * (n - 1) / n * size / bus + math.ceil(size / bucket) * latency
    # The buckets go while the last leaf's backward pass runs; the last bucket has nothing to hide behind.
    hidden = min(reduce * max(0.0, 1 - bucket / size), backward * leaf / rate)
    return compute, reduce, reduce - hidden, update


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--images-per-second", type=float, default=3410, help="of one device")
    p.add_argument("--parameters", type=float, default=25.6e6)
    p.add_argument("--bus", type=float, default=208e9, help="bytes a second of the bus within a host, as nccl-tests count")
    p.add_argument("--hosts-bus", type=float, default=20e9, help="the same between hosts")
    p.add_argument("--per-host", type=int, default=8, help="devices of a host")
    p.add_argument("--latency", type=float, default=30e-6, help="of a bucket's all-reduce")
    p.add_argument("--leaf", type=int, default=128)
    p.add_argument("--update", type=float, default=0.3e-3, help="seconds of an update")
    p.add_argument("--devices", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64])
    p.add_argument("--batches", type=int, nargs="*", default=[8192, 16384, 32768, 65536, 98304])
    a = p.parse_args()
    for batch in a.batches:
        print(f"batch {batch}")
        one = sum(x for i, x in enumerate(step(1, batch, a.leaf, a.images_per_second, a.parameters, a.bus, a.latency, a.update)) if i != 1)
        print("devices  leaves  compute ms  all-reduce ms  shown ms  step ms   images/s  speed-up  efficiency")
        for n in a.devices:
            bus = a.bus if n <= a.per_host else a.hosts_bus
            compute, reduce, shown, update = step(n, batch, a.leaf, a.images_per_second, a.parameters, bus, a.latency, a.update)
            total = compute + shown + update
            print(f"{n:7d} {math.ceil(batch / a.leaf / n):7d} {1e3 * compute:11.2f} {1e3 * reduce:14.2f} {1e3 * shown:9.2f} {1e3 * total:8.2f} "
                  f"{batch / total:10.0f} {one / total:9.2f} {one / total / n:10.1%}")
        print()


if __name__ == "__main__":
    main()
