package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"broadside/engine/telemetry"
)

func TestStates(t *testing.T) {
	dir := t.TempDir()
	running := begin(t, filepath.Join(dir, "running"), "train: {epochs: 9}\nmodel: {name: resnet8}\n")
	running.epochs(1, 3)
	begin(t, filepath.Join(dir, "deep/er/ended"), "").end(4)
	begin(t, filepath.Join(dir, "interrupted"), "").stop()
	write(t, filepath.Join(dir, "events", telemetry.EventsFile), "nonsense\n{}\n")
	broken := func(name, file, content string) {
		begin(t, filepath.Join(dir, name), "").end(2)
		write(t, filepath.Join(dir, name, file), content)
	}
	broken("summary", telemetry.SummaryFile, "{")
	broken("recipe", telemetry.RecipeFile, "a: [")
	broken("aliases", telemetry.RecipeFile, "a: &a [1]\nb: *a\n")
	broken("large", telemetry.RecipeFile, "# "+strings.Repeat("x", maxRecipeBytes))
	write(t, filepath.Join(dir, "no run", "x"), "")
	w := watched(t, dir)
	for id, want := range map[string][]string{"running": {Running, ""}, "deep/er/ended": {Ended, ""}, "interrupted": {Interrupted, ""}, "events": {Broken, "events.jsonl: line 1 is not an event"},
		"summary": {Broken, "summary.json: unexpected end"}, "recipe": {Broken, "recipe.yaml"}, "aliases": {Broken, "aliases and merge keys are not allowed"}, "large": {Broken, "larger than"}} {
		if e := w.state(t, id); e.State != want[0] || !strings.Contains(e.Error, want[1]) {
			t.Errorf("%s is %s (%s); want %v", id, e.State, e.Error, want)
		}
	}
	if n := len(w.List().Runs); n != 8 {
		t.Errorf("%d runs; want 8", n)
	}
	e := w.state(t, "running")
	if e.EpochsWanted != "9" || e.Model != "resnet8" || e.Summary.Epochs != 3 || e.Summary.TestAccuracy != accuracyAt(3) || *e.TrainLoss != 2./3 || e.Rows != 3 {
		t.Errorf("%+v", e)
	}
	running.epochs(4, 5)
	running.stop()
	w.look()
	if e := w.state(t, "running"); e.State != Interrupted || e.Summary.Epochs != 5 {
		t.Errorf("stopped: %+v", e)
	}
	if err := os.RemoveAll(filepath.Join(dir, "summary")); err != nil {
		t.Fatal(err)
	}
	begin(t, filepath.Join(dir, "late"), "")
	w.find()
	w.look()
	if e := w.state(t, "late"); e.State != Running || len(w.List().Runs) != 8 {
		t.Errorf("late run: %+v of %d", e, len(w.List().Runs))
	}
}

// A folder of very many runs, and one that is very deep, is shown in part, and the page says so. Links are not followed.
func TestFindingIsBounded(t *testing.T) {
	dir := t.TempDir()
	for n := range maxRuns + 3 {
		write(t, filepath.Join(dir, fmt.Sprint("r", n), telemetry.EventsFile), "")
	}
	l := watched(t, dir).List()
	if len(l.Runs) != maxRuns || !strings.Contains(l.Notice, "Not all runs are shown") {
		t.Errorf("%d runs, %q", len(l.Runs), l.Notice)
	}
	deep := t.TempDir()
	write(t, filepath.Join(deep, strings.Repeat("d/", maxDepth), "x", telemetry.EventsFile), "")
	write(t, filepath.Join(deep, "d/x", telemetry.EventsFile), "")
	if err := os.Symlink(".", filepath.Join(deep, "d/again")); err != nil {
		t.Fatal(err)
	}
	if l := watched(t, deep).List(); len(l.Runs) != 1 || l.Runs[0].ID != "d/x" || l.Notice != "" {
		t.Errorf("%+v", l)
	}
}

