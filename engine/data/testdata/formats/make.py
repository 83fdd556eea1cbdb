"""Makes the files of this folder with SciPy and NumPy: what the tests hold Broadside's own readers to.

    pip install -r requirements.txt && python3 make.py

Pixel (y, x, c) of image n of the SVHN files is (7 y + 3 x + 50 c + 11 n) mod 256, so that a reader that mixes up two axes is
found out.
"""
import numpy as np
import scipy.io

N = 3
y, x, c, n = np.meshgrid(np.arange(32), np.arange(32), np.arange(3), np.arange(N), indexing="ij")
X = ((7 * y + 3 * x + 50 * c + 11 * n) % 256).astype(np.uint8)
labels = np.array([[1], [10], [7]], np.uint8)

scipy.io.savemat("svhn_compressed.mat", {"X": X, "y": labels}, do_compression=True)
scipy.io.savemat("svhn_plain.mat", {"X": X, "y": labels}, do_compression=False)
# Labels first and as doubles, as MATLAB stores numbers unless told otherwise, among variables that nobody asked for.
scipy.io.savemat("svhn_doubles.mat", {"y": labels.astype(np.float64), "note": "text", "cell": np.array(["a", 1], object), "X": X},
                 do_compression=True)
scipy.io.savemat("svhn_one.mat", {"X": X[..., 0], "y": labels[:1]}, do_compression=True)  # MATLAB drops a last dimension of 1

for name, dtype in [("u1", "|u1"), ("i2", "<i2"), ("i4_big", ">i4"), ("i8", "<i8"), ("u8_big", ">u8")]:
    values = np.array([3, 0, 100, 77], dtype)
    if values.dtype.kind == "i":
        values[1] = -5
    np.save(f"labels_{name}.npy", values)
for version in [(1, 0), (2, 0), (3, 0)]:
    with open(f"images_{version[0]}.npy", "wb") as f:
        np.lib.format.write_array(f, np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3), version=version)
np.save("fortran.npy", np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4)))
np.save("floats.npy", np.array([[1.5, -2], [3, 4]], np.float32))
np.save("records.npy", np.zeros(2, [("a", "u1"), ("b", "f4")]))
