"""Checks what Broadside exchanges with PyTorch and ONNX: weights both ways, logits, and ONNX models.

  python3 -m pip install -r requirements.txt -r requirements-interchange.txt
  python3 check_interchange.py [--broadside ../../bin/broadside] [MODEL...]

For every architecture that `broadside models` lists, or those named: a plain PyTorch model (models.py), and torchvision's
and timm's where they have it, gets random weights, random scales and shifts, and running statistics that matter. Its
state dict goes through a safetensors file into `broadside import`, and `broadside predict` computes the logits of random
images. They must be PyTorch's; what `broadside export --safetensors` writes must load into the model strictly, with the
same bits; and what `broadside export --onnx` writes must pass onnx.checker and give the same logits in onnxruntime, for
batches of any size, with and without the normalisation inside. Nothing is downloaded.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

import models

TOLERANCE = 1e-4  # of a logit, relative to the largest
IMAGES = 3
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def peers(name, classes):
    """The models of that architecture: (whose, model)."""
    torch.manual_seed(len(name))
    yield "models.py", models.build(name, classes)
    if name in ("resnet18", "resnet34", "resnet50", "resnet101"):
        yield "torchvision", getattr(torchvision.models, name)(weights=None)
        yield "timm", timm.create_model(name, pretrained=False)
    if name in ("vgg11", "vgg13", "vgg16", "vgg19"):
        yield "torchvision", getattr(torchvision.models, name + "_bn")(weights=None)
        yield "timm", timm.create_model(name + "_bn", pretrained=False)


def randomise(model, shape):
    """Random scales, shifts and running statistics; the latter near those of random inputs, so that logits stay in range."""
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
            module.momentum = None
            module.reset_running_stats()
    for name, parameter in model.named_parameters():
        if name.endswith(".gain"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    with torch.no_grad():
        model.train()(torch.randn(8, *shape))
        for module in model.modules():
            if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                module.running_mean += 0.1 * torch.randn_like(module.running_mean) * module.running_var.sqrt()
                module.running_var *= 0.8 + 0.4 * torch.rand_like(module.running_var)
                module.running_var += 0.5 * module.running_var.mean()  # a dead channel would be blown up by float32's rounding
    return model.eval()


def statistics(shape):
    """Mean and deviation that the inputs of a model are normalised with."""
    return IMAGENET if shape == (3, 224, 224) else ((0,) * shape[0], (1,) * shape[0])


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def difference(got, want):
    return float(np.abs(got - want).max() / np.abs(want).max())


class Checker:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder

    def broadside(self, *arguments):
        done = subprocess.run([self.binary, *map(str, arguments)], capture_output=True, text=True)
        check(done.returncode == 0, f"broadside {' '.join(map(str, arguments))}: {done.stderr}")
        return done.stdout

    def logits(self, checkpoint):
        self.broadside("predict", checkpoint, self.folder / "images.npy", "--npy", self.folder / "logits.npy", "--top", 1)
        return np.load(self.folder / "logits.npy")

    def onnx(self, checkpoint, inputs, *flags):
        """The logits of an exported model, its inputs taken at once and one by one."""
        path = self.folder / "model.onnx"
        self.broadside("export", checkpoint, "--onnx", path, *flags)
        onnx.checker.check_model(str(path), full_check=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        whole = session.run(["logits"], {"images": inputs})[0]
        single = np.concatenate([session.run(["logits"], {"images": inputs[i : i + 1]})[0] for i in range(len(inputs))])
        check(difference(single, whole) < TOLERANCE, f"{path}: a batch of one gives other logits")
        return whole

    def compare(self, name, whose, model, shape):
        """Takes a model through all of it and returns the largest differences."""
        randomise(model, shape)
        weights, checkpoint = self.folder / "weights.safetensors", self.folder / "checkpoint.safetensors"
        state = {k: v.contiguous() for k, v in model.state_dict().items()}
        save_file(state, weights)
        self.broadside("import", weights, "--model", name, "--out", checkpoint)

        pixels = np.random.default_rng(7).integers(0, 256, (IMAGES, *shape[1:], shape[0]), np.uint8)
        np.save(self.folder / "images.npy", pixels)
        pixels = pixels.transpose(0, 3, 1, 2).astype(np.float32)
        mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1) for v in statistics(shape))
        inputs = (pixels / 255 - mean) / std
        with torch.no_grad():
            want = model(torch.from_numpy(inputs)).numpy()
            exact = model.double()(torch.from_numpy(inputs).double()).numpy()
            model.float()
        got = self.logits(checkpoint)
        result = {
            "predict": difference(got, want),
            "torch f32": difference(want, exact),
            "onnx": difference(self.onnx(checkpoint, inputs), got),
            "onnx pixels": difference(self.onnx(checkpoint, pixels, "--pixels"), got),
        }
        self.back(checkpoint, model, state, whose)
        return result

    def back(self, checkpoint, model, state, whose):
        """Exported tensors are those that were imported; they load strictly, but for timm's VGG, whose names differ."""
        out = self.folder / "exported.safetensors"
        self.broadside("export", checkpoint, "--safetensors", out)
        exported = load_file(out)
        if whose == "timm" and "pre_logits.fc1.weight" in state:
            renamed = {"classifier.0.": "pre_logits.fc1.", "classifier.3.": "pre_logits.fc2.", "classifier.6.": "head.fc."}
            for ours, theirs in renamed.items():
                for key in [k for k in exported if k.startswith(ours)]:
                    theirs_key = theirs + key[len(ours) :]
                    exported[theirs_key] = exported.pop(key).reshape(state[theirs_key].shape)
        for parameter in model.parameters():
            torch.nn.init.zeros_(parameter)
        model.load_state_dict(exported, strict=True)
        for key, value in model.state_dict().items():
            check(torch.equal(value, state[key]), f"{key} is not what was imported")


