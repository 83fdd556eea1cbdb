package engine

import (
	"context"
	"os"
	"testing"

	"broadside/engine/recipe"
	"broadside/engine/telemetry"
)

// The quickstart is a real training run on real images; it must learn, and its batch must grow.
func TestQuickstartLearns(t *testing.T) {
	if os.Getenv("BROADSIDE_LONG") == "" {
		t.Skip("a minute of training: set BROADSIDE_LONG (make test-long)")
	}
	r, err := recipe.Load("quickstart", nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := Train(context.Background(), r, Options{RunDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if s.TestAccuracy < 0.85 {
		t.Errorf("test accuracy %.4f; want at least 0.85", s.TestAccuracy)
	}
	if s.FinalBatch != 512 || s.HVPs == 0 || s.GradPasses <= s.SamplesSeen {
		t.Errorf("final batch %d, %d HVPs, %d gradient passes over %d samples: the batch must grow, curvature be probed, samples be attacked",
			s.FinalBatch, s.HVPs, s.GradPasses, s.SamplesSeen)
	}
	events, err := telemetry.ReadEvents(dir + "/" + telemetry.EventsFile)
	if err != nil {
		t.Fatal(err)
	}
	grown := 0
	for _, e := range events {
		if e.Type == telemetry.TypeGrowth {
			grown++
		}
	}
	if grown == 0 {
		t.Error("no growth event was recorded")
	}
}
