"""Times PyTorch's training step (forward, backward, SGD with momentum).

  python3 bench/pytorch_step.py --model resnet20 --batch 256 [--device cuda] [--contiguous] [--compile] [--graphs] [--precision bf16]

The peer of `broadside bench step`: same models, same batch, one fixed batch of random images. Prints one JSON
object with the seconds of a step; see peer.py for --serve and --stream. A stream may have several precisions in turn.
"""

import peer

PRECISIONS = {"cuda": ["f32", "tf32", "bf16"], "cpu": ["f32", "bf16"]}


def main():
    parser = peer.parser(__doc__, stream=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--compile", action="store_true", help="torch.compile the model; needs a C++ compiler")
    parser.add_argument("--graphs", action="store_true", help="torch.compile with CUDA graphs, for a GPU")
    parser.add_argument("--precision", default="f32", help="f32, tf32 (of GPUs), or bf16: autocast")
    options = parser.parse_args()
    precisions = options.precision.split(",")
    for precision in precisions:
        if precision not in PRECISIONS[options.device]:
            parser.error(f"no precision {precision} on {options.device}: there are {', '.join(PRECISIONS[options.device])}")
    if len(precisions) > 1 and not options.stream:
        parser.error(f"--precision {options.precision}: several need --stream")
    torch = peer.start(options)
    model, x, y = peer.network(torch, options, options.batch)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0001, momentum=0.9, fused=options.device == "cuda")
    forward = model
    if options.compile or options.graphs:
        forward = torch.compile(model, mode="max-autotune" if options.graphs else "default")

    def step():
        optimizer.zero_grad()
        with torch.autocast(options.device, torch.bfloat16, enabled=precision == "bf16"):
            loss = torch.nn.functional.cross_entropy(forward(x), y)
        loss.backward()
        optimizer.step()

    for precision in precisions:
        peer.tf32(torch, precision == "tf32")
        peer.run(torch, options, step, precision=precision)


if __name__ == "__main__":
    main()