def refusals(checker):
    """timm's ResNet-50-D has another stem; the error must say what does not fit."""
    path = checker.folder / "weights.safetensors"
    save_file(timm.create_model("resnet50d", pretrained=False).state_dict(), path)
    done = subprocess.run([checker.binary, "import", path, "--model", "resnet50", "--out", checker.folder / "none.safetensors"],
                          capture_output=True, text=True)
    for part in ("do not fit model resnet50", "missing: conv1.weight [64 3 7 7]", "not of the model: conv1.0.weight"):
        check(done.returncode == 1 and part in done.stderr, f"resnet50d as resnet50: {done.stderr}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="*", help="default: all that broadside lists")
    parser.add_argument("--broadside", default=pathlib.Path(__file__).parents[2] / "bin" / "broadside", metavar="BINARY")
    parser.add_argument("--folder", help="where to make the temporary folder")
    options = parser.parse_args()
    torch.set_num_threads(2)
    listed = json.loads(subprocess.run([options.broadside, "models", "--json"], capture_output=True, check=True).stdout)
    worst = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        checker = Checker(options.broadside, pathlib.Path(folder))
        refusals(checker)
        for row in listed:
            name = row["name"]
            if options.model and name not in options.model:
                continue
            for whose, model in peers(name, row["classes"]):
                shape = models.input_shape(name)
                result = checker.compare(name, whose, model, shape)
                print(f"{name:24} {whose:12}", "  ".join(f"{k} {v:.1e}" for k, v in result.items()), flush=True)
                for key, value in result.items():
                    worst[key] = max(worst.get(key, 0), value)
                    check(key == "torch f32" or value < TOLERANCE, f"{name} of {whose}: {key} is {value:.1e} off")
    print("largest difference of a logit, relative to the largest logit:", "  ".join(f"{k} {v:.1e}" for k, v in worst.items()))


if __name__ == "__main__":
    main()
