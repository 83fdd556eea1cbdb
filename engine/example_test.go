package engine_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"broadside/engine"
	"broadside/engine/curvature"
	"broadside/engine/recipe"
)

// small is a recipe that takes a second or two: the quickstart on 640 of its images.
func small() *recipe.Recipe {
	r, err := recipe.Load("quickstart", []string{"data.train_limit=640", "data.test_limit=200", "train.epochs=2", "batch.leaf=32", "batch.size=64", "methods=[]"})
	if err != nil {
		log.Fatal(err)
	}
	return r
}

// temporary makes a folder for a run.
func temporary() string {
	dir, err := os.MkdirTemp("", "broadside")
	if err != nil {
		log.Fatal(err)
	}
	return dir
}

// A recipe is trained into a run directory, which a later call may go on with.
func ExampleTrain() {
	dir := temporary()
	defer os.RemoveAll(dir)
	o := engine.Options{Device: "cpu", RunDir: filepath.Join(dir, "run")}
	summary, err := engine.Train(context.Background(), small(), o)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(summary.Model, summary.Epochs, "epochs,", summary.Updates, "updates,", summary.SamplesSeen, "samples")
	// Output: resnet8 2 epochs, 20 updates, 1280 samples
}

// A checkpoint, or a run's newest one, is evaluated on the test set of its recipe.
func ExampleOpenModel() {
	dir := temporary()
	defer os.RemoveAll(dir)
	o := engine.Options{Device: "cpu", RunDir: filepath.Join(dir, "run")}
	summary, err := engine.Train(context.Background(), small(), o)
	if err != nil {
		log.Fatal(err)
	}
	m, err := engine.OpenModel(o.RunDir, nil, engine.Options{Device: "cpu"})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	e, err := m.Evaluate()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(e.Samples, "samples, as the run says:", e.Accuracy == summary.TestAccuracy)
	// Output: 200 samples, as the run says: true
}

// The curvature of the loss is measured through Hessian-vector products; the Hessian itself is never built.
func ExampleModel_Curvature() {
	dir := temporary()
	defer os.RemoveAll(dir)
	o := engine.Options{Device: "cpu", RunDir: filepath.Join(dir, "run")}
	if _, err := engine.Train(context.Background(), small(), o); err != nil {
		log.Fatal(err)
	}
	m, err := engine.OpenModel(o.RunDir, nil, engine.Options{Device: "cpu"})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	c, err := m.Curvature(engine.CurvatureOptions{Samples: 64, Seed: 1, Top: curvature.Options{K: 2, MaxIterations: 50, Tolerance: 1e-3}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(c.Eigenvalues), "eigenvalues, the first is the larger:", c.Eigenvalues[0].Value > c.Eigenvalues[1].Value)
	// Output: 2 eigenvalues, the first is the larger: true
}
