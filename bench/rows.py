"""The rows of the comparison: what each side runs, and what the ratio has to be.

A step row compares images per second with PyTorch, an hvp row milliseconds per product, and the layers row the time
of each convolution with cuDNN and of each batch norm with that of copying. The other rows compare
Broadside with itself or with this machine, and need no peer.
"""

# Settings of PyTorch that are tried before a row; the fastest takes part in the comparison.
STEP = [[], ["--contiguous"], ["--compile"]]
STEP_CUDA = [["--precision", "bf16", *more] for more in ([], ["--compile"], ["--graphs"])]
HVP = [[*method, *layout] for method in (["--method", "retained"], ["--method", "repeated"], ["--method", "forward"])
       for layout in ([], ["--contiguous"])]


def step(what, model, batch, target, *ours):
    return {"kind": "step", "what": f"{what}, training step, batch {batch}, f32", "model": model, "batch": batch,
            "ours": list(ours), "theirs": [("PyTorch", [], target)]}


def hvp(bn_ours, bn_theirs, what):
    return {"kind": "hvp", "what": f"HVP, ResNet-20, 128 samples, {what}", "model": "resnet20",
            "samples": 128, "ours": ["--bn", bn_ours], "theirs": [("PyTorch", ["--bn", bn_theirs], 3.0)]}


def step_cuda(what, model, batch, target):
    """One leaf is the whole batch, so that both sides normalise over the same samples."""
    return {"kind": "step", "what": f"{what}, training step, batch {batch:,}, bf16", "model": model, "batch": batch,
            "ours": ["--precision", "bf16", "--leaf", str(batch)], "theirs": [("PyTorch", [], target)]}


CPU = {
    "resnet20": step("ResNet-20", "resnet20", 256, 1.7),
    "resnet20-bf16": {
        "kind": "step", "what": "ResNet-20, training step, batch 256, bf16", "model": "resnet20", "batch": 256,
        "ours": ["--precision", "bf16"], "bf16": True,
        "theirs": [("PyTorch f32", [], 2.5), ("PyTorch bf16", ["--precision", "bf16"], 1.0)]},
    "wrn-16-4": step("WRN-16-4", "wrn-16-4", 256, 1.3),
    "resnet18-cifar": step("ResNet-18 with the CIFAR stem", "resnet18-cifar", 256, 1.3),
    "resnet50": step("ResNet-50, 224x224", "resnet50", 32, 1.1, "--leaf", "16"),
    "c1": step("C1", "c1", 256, 1.5),
    "hvp": hvp("eval", "eval", "BN in eval mode"),
    "hvp-batch": hvp("ghost", "train", "BN in train mode"),
    "fgsm": {"kind": "fgsm", "what": "FGSM on ResNet-20 over forward + input gradient", "model": "resnet20", "most": 1.05},
    "workers": {"kind": "workers", "what": "ResNet-20, 2 workers over 1, batch 256", "model": "resnet20", "batch": 256, "least": 1.9},
    "workers-2048": {"kind": "workers", "what": "ResNet-20, 2 workers over 1, batch 2,048", "model": "resnet20", "batch": 2048, "least": 1.9},
    "conv-share": {"kind": "share", "what": "3x3 convolutions of ResNet-18, share of peak, direct count",
                   "model": "resnet18-cifar", "window": "3x3", "least": 0.75},
    "memory": {"kind": "memory", "what": "ResNet-20, peak memory at batch 16,384 over 256", "model": "resnet20",
               "batches": [256, 16384], "most": 1.1},
}

CUDA = {
    "resnet20": step_cuda("ResNet-20", "resnet20", 1024, 2.0),
    "resnet18-cifar": step_cuda("ResNet-18 with the CIFAR stem", "resnet18-cifar", 1024, 1.0),
    "resnet50": step_cuda("ResNet-50, 224x224", "resnet50", 256, 0.8),
    "hvp": hvp("eval", "eval", "BN in eval mode"),
    "hvp-batch": hvp("ghost", "train", "BN in train mode"),
    "layers": {"kind": "layers", "what": "ResNet-50 layers at 224x224, batch 256, each", "model": "resnet50", "batch": 256,
               "least": 0.7, "norm_least": 0.9},
}

ROWS = {"cpu": CPU, "cuda": CUDA}

# The most gradients of our own that a product may cost.
PRODUCT_IN_GRADIENTS = 2.2