// A run directory may be named itself, and several folders together.
func TestSeveralFolders(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	begin(t, "a/x", "").end(1)
	begin(t, "b/x", "").end(1)
	if id := watched(t, "a/x").List().Runs[0].ID; id != "x" {
		t.Errorf("the run is called %q", id)
	}
	w := watched(t, "a", "b/x")
	w.state(t, "a/x")
	w.state(t, "b/x")
}

func TestAnswers(t *testing.T) {
	dir := t.TempDir()
	a := begin(t, filepath.Join(dir, "a"), "batch: {size: 64}\ntrain: {seed: 1}\n")
	a.append(telemetry.Event{Type: telemetry.TypeProbe, Epoch: 1, Updates: 10, Eigenvalue: new(12.5)})
	a.epochs(1, 4)
	a.append(telemetry.Event{Type: telemetry.TypeGrowth, Epoch: 4, Updates: 40, From: 64, To: 128, Trigger: "eig"})
	write(t, filepath.Join(dir, "a/checkpoints/step-000000010.safetensors"), "12345")
	write(t, filepath.Join(dir, "a/checkpoints/step-000000040.safetensors"), "123456")
	write(t, filepath.Join(dir, "a/checkpoints/step-000000050.safetensors.tmp-1"), "")
	begin(t, filepath.Join(dir, "b"), "batch: {size: 128}\ntrain: {seed: 1}\n").end(2)
	w := watched(t, dir)
	page := serving(t, w, local)

	v := getJSON[runView](t, page+"/api/run?id=a")
	if v.Table.Rows != 4 || v.Table.Updates[3] != 40 || v.Table.Values["eigenvalue"][0] != 12.5 || v.Table.Values["distance"][2] != 3 || v.Table.Values["test_accuracy"][3] != accuracyAt(4) {
		t.Errorf("table: %+v", v.Table)
	}
	if n := len(v.Notes); n != 2 || !strings.Contains(v.Notes[1].Text, "batch 64 to 128 (eig: the top eigenvalue") {
		t.Errorf("notes: %+v", v.Notes)
	}
	if len(v.Checkpoints) != 2 || v.Checkpoints[0].Updates != 40 || v.Checkpoints[0].Bytes != 6 || v.Checkpoints[1].Name != "step-000000010.safetensors" {
		t.Errorf("checkpoints: %+v", v.Checkpoints)
	}
	a.epochs(5, 6)
	w.await(t, "a", 6)
	more := getJSON[runView](t, fmt.Sprintf("%s/api/run?id=a&generation=%d&from=3", page, v.Table.Generation))
	if more.Table.From != 3 || more.Table.Rows != 6 || len(more.Table.Updates) != 3 || more.Table.Updates[2] != 60 {
		t.Errorf("what is new: %+v", more.Table)
	}
	if d := getJSON[map[string]any](t, page+"/api/differences?run=a&run=b"); fmt.Sprint(d["recipe_differences"]) != "[map[key:batch.size values:[64 128]]]" {
		t.Errorf("differences: %v", d)
	}
	for path, status := range map[string]int{"/api/run?id=none": 404, "/api/run": 404, "/api/curvature?id=../a": 404, "/api/differences?run=a&run=c": 404, "/none": 404,
		"/api/differences?" + strings.Repeat("run=a&", maxCompared+1): 400} {
		if got := get(t, page+path); got.status != status {
			t.Errorf("%s: %d; want %d", path, got.status, status)
		}
	}
	for path, want := range map[string]string{"/": "text/html", "/app.js": "text/javascript", "/page.css": "text/css", "/base.css": "text/css", "/login.html": "text/html"} {
		if got := get(t, page+path); got.status != 200 || !strings.HasPrefix(got.header.Get("Content-Type"), want) || len(got.body) < 100 {
			t.Errorf("%s: %d %s, %d bytes", path, got.status, got.header.Get("Content-Type"), len(got.body))
		}
	}
}

