"""Times PyTorch's training step (forward, backward, SGD with momentum).

  python3 bench/pytorch_step.py --model resnet20 --batch 256 [--device cuda] [--contiguous] [--compile] [--graphs] [--bf16]

The peer of `broadside bench step`: same models, same batch, one fixed batch of random images. Prints one JSON
object with the seconds of a step; see peer.py for --serve.
"""

import peer


def main():
    parser = peer.parser(__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--compile", action="store_true", help="torch.compile the model; needs a C++ compiler")
    parser.add_argument("--graphs", action="store_true", help="torch.compile with CUDA graphs, for a GPU")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    options = parser.parse_args()
    torch = peer.start(options)
    model, x, y = peer.network(torch, options, options.batch)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0001, momentum=0.9, fused=options.device == "cuda")
    forward = model
    if options.compile or options.graphs:
        forward = torch.compile(model, mode="max-autotune" if options.graphs else "default")

    def step():
        optimizer.zero_grad()
        with torch.autocast(options.device, torch.bfloat16, enabled=options.bf16):
            loss = torch.nn.functional.cross_entropy(forward(x), y)
        loss.backward()
        optimizer.step()

    peer.run(torch, options, step)


if __name__ == "__main__":
    main()
