package bench

import "strings"

// peaks are the dense TFLOP/s that NVIDIA's data sheets give for a GPU, by a part of its name; those of a narrower
// name come first. f32 is that of the CUDA cores, the others are of the tensor cores.
var peaks = []struct {
	name            string
	f32, tf32, bf16 float64
}{
	{"A100", 19.5, 156, 312},
	{"H100 PCIe", 51, 378, 756},
	{"H100 NVL", 60, 417.5, 835},
	{"H100", 67, 494.5, 989},
	{"H200 NVL", 60, 417.5, 835},
	{"H200", 67, 494.5, 989},
	{"B200", 75, 1125, 2250},
}

// peaksOf returns a GPU's peaks by precision, none where they are not known. A slice of a GPU (MIG) has fewer.
func peaksOf(device string) map[string]float64 {
	if !strings.Contains(device, "MIG") {
		for _, p := range peaks {
			if strings.Contains(device, " "+p.name) { // GB200 is another chip
				return map[string]float64{"f32": p.f32, "tf32": p.tf32, "bf16": p.bf16}
			}
		}
	}
	return map[string]float64{}
}