// A resumed run has fewer epochs than before: its curves begin anew.
func TestCurvesOfAResumedRun(t *testing.T) {
	r := begin(t, filepath.Join(t.TempDir(), "a"), "")
	r.epochs(1, 9)
	w := watched(t, filepath.Dir(r.dir))
	page := serving(t, w, local)
	before := getJSON[runView](t, page+"/api/run?id=a").Table
	if err := r.log.TruncateAfter(40); err != nil {
		t.Fatal(err)
	}
	w.await(t, "a", 4)
	after := getJSON[runView](t, fmt.Sprintf("%s/api/run?id=a&generation=%d&from=8", page, before.Generation)).Table
	if after.Generation == before.Generation || after.From != 0 || after.Rows != 4 || len(after.Epoch) != 4 {
		t.Errorf("%+v", after)
	}
}

func TestCurvature(t *testing.T) {
	dir := t.TempDir()
	begin(t, filepath.Join(dir, "a"), "").end(1)
	w := watched(t, dir)
	page := serving(t, w, local)
	if w.state(t, "a").Curvature != 0 {
		t.Error("there is a stamp of nothing")
	}
	write(t, filepath.Join(dir, "a/curvature.json"), `{"checkpoint":"c","samples":32,"batch_norm":"eval","eigenvalues":[{"value":2,"iterations":3,"converged":true}],"trace":{"mean":5,"standard_error":1,"samples":[5,5]},
		"density":{"runs":[{"nodes":[-1,0,4],"weights":[0.1,0.6,0.3]}],"mean":1.1},"landscape":{"offsets":[-1,0,1],"losses":[[3,1,3]]}}`)
	for name, text := range map[string]string{"b": "{", "c": `{"landscape":{"offsets":[0,1],"losses":[[1],[2]]}}`, "d": `{"density":{"runs":[{"nodes":[1],"weights":[]}]}}`,
		"e": `{"density":{"runs":[]}}`, "f": `{"density":{"runs":[{"nodes":[-1e308,1e308],"weights":[1,1]}]}}`} {
		write(t, filepath.Join(dir, "a/curvature-"+name+".json"), text)
	}
	w.find()
	if w.state(t, "a").Curvature == 0 {
		t.Error("no stamp")
	}
	all := getJSON[[]measurement](t, page+"/api/curvature?id=a")
	if len(all) != 6 {
		t.Fatalf("%d measurements", len(all))
	}
	for _, m := range all[:5] {
		if m.Error == "" || m.Density != nil || m.Landscape != nil {
			t.Errorf("%s is taken for a measurement: %+v", m.File, m)
		}
	}
	m := all[5]
	if m.Error != "" || m.Checkpoint != "c" || m.Eigenvalues[0].Value != 2 || m.Trace.Mean != 5 || m.Landscape.Losses[0][1] != 1 || len(m.Density.Eigenvalue) != densityPoints {
		t.Fatalf("%+v", m)
	}
	sum := 0.0
	for _, d := range m.Density.Density {
		sum += d * (m.Density.Eigenvalue[1] - m.Density.Eigenvalue[0])
	}
	if math.Abs(sum-1) > 1e-6 {
		t.Errorf("the density sums to %g", sum)
	}
}

