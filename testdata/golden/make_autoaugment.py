"""Writes autoaugment.json: the sub-policies and magnitudes of torchvision's AutoAugment, and checksums of what it makes of
images by Pillow: by each operation at each level, and by each sub-policy of every policy.

The images are formulas, so that the vector stays small: a reader makes them again.
"""
import json
import pathlib
import zlib

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import AutoAugment, AutoAugmentPolicy
from torchvision.transforms.autoaugment import InterpolationMode, _apply_op

LEVELS = 10
# name, height, width, channels
SHAPES = [("waves", 32, 32, 3), ("waves", 37, 53, 3), ("noise", 31, 28, 3), ("dim", 24, 24, 3), ("steps", 17, 40, 3), ("flat", 9, 9, 3), ("two", 16, 16, 3),
          ("noise", 2, 5, 3), ("noise", 1, 1, 3), ("waves", 28, 28, 1), ("noise", 30, 13, 1), ("dim", 20, 24, 1), ("flat", 8, 8, 1), ("waves", 224, 224, 3)]


def picture(name, h, w, channels):
    y, x, c = np.mgrid[0:h, 0:w, 0:channels].astype(np.uint32)
    noise = (x * 2654435761 + y * 2246822519 + c * 3266489917 + 374761393).astype(np.uint32)
    noise = (noise ^ (noise >> 15)) * np.uint32(2246822519)
    noise = (noise ^ (noise >> 13)) & 255
    values = {
        "waves": (x * x * (c + 1) + y * y * 3 + x * y) // 16 + noise // 32,
        "noise": noise,
        "dim": 40 + 20 * c + noise * 70 // 256,
        "steps": (x // 5) * 31 + (y // 4) * 7 * (c + 1),
        "flat": 90 + 30 * c,
        "two": np.where((x + y) % 3 == 0, 250 - c, 3 + c),
    }[name]
    return (values % 256).astype(np.uint8)


def as_image(pixels):
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def checksum(image):
    return zlib.crc32(np.asarray(image).tobytes())


def operations(image, space):
    """Checksums of each operation at each level: of one direction, then of the other where there are two."""
    out = {}
    for name, (magnitudes, signed) in space.items():
        magnitudes = magnitudes.reshape(-1).tolist()
        for sign in (1, -1) if signed else (1,):
            for m in magnitudes:
                edited = _apply_op(image, name, sign * float(m), InterpolationMode.NEAREST, None)
                out.setdefault(name, []).append(checksum(edited))
    return out


def sub_policies(image, auto):
    """Checksums of all sub-policies, both operations done; their directions take turns."""
    out = []
    for i in range(len(auto.policies)):
        auto.get_params = lambda n: (i, torch.zeros(2), torch.tensor([i % 2, i // 2 % 2]))
        out.append(checksum(auto(image)))
    return out


def main():
    autos = {p.value: AutoAugment(p) for p in AutoAugmentPolicy}
    cases = []
    for name, h, w, channels in SHAPES:
        pixels = picture(name, h, w, channels)
        image = as_image(pixels)
        space = autos["imagenet"]._augmentation_space(LEVELS, (h, w))
        cases.append({"picture": name, "h": h, "w": w, "c": channels, "checksum": checksum(pixels),
                      "magnitudes": {op: m.reshape(-1).tolist() for op, (m, _) in space.items()},
                      "operations": operations(image, space),
                      "policies": {p: sub_policies(image, auto) for p, auto in autos.items()}})
    vector = {"policies": {p: auto.policies for p, auto in autos.items()}, "cases": cases}
    path = pathlib.Path(__file__).with_name("autoaugment.json")
    path.write_text(json.dumps(vector, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
