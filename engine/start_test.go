package engine

import (
	"math"
	"strings"
	"testing"

	"broadside/engine/graph"
	"broadside/engine/recipe"
)

// The start of Goyal et al. 2017: blocks are identities, the classifier's weights N(0, 0.01^2).
func TestStartOfParameters(t *testing.T) {
	set := synthetic(4, 32, 3, 10)
	for model, blocks := range map[string]int{"resnet20": 9, "resnet50": 16} {
		net, err := openNetwork(recipe.Model{Name: model, ZeroInitResidual: true, FCStd: .01}, set)
		if err != nil {
			t.Fatal(err)
		}
		params, zeros := net.InitParams(1), 0
		for _, p := range net.Params {
			cells := params[p.Offset : p.Offset+p.Size()]
			switch last := strings.HasSuffix(p.Name, map[bool]string{true: ".bn3.weight", false: ".bn2.weight"}[model == "resnet50"]); {
			case p.Role == graph.Gamma && last && cells[0] == 0:
				zeros++
			case p.Role == graph.Gamma && (last || cells[0] != 1):
				t.Errorf("%s: %s starts at %g", model, p.Name, cells[0])
			case p.Name == "fc.bias" && cells[0] != 0:
				t.Errorf("%s: a bias of fc starts at %g", model, cells[0])
			case p.Name == "fc.weight":
				square := 0.
				for _, v := range cells {
					square += float64(v) * float64(v)
				}
				n := float64(len(cells))
				if std := math.Sqrt(square / n); math.Abs(std/.01-1) > 5/math.Sqrt(2*n) { // 5 deviations of a standard deviation
					t.Errorf("%s: weights of fc have a standard deviation of %g", model, std)
				}
			}
		}
		if zeros != blocks {
			t.Errorf("%s: %d blocks start as identities; want %d", model, zeros, blocks)
		}
	}
	if _, err := openNetwork(recipe.Model{Name: "c1", ZeroInitResidual: true}, set); err == nil || !strings.Contains(err.Error(), "zero_init_residual") {
		t.Errorf("c1 has residual blocks: %v", err)
	}
}
