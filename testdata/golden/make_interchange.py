"""Writes interchange.safetensors, weights as others publish them, and interchange.json, their logits.

The model is resnet8 with the fills of fills.py, in float16, its layers named as in kuangliu's pytorch-cifar (`shortcut`,
`linear`) behind DataParallel's `module.`. Pixel i of image n, [height][width][channel], is the upper byte
of 2654435761 (i + 1) mod 2^32, shifted right by n; its input is pixel/255.
"""

import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file

import fills
import models

HERE = pathlib.Path(__file__).parent
IMAGES = 3


def pixels(count, height, width, channels):
    i = np.arange(1, 1 + height * width * channels, dtype=np.uint64)
    bits = (i * np.uint64(2654435761) % np.uint64(2**32)) >> np.uint64(24)
    return np.stack([bits >> np.uint64(n) for n in range(count)]).astype(np.uint8).reshape(count, height, width, channels)


def main():
    model = models.build("resnet8")
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.dtype == torch.float32:
            state[name] = fills.fill(name, tensor.shape, *fills.tensor_range(name, tensor.shape)).half()
    model.load_state_dict(state)
    published = {}
    for name, tensor in state.items():
        name = name.replace(".downsample.", ".shortcut.")
        published["module." + ("linear" + name[2:] if name.startswith("fc.") else name)] = tensor
    save_file(published, HERE / "interchange.safetensors", metadata={"format": "pt"})
    x = torch.from_numpy(pixels(IMAGES, 32, 32, 3).transpose(0, 3, 1, 2).astype(np.float64)) / 255
    with torch.no_grad():
        logits = model.double().eval()(x)
    (HERE / "interchange.json").write_text(json.dumps({"images": IMAGES, "logits": logits.tolist()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
