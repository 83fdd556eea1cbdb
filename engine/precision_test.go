package engine

import (
	"context"
	"math"
	"os"
	"testing"

	"broadside/engine/data"
	"broadside/engine/graph"
	"broadside/engine/recipe"
	"broadside/kernels"
)

// products counts a list's convolutions and linear layers, and those that round their factors.
func products(calls []kernels.Call) (all, rounded int) {
	for _, c := range calls {
		if s, ok := c.Shape.(kernels.Conv2D); ok {
			all++
			rounded += int(s.BF16)
		}
	}
	return all, rounded
}

// bf16 reaches every product of training, evaluation and attacks, and none of a Hessian.
func TestPrecisionOfEachProgram(t *testing.T) {
	pair := &data.Pair{Train: synthetic(64, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for _, variant := range []string{"", "bf16"} {
		tr := startTrainer(t, smallRecipe(t, variant), pair, 1, &tape{})
		for kind := trainProgram; kind <= ghostHessianProgram; kind++ {
			key := programKey{kind: kind, n: 32}
			if kind == attackProgram {
				key.attack = graph.Attack{Eps: 0.1, Step: 0.1, Iterations: 2}
			}
			p, err := tr.fleet.workers[0].program(key)
			if err != nil {
				t.Fatal(err)
			}
			want := variant == "bf16" && kind < hessianProgram
			for name, calls := range map[string][]kernels.Call{"forward": p.Forward, "backward": p.Backward,
				"tangent forward": p.TangentForward, "tangent backward": p.TangentBackward, "attack": p.AttackPass} {
				all, rounded := products(calls)
				if rounded != 0 && !want || rounded != all && want {
					t.Errorf("recipe %q, program %d, %s: %d of %d products round to bfloat16", variant, kind, name, rounded, all)
				}
			}
			if all, _ := products(p.Forward); all == 0 {
				t.Errorf("program %d has no products", kind)
			}
		}
	}
}

// Rounding factors changes the run, but not by much: the mean loss of the last epoch stays within five
// per cent, and the weights move.
func TestBF16TrainsLikeF32(t *testing.T) {
	f32, exact := trainSmall(t, "", 1, 0, nil)
	bf16, rounded := trainSmall(t, "bf16", 1, 0, nil)
	if difference(exact, rounded) == "" {
		t.Error("bf16 gives the bits of f32")
	}
	for i := range f32.epochs {
		want, got := f32.epochs[i].TrainLoss, bf16.epochs[i].TrainLoss
		if math.Abs(got-want) > 0.05*want {
			t.Errorf("epoch %d: mean loss %.4f in bf16, %.4f in f32", i+1, got, want)
		}
	}
	if first, last := bf16.epochs[0].TrainLoss, bf16.epochs[len(bf16.epochs)-1].TrainLoss; last > 0.9*first {
		t.Errorf("bf16 does not learn: mean loss %.4f in the first epoch, %.4f in the last", first, last)
	}
}

// The same on real images: the quickstart reaches what it does in f32.
func TestQuickstartLearnsInBF16(t *testing.T) {
	if os.Getenv("BROADSIDE_LONG") == "" {
		t.Skip("two minutes of training: set BROADSIDE_LONG (make test-long)")
	}
	r, err := recipe.Load("quickstart", []string{"train.precision=bf16"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Train(context.Background(), r, Options{RunDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if s.TestAccuracy < 0.85 {
		t.Errorf("test accuracy %.4f; want at least 0.85, as in f32", s.TestAccuracy)
	}
}
