"""Reads a packed data set with NumPy as docs/FORMATS.md describes it, and checks every checksum.

    pip install numpy google-crc32c && python3 read_packed.py FILE.bspack
"""
import json
import struct
import sys

import google_crc32c
import numpy

data = numpy.memmap(sys.argv[1], numpy.uint8, "r")
head = data[:64].tobytes()
magic, version, chunk, size, start, described, chunks = struct.unpack_from("<8sIIQQQQ", head)
assert (magic, version, size) == (b"\x89BSPACK\n", 1, len(data)), "no packed file of version 1, or cut off"
header = bytearray(data[:start].tobytes())
want, header[60:64] = struct.unpack_from("<I", head, 60)[0], bytes(4)
assert google_crc32c.value(bytes(header)) == want, "the header is damaged"
table = numpy.frombuffer(header, "<u4", chunks, 64 + (described + 3) // 4 * 4)
for i, want in enumerate(table):
    got = google_crc32c.value(data[start + i * chunk : start + (i + 1) * chunk].tobytes())
    assert got == want, f"chunk {i} is damaged"
for name, s in json.loads(header[64 : 64 + described]).items():
    shape = s["count"], s["h"], s["w"], s["c"]
    images = numpy.ndarray(shape, numpy.uint8, data, s["images"])
    labels = numpy.ndarray(s["count"], "<i4", data, s["labels"])
    print(name, images.shape, "mean", (images.mean((0, 1, 2)) / 255).round(4), "classes", numpy.bincount(labels))
print(f"{chunks} chunks and the header are whole")
