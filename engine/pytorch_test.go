package engine

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"broadside/engine/curvature"
)

// A checkpoint of the quickstart, and what testdata/golden/check_checkpoint.py found for it in plain
// PyTorch: the same number of test images right, and the same top eigenvalue.
func TestCheckpointAgreesWithPyTorch(t *testing.T) {
	raw, err := os.ReadFile("../testdata/golden/quickstart.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Correct, Total int
		Loss           float64                            `json:"test_loss"`
		Top            map[string]struct{ Value float64 } `json:"top_eigenvalue"`
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	m, err := OpenModel("../testdata/golden/quickstart.safetensors", nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	e, err := m.Evaluate()
	if err != nil {
		t.Fatal(err)
	}
	if e.Correct != want.Correct || e.Samples != want.Total || math.Abs(e.Loss-want.Loss) > 1e-5*want.Loss {
		t.Errorf("%d of %d right, loss %.8f; PyTorch has %d of %d, %.8f", e.Correct, e.Samples, e.Loss, want.Correct, want.Total, want.Loss)
	}
	c, err := m.Curvature(CurvatureOptions{Samples: 128, Seed: 1, Vectors: true, Top: curvature.Options{K: 1, MaxIterations: 300, Tolerance: 1e-6}})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Vectors) != 1 || len(c.Vectors[0]) != c.Parameters {
		t.Fatalf("%d eigenvectors of %d parameters", len(c.Vectors), c.Parameters)
	}
	length := 0.0
	for _, v := range c.Vectors[0] {
		length += float64(v) * float64(v)
	}
	if math.Abs(length-1) > 1e-4 {
		t.Errorf("the eigenvector has a square of %v", length)
	}
	top := want.Top["float64"].Value
	if got := c.Eigenvalues[0].Value; math.Abs(got-top) > 1e-3*math.Abs(top) {
		t.Errorf("top eigenvalue %.6g; PyTorch has %.6g", got, top)
	}
}
