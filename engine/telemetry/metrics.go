package telemetry

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// RunMetrics is where a run stands, as Prometheus is told of it. What is not known is NaN, and left out.
//
// It is filled from the events of a run, live or read from events.jsonl, and shown by MetricsHandler:
//
//	m := telemetry.NewRunMetrics("absa")
//	for _, e := range events {
//		m.Add(e)
//	}
//	mux.Handle("/metrics", telemetry.MetricsHandler(func() []telemetry.RunMetrics { return []telemetry.RunMetrics{*m} }))
type RunMetrics struct {
	Run             string // the label; every run of a page has another
	Epoch           float64
	Updates         float64
	Samples         float64
	TrainLoss       float64
	UpdateLoss      float64
	TestAccuracy    float64 // 0 to 1
	BatchSize       float64
	LearningRate    float64
	ImagesPerSecond float64
	Eigenvalue      float64
	GradientNorm    float64
}

// NewRunMetrics returns the metrics of a run of which nothing is known yet.
func NewRunMetrics(run string) *RunMetrics {
	none := math.NaN()
	return &RunMetrics{run, none, none, none, none, none, none, none, none, none, none, none}
}

// step takes in an update.
func (m *RunMetrics) step(s Step) {
	m.Epoch, m.Updates, m.Samples = float64(s.Epoch), float64(s.Updates), float64(s.SamplesSeen)
	m.TrainLoss, m.UpdateLoss, m.BatchSize, m.LearningRate = s.Loss, s.UpdateLoss, float64(s.Batch), s.LR
}

// epoch takes in the record of an epoch.
func (m *RunMetrics) epoch(e Epoch) {
	m.Epoch, m.Updates, m.Samples = float64(e.Epoch), float64(e.Updates), float64(e.SamplesSeen)
	m.TrainLoss, m.BatchSize, m.LearningRate, m.ImagesPerSecond = e.TrainLoss, float64(e.Batch), e.LR, e.ImagesPerSecond
	if e.TestAccuracy != nil {
		m.TestAccuracy = *e.TestAccuracy
	}
	if e.Eigenvalue != nil {
		m.Eigenvalue = *e.Eigenvalue
	}
}

// update takes in the record of an update.
func (m *RunMetrics) update(u Update) {
	m.Samples, m.UpdateLoss, m.BatchSize = float64(u.SamplesSeen), u.Loss, float64(u.Batch)
	m.LearningRate, m.ImagesPerSecond = u.LR, u.ImagesPerSecond
	if u.GradientNorm != 0 {
		m.GradientNorm = u.GradientNorm
	}
}

// Add takes in an event, that of an epoch or an update with its record.
func (m *RunMetrics) Add(e Event) {
	switch {
	case e.Record != nil:
		m.epoch(*e.Record)
		return
	case e.Type == TypeUpdate:
		m.update(e.Update)
	case e.Type == TypeStart:
		m.Samples = 0
	case e.Type == TypeGrowth:
		m.BatchSize = float64(e.To)
	case e.Eigenvalue != nil:
		m.Eigenvalue = *e.Eigenvalue
	}
	m.Epoch, m.Updates = float64(e.Epoch), float64(e.Updates)
}

// metric is one name of the page.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*RunMetrics) float64
}

// metrics are all names of the page. Dashboards are built on them: they are a contract.
var metrics = []metric{
	gauge("epoch", "Completed epochs.", func(m *RunMetrics) float64 { return m.Epoch }),
	counter("updates_total", "Updates of the parameters since the start of the run.", func(m *RunMetrics) float64 { return m.Updates }),
	counter("samples_total", "Training samples seen since the start of the run.", func(m *RunMetrics) float64 { return m.Samples }),
	gauge("train_loss", "Mean training loss of the epoch, or of the current one so far.", func(m *RunMetrics) float64 { return m.TrainLoss }),
	gauge("update_loss", "Mean training loss of an update, the last one that was told of.", func(m *RunMetrics) float64 { return m.UpdateLoss }),
	gauge("test_accuracy", "Test accuracy of the last evaluation, 0 to 1.", func(m *RunMetrics) float64 { return m.TestAccuracy }),
	gauge("batch_size", "Samples of an update.", func(m *RunMetrics) float64 { return m.BatchSize }),
	gauge("learning_rate", "Learning rate of the last update.", func(m *RunMetrics) float64 { return m.LearningRate }),
	gauge("images_per_second", "Training speed.", func(m *RunMetrics) float64 { return m.ImagesPerSecond }),
	gauge("eigenvalue", "Top eigenvalue of the Hessian at the last probe.", func(m *RunMetrics) float64 { return m.Eigenvalue }),
	gauge("gradient_norm", "Norm of the mean gradient, where it is measured.", func(m *RunMetrics) float64 { return m.GradientNorm }),
}

func gauge(name, help string, value func(*RunMetrics) float64) metric {
	return metric{prometheus.NewDesc("broadside_"+name, help, []string{"run"}, nil), prometheus.GaugeValue, value}
}

func counter(name, help string, value func(*RunMetrics) float64) metric {
	m := gauge(name, help, value)
	m.kind = prometheus.CounterValue
	return m
}

// collector tells Prometheus of the runs that it is asked about.
type collector func() []RunMetrics

// Describe sends every name.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range metrics {
		out <- m.desc
	}
}

// Collect sends what is known of every run.
func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, run := range c() {
		label := strings.ToValidUTF8(run.Run, "?")
		for _, m := range metrics {
			if v := m.value(&run); !math.IsNaN(v) {
				out <- prometheus.MustNewConstMetric(m.desc, m.kind, v, label)
			}
		}
	}
}

// MetricsHandler serves the metrics of runs for Prometheus. It asks for them at every scrape, from several goroutines at once.
func MetricsHandler(runs func() []RunMetrics) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector(runs))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// MetricsServer follows a run that trains in this process and serves /metrics meanwhile. It is a Progress.
type MetricsServer struct {
	mu     sync.Mutex
	run    RunMetrics
	meter  meter
	server http.Server
	at     net.Addr
}

// ServeMetrics listens on an address such as 127.0.0.1:9400; one without a host, such as :9400, is of this machine only.
func ServeMetrics(address, run string) (*MetricsServer, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("metrics address %q: %w: want HOST:PORT, as in 127.0.0.1:9400", address, err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(cmp.Or(host, "127.0.0.1"), port))
	if err != nil {
		return nil, fmt.Errorf("metrics address %q: %w", address, err)
	}
	s := &MetricsServer{run: *NewRunMetrics(run), meter: newMeter(time.Now), at: listener.Addr()}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", MetricsHandler(s.runs))
	s.server = http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	go s.server.Serve(listener) // until Close
	return s, nil
}

// Addr is where the server listens.
func (s *MetricsServer) Addr() net.Addr { return s.at }

// runs is the one run as it stands, with the speed of the epoch under way.
func (s *MetricsServer) runs() []RunMetrics {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.run
	if speed := s.meter.speed(); speed > 0 {
		m.ImagesPerSecond = speed
	}
	return []RunMetrics{m}
}

// Step takes in an update.
func (s *MetricsServer) Step(step Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meter.add(step)
	s.run.step(step)
}

// Epoch takes in the record of an epoch.
func (s *MetricsServer) Epoch(e Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meter.endEpoch()
	s.run.epoch(e)
}

// Event takes in an event.
func (s *MetricsServer) Event(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run.Add(e)
}

// Close stops serving.
func (s *MetricsServer) Close() { s.server.Close() }
