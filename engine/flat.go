package engine

import (
	"broadside/engine/checkpoint"
	"broadside/kernels"
)

// flat reads parameter-shaped vectors without the gaps between tensors, each tensor in PyTorch's layout.
func (f *fleet) flat(vectors []kernels.Memory) (out [][]float32, err error) {
	for _, v := range vectors {
		cells := read(v)
		if err := kernels.Sync(f.dev); err != nil {
			return nil, err
		}
		flat := make([]float32, 0, f.net.ParamCount())
		for _, p := range f.net.Params {
			part, err := checkpoint.ToPyTorch(cells[p.Offset:p.Offset+p.Size()], p.K, p.R, p.S, p.C)
			if err != nil {
				return nil, err
			}
			flat = append(flat, part...)
		}
		out = append(out, flat)
	}
	return out, nil
}
