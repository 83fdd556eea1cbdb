package checkpoint

import "fmt"

// ToPyTorch turns weights in the kernels' layout [K][R][S][C] into PyTorch's [K][C][R][S]. For a linear
// layer behind a flattened [H][W][C] activation, R is H and S is W: the result is its [K][C*H*W].
func ToPyTorch(data []float32, k, r, s, c int) ([]float32, error) {
	return swapInner(data, k, r*s, c)
}

// FromPyTorch turns weights in PyTorch's layout [K][C][R][S] into the kernels' [K][R][S][C]: the inverse
// of ToPyTorch with the same numbers.
func FromPyTorch(data []float32, k, r, s, c int) ([]float32, error) {
	return swapInner(data, k, c, r*s)
}

// swapInner turns [k][a][b] into [k][b][a].
func swapInner(data []float32, k, a, b int) ([]float32, error) {
	if k < 0 || a < 0 || b < 0 || len(data) != k*a*b {
		return nil, fmt.Errorf("%d weights are not %d x %d x %d", len(data), k, a, b)
	}
	out := make([]float32, len(data))
	for n := range k {
		src, dst := data[n*a*b:(n+1)*a*b], out[n*a*b:(n+1)*a*b]
		for i := range a {
			for j := range b {
				dst[j*a+i] = src[i*b+j]
			}
		}
	}
	return out, nil
}
