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

// products counts a list's convolutions and linear layers, and those of a precision.
func products(calls []kernels.Call, precision kernels.Precision) (all, rounded int) {
	for _, c := range calls {
		if s, ok := c.Shape.(kernels.Conv2D); ok {
			all++
			if s.Precision == precision {
				rounded++
			}
		}
	}
	return all, rounded
}

// A precision reaches every product of training, evaluation and attacks; those of a Hessian and its loss are f32.
func TestPrecisionOfEachProgram(t *testing.T) {
	pair := &data.Pair{Train: synthetic(64, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for variant, precision := range map[string]kernels.Precision{"": kernels.F32, "bf16": kernels.BF16, "tf32": kernels.TF32} {
		tr := startTrainer(t, smallRecipe(t, variant), pair, 1, &tape{})
		for kind := trainProgram; kind <= ghostLossProgram; kind++ {
			key := programKey{kind: kind, n: 32}
			if kind == attackProgram {
				key.attack = graph.Attack{Eps: 0.1, Step: 0.1, Iterations: 2}
			}
			p, err := tr.fleet.workers[0].program(key)
			if err != nil {
				t.Fatal(err)
			}
			want := precision
			if kind >= hessianProgram {
				want = kernels.F32
			}
			for name, calls := range map[string][]kernels.Call{"forward": p.Forward, "backward": p.Backward,
				"tangent forward": p.TangentForward, "tangent backward": p.TangentBackward, "attack": p.AttackPass} {
				if all, right := products(calls, want); right != all {
					t.Errorf("recipe %q, program %d, %s: %d of %d products are in %s", variant, kind, name, right, all, want)
				}
			}
			if all, _ := products(p.Forward, precision); all == 0 {
				t.Errorf("program %d has no products", kind)
			}
		}
	}
}

// Rounding factors changes the run, but not by much: the mean loss of each epoch stays within five
// per cent, and the weights move.
func TestRoundedFactorsTrainLikeF32(t *testing.T) {
	f32, exact := trainSmall(t, "", 1, 0, nil)
	for _, precision := range []string{"bf16", "tf32"} {
		run, rounded := trainSmall(t, precision, 1, 0, nil)
		if difference(exact, rounded) == "" {
			t.Errorf("%s gives the bits of f32", precision)
		}
		for i := range f32.epochs {
			want, got := f32.epochs[i].TrainLoss, run.epochs[i].TrainLoss
			if math.Abs(got-want) > 0.05*want {
				t.Errorf("epoch %d: mean loss %.4f in %s, %.4f in f32", i+1, got, precision, want)
			}
		}
		if first, last := run.epochs[0].TrainLoss, run.epochs[len(run.epochs)-1].TrainLoss; last > 0.9*first {
			t.Errorf("%s does not learn: mean loss %.4f in the first epoch, %.4f in the last", precision, first, last)
		}
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
