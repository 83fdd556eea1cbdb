package telemetry

import (
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape reads a page with Prometheus's own parser and returns its values by name and run.
func scrape(t *testing.T, page io.Reader) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(page)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for name, f := range families {
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		if isTotal := strings.HasSuffix(name, "_total"); isTotal != (f.GetType().String() == "COUNTER") {
			t.Errorf("%s is a %s", name, f.GetType())
		}
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) != 1 || m.GetLabel()[0].GetName() != "run" {
				t.Errorf("%s has labels %v; want run alone", name, m.GetLabel())
			}
			out[name+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

func expect(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for key, v := range want {
		if g, ok := got[key]; !ok || math.Abs(g-v) > 1e-12 {
			t.Errorf("%s is %v (there: %v); want %v", key, g, ok, v)
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			t.Errorf("%s was not expected", key)
		}
	}
}

func TestMetricsOfEvents(t *testing.T) {
	accuracy, eigen := 0.75, 3.5
	trained, begun, resumed, unknown := NewRunMetrics("a"), NewRunMetrics("b\xff\"\n"), NewRunMetrics("c"), NewRunMetrics("d")
	begun.Add(Event{Type: TypeStart})
	resumed.Add(Event{Type: TypeResume, Epoch: 1, Updates: 9}) // the samples are not known yet
	for _, e := range []Event{
		{Type: TypeStart},
		{Type: TypeEpoch, Record: &Epoch{Epoch: 2, Updates: 20, SamplesSeen: 640, TrainLoss: 1.25, TestAccuracy: &accuracy, Batch: 32, LR: 0.1, ImagesPerSecond: 99}},
		{Type: TypeProbe, Epoch: 2, Updates: 20, Eigenvalue: &eigen},
		{Type: TypeGrowth, Epoch: 2, Updates: 20, From: 32, To: 64},
		{Type: TypeCheckpoint, Epoch: 2, Updates: 21},
		{Type: TypeUpdate, Epoch: 2, Updates: 22, Update: Update{SamplesSeen: 768, Loss: 1.5, Batch: 64, LR: 0.2, ImagesPerSecond: 88, GradientNorm: 7}},
		{Type: TypeUpdate, Epoch: 2, Updates: 23, Update: Update{SamplesSeen: 832, Loss: 1.25, Batch: 64, LR: 0.3, ImagesPerSecond: 77}},
	} {
		trained.Add(e)
	}
	page := httptest.NewRecorder()
	MetricsHandler(func() []RunMetrics { return []RunMetrics{*trained, *begun, *resumed, *unknown} }).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	expect(t, scrape(t, page.Body), map[string]float64{
		"broadside_epoch a": 2, "broadside_updates_total a": 23, "broadside_samples_total a": 832, "broadside_train_loss a": 1.25,
		"broadside_test_accuracy a": 0.75, "broadside_batch_size a": 64, "broadside_learning_rate a": 0.3, "broadside_images_per_second a": 77,
		"broadside_eigenvalue a": 3.5, "broadside_update_loss a": 1.25, "broadside_gradient_norm a": 7,
		"broadside_epoch c": 1, "broadside_updates_total c": 9,
		"broadside_epoch b?\"\n": 0, "broadside_updates_total b?\"\n": 0, "broadside_samples_total b?\"\n": 0})
}

// Dashboards are built on the names: the document has them all.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/RUNS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metrics {
		name := regexp.MustCompile(`broadside_\w+`).FindString(m.desc.String())
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/RUNS.md lacks %s", name)
		}
	}
}

// A page is served from the start of training to its end, and by this machine only unless asked.
func TestMetricsServer(t *testing.T) {
	s, err := ServeMetrics(":0", "live")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	address := s.Addr().String()
	if !strings.HasPrefix(address, "127.0.0.1:") {
		t.Errorf("listens on %s", address)
	}
	s.Step(Step{Epoch: 1, Updates: 7, Samples: 32, SamplesSeen: 224, Batch: 32, LR: 0.5, Loss: 2, UpdateLoss: 1.5})
	s.Event(Event{Type: TypeUpdate, Epoch: 1, Updates: 7, Update: Update{SamplesSeen: 224, Loss: 1.5, Batch: 32, LR: 0.5, ImagesPerSecond: 99}})
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	expect(t, scrape(t, response.Body), map[string]float64{"broadside_epoch live": 1, "broadside_updates_total live": 7,
		"broadside_samples_total live": 224, "broadside_train_loss live": 2, "broadside_update_loss live": 1.5, "broadside_images_per_second live": 99, "broadside_batch_size live": 32, "broadside_learning_rate live": 0.5})
	if _, err := ServeMetrics(address, "second"); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a second server on %s: %v", address, err)
	}
	s.Close()
	if _, err := http.Get("http://" + address + "/metrics"); err == nil {
		t.Error("the server still answers")
	}
	if _, err := ServeMetrics("9400", "x"); err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
		t.Errorf("an address without a host: %v", err)
	}
}