func FuzzMeasurement(f *testing.F) {
	f.Add([]byte(`{"samples":1,"density":{"runs":[{"nodes":[-1,0,4],"weights":[0.1,0.6,0.3]}],"mean":1.1},"landscape":{"offsets":[-1,1],"losses":[[3,1],[2,2]]}}`))
	f.Add([]byte(`{"density":{"runs":[{"nodes":[1e308,-1e308],"weights":[1e308,-1]}]}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseMeasurement(text)
		if err != nil {
			return
		}
		if _, err := json.Marshal(m); err != nil {
			t.Fatal(err)
		}
	})
}

// stream reads server-sent events.
type events struct {
	t    *testing.T
	body *bufio.Scanner
}

func listen(t *testing.T, page string) *events {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page+streamPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); response.Body.Close() })
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %s", response.StatusCode, response.Header.Get("Content-Type"))
	}
	s := bufio.NewScanner(response.Body)
	s.Buffer(nil, 1<<20)
	return &events{t, s}
}

// next returns the next event's name and data.
func (e *events) next() (name, data string) {
	e.t.Helper()
	for e.body.Scan() {
		field, value, _ := strings.Cut(e.body.Text(), ": ")
		switch field {
		case "event":
			name = value
		case "data":
			return name, value
		}
	}
	e.t.Fatalf("the stream has ended: %v", e.body.Err())
	return "", ""
}

func TestStream(t *testing.T) {
	dir := t.TempDir()
	r := begin(t, filepath.Join(dir, "a"), "")
	page := serving(t, watched(t, dir), local)
	s := listen(t, page)
	var list List
	if name, data := s.next(); name != "runs" || json.Unmarshal([]byte(data), &list) != nil || len(list.Runs) != 1 || list.Runs[0].State != Running {
		t.Fatalf("%s %s", name, data)
	}
	r.epochs(1, 1)
	var e Entry
	if name, data := s.next(); name != "run" || json.Unmarshal([]byte(data), &e) != nil || e.ID != "a" || e.Summary.Epochs != 1 {
		t.Errorf("%s %s", name, data)
	}
	begin(t, filepath.Join(dir, "b"), "")
	if name, data := s.next(); name != "runs" || json.Unmarshal([]byte(data), &list) != nil || len(list.Runs) != 2 {
		t.Errorf("%s %s", name, data)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	page := serving(t, watched(t, t.TempDir()), local)
	for range maxStreams {
		listen(t, page).next()
	}
	if a := get(t, page+streamPath); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("one stream more: %d, %s", a.status, a.body)
	}
	if a := get(t, page+"/api/runs"); a.status != http.StatusOK {
		t.Errorf("with all streams taken the list is %d", a.status)
	}
}

// The end of the context ends streams too, and closes the port.
func TestShutdown(t *testing.T) {
	s, err := Listen(watched(t, t.TempDir()), local)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	page := strings.TrimSuffix(s.URL(), "/")
	listen(t, page).next()
	stop()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a stream keeps the server from ending")
	}
	if _, err := http.Get(page); err == nil {
		t.Error("the port is still open")
	}
}

// Prometheus's own parser reads the newest values of every run.
func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	begin(t, filepath.Join(dir, "a"), "").epochs(1, 3)
	b := begin(t, filepath.Join(dir, `deep/b"1`), "")
	b.epochs(1, 5)
	b.end(5)
	w := watched(t, dir)
	page := serving(t, w, local)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(get(t, page+"/metrics").body))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for name, f := range families {
		for _, m := range f.Metric {
			values[name+" "+m.Label[0].GetValue()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for key, want := range map[string]float64{"epoch a": 3, "updates_total a": 30, "samples_total a": 1920, "train_loss a": 2. / 3, "test_accuracy a": 0.75, "batch_size a": 64, "learning_rate a": 0.1,
		"images_per_second a": 1000, `epoch deep/b"1`: 5, `updates_total deep/b"1`: 50} {
		if got := values["broadside_"+key]; got != want {
			t.Errorf("%s is %g; want %g", key, got, want)
		}
	}
}

func TestQueriesAreNamesOnly(t *testing.T) {
	dir := t.TempDir()
	begin(t, filepath.Join(dir, "runs/a&b=c ü"), "").end(1)
	page := serving(t, watched(t, filepath.Join(dir, "runs")), local)
	if v := getJSON[runView](t, page+"/api/run?id="+url.QueryEscape("a&b=c ü")); v.ID != "a&b=c ü" {
		t.Errorf("%+v", v)
	}
}
