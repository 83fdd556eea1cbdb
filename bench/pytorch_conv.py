"""Times PyTorch's convolutions: each layer of a model alone, forward, input gradient and weight gradient.

  python3 bench/pytorch_conv.py --model resnet50 --batch 256 [--device cuda] [--precisions f32,tf32,bf16]

The peer of `broadside bench kernels` on a GPU: the same layers under the same names, over random numbers. On a GPU
these are cuDNN's kernels, the fastest that it finds (cudnn.benchmark), timed by CUDA events around graphs of many
calls. f32 has TF32 off; bf16 is of bfloat16 tensors. Prints one JSON object with the milliseconds of each pass and the
bandwidth of a copy; see peer.py for --serve.
"""

import argparse
import json

import peer

PASSES = {"forward": None, "input gradient": [True, False, False], "weight gradient": [False, True, False]}
PRECISIONS = {"cuda": "f32,tf32,bf16", "cpu": "f32,bf16"}
GRAPH_CALLS = 20


def main():
    parser = peer.parser(__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--precisions", help="some of f32, tf32 (of GPUs), bf16; all unless given")
    parser.set_defaults(model="resnet50")
    options = parser.parse_args()
    known = PRECISIONS[options.device].split(",")
    precisions = (options.precisions or PRECISIONS[options.device]).split(",")
    for precision in precisions:
        if precision not in known:
            parser.error(f"no precision {precision} on {options.device}: there are {', '.join(known)}")
    torch = peer.start(options)
    found = layers(torch, options)
    items = [(layer, part, precision) for precision in precisions for layer in found for part in PASSES
             if not (layer["first"] and part == "input gradient")]
    budget = options.time / (len(items) + 1)

    def answer():
        return {"copy_gbs": copy_rate(torch, options, found, budget),
                "layers": [{"layer": layer["name"], "pass": part, "precision": precision,
                            "ms": 1e3 * seconds(torch, options, work(torch, options, layer, part, precision), budget)}
                           for layer, part, precision in items]}

    if options.serve:
        peer.serve(torch, answer)
    else:
        print(json.dumps({**vars(options), **peer.environment(torch), **answer()}, indent=1))


def layers(torch, options):
    """The model's distinct convolutions, named as Broadside names them."""
    shapes_alone = argparse.Namespace(**{**vars(options), "device": "meta"})
    model, x, _ = peer.network(torch, shapes_alone, options.batch)
    found = {}

    def note(conv, inputs, y):
        (x,), groups = inputs, conv.groups
        (_, c, h, w), (_, k, oh, ow) = x.shape, y.shape
        (r, s), (down, across) = conv.kernel_size, conv.stride
        name = f"{h}x{w}x{c} to {oh}x{ow}x{k}, {r}x{s}"
        if down != across:
            name += f"/{down}x{across}"
        elif down > 1:
            name += f"/{down}"
        if groups > 1:
            name += f", {groups} groups"
        found.setdefault(name, {"name": name, "first": not found, "x": tuple(x.shape), "y": tuple(y.shape), "w": tuple(conv.weight.shape),
                                "stride": conv.stride, "padding": conv.padding, "groups": groups})

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(note)
    model.eval()(x)
    return list(found.values())


def work(torch, options, layer, part, precision):
    """Returns a function that computes one pass of a layer."""
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    layout = torch.contiguous_format if options.contiguous else torch.channels_last
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    x, w, dy = (torch.randn(layer[k], device=options.device, dtype=dtype).contiguous(memory_format=layout) for k in "xwy")
    stride, padding, groups = layer["stride"], layer["padding"], layer["groups"]
    if part == "forward":
        return lambda: torch.nn.functional.conv2d(x, w, None, stride, padding, 1, groups)
    return lambda: torch.ops.aten.convolution_backward(dy, x, w, None, stride, padding, [1, 1], False, [0, 0], groups, PASSES[part])


def copy_rate(torch, options, found, budget):
    """GB/s of a copy of the largest activation in f32, reads and writes both counted."""
    largest = max((layer["y"] for layer in found), key=lambda shape: torch.Size(shape).numel())
    x = torch.rand(largest, device=options.device)
    y = torch.empty_like(x)
    return 8e-9 * x.numel() / seconds(torch, options, lambda: y.copy_(x), budget)


def seconds(torch, options, work, budget):
    """Seconds of one call of work, over calls of about `budget` seconds."""
    for _ in range(3):
        work()
    if options.device == "cpu":
        return peer.measure(torch, options, work, budget)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(GRAPH_CALLS):
            work()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    took, replays = 0.0, 1
    while True:
        start.record()
        for _ in range(replays):
            graph.replay()
        end.record()
        end.synchronize()
        took = start.elapsed_time(end) / 1e3
        if took >= budget or replays >= 1 << 16:
            return took / (replays * GRAPH_CALLS)
        replays *= 2


if __name__ == "__main__":
    main()
