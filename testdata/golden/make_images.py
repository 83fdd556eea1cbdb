"""Writes images.json: what Pillow decodes and torchvision's transforms make of a small image, and which parts of images
torchvision's RandomResizedCrop takes where its random numbers are given.

The image is a formula, so that the vector stays small: a reader makes it again. The JPEG files are Pillow's.
"""
import base64
import io
import json
import pathlib

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as F

W, H = 53, 37


def picture():
    y, x, c = np.mgrid[0:H, 0:W, 0:3]
    return ((x * (3 + 2 * c) + y * (5 - c) + x * y * (c + 1) // 7) % 256).astype(np.uint8)


def smooth():
    y, x, c = np.mgrid[0:H, 0:W, 0:3]
    return np.uint8(127.5 + 120 * np.sin(x / (9 + 2 * c)) * np.cos(y / (7 - c)))


def flat(image):
    return base64.b64encode(np.asarray(image).tobytes()).decode()


def random_crops():
    """Runs RandomResizedCrop on given 32-bit words, four for each try: area, ratio, row and column."""
    drawn = []  # numbers of the try at hand and of those before
    words = []

    class Empty:
        def uniform_(self, low, high):
            word = words[4 * (len(drawn) // 2) + len(drawn) % 2]
            drawn.append(word)
            return float(low) + (float(high) - float(low)) * torch.tensor([(word >> 8) * 2.0**-24], dtype=torch.float64)

    class Places(list):
        def randint(self, low, high, size):
            self.append(None)
            word = words[4 * (len(drawn) // 2 - 1) + 1 + len(self)]
            return torch.tensor([word * high >> 32])

    out = []
    rng = np.random.default_rng(1)
    real = torch.empty, torch.randint
    try:
        for w, h, least in [(500, 375, 0.08), (375, 500, 0.08), (40, 600, 0.08), (600, 40, 0.08), (40, 600, 0.9), (600, 40, 0.9), (33, 31, 0.95), (1, 1, 0.08)]:
            for _ in range(8):
                words[:] = rng.integers(0, 2**32, 40, dtype=np.uint64).tolist()
                drawn.clear()
                torch.empty, torch.randint = lambda n: Empty(), Places().randint
                top, left, height, width = RandomResizedCrop.get_params(Image.new("L", (w, h)), [least, 1.0], [3 / 4, 4 / 3])
                out.append({"width": w, "height": h, "least": least, "words": words[: 4 * ((len(drawn) + 1) // 2)], "window": [left, top, width, height]})
    finally:
        torch.empty, torch.randint = real
    return out


def main():
    image = Image.fromarray(picture())
    crops = []
    for top, left, height, width, size in [(0, 0, H, W, 16), (3, 5, 20, 31, 8), (10, 20, 9, 7, 12), (36, 52, 1, 1, 4), (0, 1, 37, 13, 13), (0, 20, 37, 6, 8), (1, 0, 36, 30, 9)]:
        out = F.resized_crop(image, top, left, height, width, [size, size], InterpolationMode.BILINEAR, antialias=True)
        crops.append({"top": top, "left": left, "height": height, "width": width, "size": size, "pixels": flat(out)})
    middles = []
    for shorter, size in [(16, 12), (37, 24), (60, 21), (9, 9)]:
        for turned in (False, True):
            from_ = image.transpose(Image.Transpose.TRANSPOSE) if turned else image
            out = F.center_crop(F.resize(from_, shorter, InterpolationMode.BILINEAR, antialias=True), [size, size])
            middles.append({"shorter": shorter, "size": size, "turned": turned, "pixels": flat(out)})
    files = []
    for name, options in [("4:2:0", {"subsampling": 2}), ("4:4:4", {"subsampling": 0}), ("progressive", {"progressive": True}), ("grey", {})]:
        source = Image.fromarray(smooth())
        if name == "grey":
            source = source.convert("L")
        file = io.BytesIO()
        source.save(file, "JPEG", quality=90, **options)
        files.append({"name": name, "file": base64.b64encode(file.getvalue()).decode(), "pixels": flat(Image.open(file).convert("RGB"))})
    vector = {"width": W, "height": H, "random": random_crops(), "crops": crops, "middles": middles, "files": files}
    pathlib.Path(__file__).with_name("images.json").write_text(json.dumps(vector, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
