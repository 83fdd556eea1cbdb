"""Times PyTorch's Hessian-vector product.

  python3 bench/pytorch_hvp.py --model resnet20 --samples 128 [--bn eval|train] [--method retained]

The peer of `broadside bench hvp`. The methods:
  retained   double backward; the first backward's graph is kept, so a product costs only the second
  repeated   double backward from the loss on for every product
  forward    forward mode over backward (torch.func.jvp of torch.func.grad)
"""

import peer


def main():
    parser = peer.parser(__doc__, stream=True)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--bn", choices=["eval", "train"], default="eval", help="batch normalisation by running or batch statistics")
    parser.add_argument("--method", choices=["retained", "repeated", "forward"], default="retained")
    options = parser.parse_args()
    torch = peer.start(options)
    model, x, y = peer.network(torch, options, options.samples)
    model.train(options.bn == "train")
    for m in model.modules():  # no running statistics to update: forward mode refuses that, and the others save it
        if options.bn == "train" and isinstance(m, torch.nn.BatchNorm2d):
            m.track_running_stats, m.running_mean, m.running_var, m.num_batches_tracked = False, None, None, None
    peer.run(torch, options, product(torch, options.method, model, x, y))


def product(torch, method, model, x, y):
    """Returns a function that computes one product with a fixed direction."""
    loss_of = torch.nn.functional.cross_entropy
    named = {k: p for k, p in model.named_parameters()}
    params = list(named.values())
    direction = [torch.randn_like(p) for p in params]
    if method == "forward":
        primal = {k: p.detach() for k, p in named.items()}
        tangent = dict(zip(named, direction))
        gradient = torch.func.grad(lambda p: loss_of(torch.func.functional_call(model, p, (x,)), y))
        return lambda: torch.func.jvp(gradient, (primal,), (tangent,))

    def gradients():
        return torch.autograd.grad(loss_of(model(x), y), params, create_graph=True)

    if method == "repeated":
        return lambda: torch.autograd.grad(gradients(), params, direction)
    kept = gradients()
    return lambda: torch.autograd.grad(kept, params, direction, retain_graph=True)


if __name__ == "__main__":
    main()
