package dashboard

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"broadside/engine/telemetry"
)

// browser is a tab of a headless Chromium.
type browser struct {
	t      *testing.T
	ctx    context.Context
	faults atomic.Bool // errors on the console are expected
}

// newBrowser starts Chromium: that of BROADSIDE_CHROMIUM, or one of the path.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	path := os.Getenv("BROADSIDE_CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		t.Skip("no Chromium here: install it, or name one in BROADSIDE_CHROMIUM")
	}
	options := []chromedp.ExecAllocatorOption{chromedp.Headless, chromedp.DisableGPU, chromedp.ExecPath(path), chromedp.WindowSize(1280, 900)}
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it refuses to run as root with one
	}
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(stop)
	b := &browser{t: t}
	console := func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); strings.Contains(strings.ToLower(text), "error") && !b.faults.Load() {
			t.Errorf("console: %s", text)
		}
	}
	b.ctx, stop = chromedp.NewContext(ctx, chromedp.WithBrowserOption(chromedp.WithConsolef(console)))
	t.Cleanup(stop)
	return b
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// prefer sets media features, such as prefers-color-scheme.
func (b *browser) prefer(name, value string) {
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: name, Value: value}}})
		return err
	}))
}

// eval evaluates JavaScript in the page.
func eval[T any](b *browser, script string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return v
}

// becomes waits until an expression has a value.
func becomes[T comparable](b *browser, script string, want T) {
	b.t.Helper()
	var got T
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got = eval[T](b, script); got == want {
			return
		}
	}
	b.t.Errorf("%s is %v; want %v", script, got, want)
}

// dots counts the points that a chart draws of each run, as "12 3".
func dots(title string) string {
	return fmt.Sprintf(`[...[...document.querySelectorAll('#plots figure')].find((f) => f.innerText.startsWith(%q))?.querySelectorAll('.line') ?? []].map((l) => l.querySelectorAll('circle:not(.pulse)').length).join(' ')`, title)
}

// line is what the list says of a run.
func line(id string) string {
	return fmt.Sprintf(`([...document.querySelectorAll('#runs li')].find((l) => l.querySelector('.name').textContent === %q)?.innerText.replace(/\s+/g, ' ') ?? '')`, id)
}

// tick clicks a run's checkbox.
func tick(id string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('#runs li')].find((l) => l.querySelector('.name').textContent === %q).querySelector('input').click()`, id)
}

const recipeA, recipeB = "train: {epochs: 8}\nbatch: {size: 64}\n", "train: {epochs: 8}\nbatch: {size: 128}\n"

// A run that trains, one that has ended and a broken one, as a person sees them.
func TestPageInABrowser(t *testing.T) {
	dir := t.TempDir()
	live := begin(t, filepath.Join(dir, "live"), recipeA)
	live.epochs(1, 2)
	done := begin(t, filepath.Join(dir, "done"), recipeB)
	done.epochs(1, 5)
	done.end(5)
	write(t, filepath.Join(dir, "bad", telemetry.EventsFile), "<img src=x onerror=alert(1)>\n{}\n")
	write(t, filepath.Join(dir, "worse", telemetry.SummaryFile), "{")
	begin(t, filepath.Join(dir, "worse"), recipeA).stop()
	page := serving(t, watched(t, dir), local)
	b := newBrowser(t)
	b.do(chromedp.Navigate(page))

	becomes(b, `document.getElementById('link-text').textContent`, "live")
	becomes(b, dots("Test accuracy"), "2 5") // the run that trains is the first
	becomes(b, line("live"), "live running epoch 2/8 · 66.67% · batch 64 · 6s left")
	becomes(b, line("done"), "done ended epoch 5/8 · 83.33% · 5s")
	becomes(b, line("bad")+`.startsWith('bad broken events.jsonl: line 1 is not an event')`, true)
	becomes(b, line("worse")+`.startsWith('worse broken summary.json: unexpected end')`, true)
	becomes(b, `document.title`, "(1) Broadside: runs")

	t.Run("live", func(t *testing.T) {
		live.epochs(3, 4)
		becomes(b, dots("Test accuracy"), "4 5")
		becomes(b, dots("Learning rate"), "4 5")
		live.append(telemetry.Event{Type: telemetry.TypeGrowth, Epoch: 4, Updates: 40, From: 64, To: 128, Trigger: "duration"})
		becomes(b, `document.querySelector('#log-table').innerText.includes('batch 64 to 128 (duration: no growth')`, true)
		begin(t, filepath.Join(dir, "late"), recipeA).epochs(1, 3)
		becomes(b, dots("Train loss"), "4 5 3")
		becomes(b, `document.getElementById('said').textContent.includes('New run late')`, true)
	})
	t.Run("compared", func(t *testing.T) {
		eval[any](b, tick("late"))
		becomes(b, dots("Test loss"), "4 5")
		becomes(b, `document.getElementById('differences-table').innerText.replace(/\s+/g, ' ').trim()`, "Keys in which the recipes of the chosen runs differ key live done batch.size 64 128")
		becomes(b, `[...document.querySelectorAll('#results-table tbody tr')].map((r) => r.cells[2].innerText).join(' ')`, "80.00% 83.33%")
		becomes(b, `document.querySelector('#results-table strong').textContent`, "83.33%")
		eval[any](b, `document.querySelector('[data-key=test_accuracy] button').click()`)
		becomes(b, `document.querySelector('#results-table tbody th').innerText.trim()`, "done")
		eval[any](b, `document.querySelector('input[name=axis][value=samples]').click()`)
		becomes(b, `document.querySelector('#plots figure .over').textContent`, "samples seen")
		becomes(b, `new URL(location).searchParams.getAll('run').join() + new URL(location).searchParams.get('over')`, "live,donesamples")
	})
	t.Run("read without eyes", func(t *testing.T) {
		b.t = t
		label := `document.querySelector('#plots svg.chart').getAttribute('aria-label')`
		becomes(b, label, "Test accuracy over samples seen. live: 80.00% at 2,560 samples, from 50.00% to 80.00%; done: 83.33% at 3,200 samples, from 50.00% to 83.33%.")
		eval[any](b, `document.querySelector('#plots .reader').focus()`)
		b.do(chromedp.KeyEvent(kb.ArrowRight))
		becomes(b, `document.querySelector('#plots .reader').getAttribute('aria-valuetext')`, "1,280 samples: live 66.67%, done 66.67%")
		becomes(b, `document.querySelector('#plots .tip').hidden`, false)
		eval[any](b, `document.querySelector('#plots details').open = true`)
		becomes(b, `[...document.querySelectorAll('#plots details table tbody tr')].map((r) => r.innerText.replace(/\s+/g, ' ')).join('; ')`,
			"640 50.00% 50.00%; 1,280 66.67% 66.67%; 1,920 75.00% 75.00%; 2,560 80.00% 80.00%; 3,200 83.33%")
	})
	t.Run("ends and goes", func(t *testing.T) {
		b.t = t
		live.epochs(5, 8)
		live.end(8)
		becomes(b, line("live"), "live ended epoch 8/8 · 88.89% · 8s")
		becomes(b, `document.getElementById('said').textContent.includes('Run live is ended')`, true)
		if err := os.RemoveAll(done.dir); err != nil {
			t.Fatal(err)
		}
		becomes(b, line("done"), "")
		becomes(b, dots("Test accuracy"), "8")
		eval[any](b, `document.getElementById('filter').value = 'broken'; document.getElementById('filter').dispatchEvent(new Event('input'))`)
		becomes(b, `document.querySelectorAll('#runs li.broken').length + document.querySelectorAll('#runs li').length`, 4)
	})
	t.Run("on a phone, dark", func(t *testing.T) {
		b.t = t
		b.prefer("prefers-color-scheme", "dark")
		b.do(chromedp.EmulateViewport(390, 844), chromedp.Reload())
		becomes(b, dots("Test accuracy"), "8")
		becomes(b, `document.documentElement.scrollWidth <= innerWidth`, true)
		becomes(b, `getComputedStyle(document.body).backgroundColor`, "rgb(20, 24, 29)")
	})
}

// A run's curves, its line in the list and its bar move within an epoch, and go back with a run that resumes.
func TestCurvesMoveWithinAnEpochInABrowser(t *testing.T) {
	dir := t.TempDir()
	live := begin(t, filepath.Join(dir, "live"), recipeA)
	live.updates(1, 2)
	done := begin(t, filepath.Join(dir, "older"), recipeB) // without records of updates
	done.epochs(1, 3)
	done.end(3)
	page := serving(t, watched(t, dir), local)
	b := newBrowser(t)
	b.do(chromedp.Navigate(page))
	label := `[...document.querySelectorAll('#plots figure')].find((f) => f.innerText.startsWith('Train loss'))?.querySelector('svg.chart').getAttribute('aria-label') ?? ''`
	bar := `document.querySelector('#runs li.running progress').value.toFixed(4)`

	becomes(b, dots("Train loss"), "2 3")
	becomes(b, label, "Train loss over epochs. live: 2.8000 at epoch 0.2, from 2.8000 to 2.9000; older: 0.6667 at epoch 3, from 0.6667 to 2.0000.")
	becomes(b, line("live"), "live running epoch 0/8 · loss 2.8000 · 8s left")
	becomes(b, bar, "0.0250")
	becomes(b, dots("Test accuracy"), "3")
	live.updates(3, 5)
	becomes(b, dots("Train loss"), "5 3")
	becomes(b, dots("Learning rate"), "5 3")
	becomes(b, dots("Gradient norm"), "")
	becomes(b, bar, "0.0625")
	live.append(telemetry.Event{Type: telemetry.TypeUpdate, Updates: 6, WallSeconds: 0.6, Update: telemetry.Update{EpochFraction: 0.6, SamplesSeen: 384, Loss: 2.4, Batch: 64, LR: 0.06, ImagesPerSecond: 640, GradientNorm: 1.5}})
	becomes(b, dots("Gradient norm"), "1")
	live.updates(7, 10)
	live.epochs(1, 1)
	becomes(b, dots("Test accuracy"), "1 3")
	becomes(b, dots("Train loss"), "10 3")
	becomes(b, line("live"), "live running epoch 1/8 · 50.00% · batch 64 · 7s left")
	eval[any](b, `document.querySelector('input[name=axis][value=updates]').click()`)
	live.updates(11, 14)
	becomes(b, label, "Train loss over updates. live: 1.6000 at update 14, from 1.6000 to 2.9000; older: 0.6667 at update 30, from 0.6667 to 2.0000.")
	if err := live.log.TruncateAfter(12); err != nil {
		t.Fatal(err)
	}
	live.append(telemetry.Event{Type: telemetry.TypeResume, Epoch: 1, Updates: 12})
	becomes(b, dots("Train loss"), "12 3")
	live.updates(13, 13)
	becomes(b, label, "Train loss over updates. live: 1.7000 at update 13, from 1.7000 to 2.9000; older: 0.6667 at update 30, from 0.6667 to 2.0000.")
}

// A page whose server goes away says so, and goes on by itself when it is back.
func TestServerComesBackInABrowser(t *testing.T) {
	dir := t.TempDir()
	r := begin(t, filepath.Join(dir, "a"), recipeA)
	r.epochs(1, 2)
	w := watched(t, dir)
	serve := func(listen string) (*Server, func()) {
		s, err := Listen(w, Options{Listen: listen})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx) }()
		return s, func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	s, stop := serve("127.0.0.1:0")
	b := newBrowser(t)
	b.faults.Store(true)
	b.do(chromedp.Navigate(s.URL()))
	becomes(b, dots("Test accuracy"), "2")
	stop()
	becomes(b, `document.getElementById('link-text').textContent`, "connection lost, trying again")
	r.epochs(3, 5)
	_, stop = serve(s.listener.Addr().String())
	defer stop()
	becomes(b, dots("Test accuracy"), "5")
	becomes(b, `document.getElementById('link-text').textContent`, "live")
}

// Beyond this machine the page asks for the token.
func TestLoginInABrowser(t *testing.T) {
	dir := t.TempDir()
	begin(t, filepath.Join(dir, "a"), recipeA).epochs(1, 3)
	page := serving(t, watched(t, dir), Options{Listen: "127.0.0.1:0", Token: "0123456789abcdef"})
	b := newBrowser(t)
	b.do(chromedp.Navigate(page))
	login := func(token string) {
		t.Helper()
		becomes(b, `location.pathname`, "/login.html")
		eval[any](b, fmt.Sprintf(`document.getElementById('token').value = %q; document.querySelector('button').click()`, token))
	}
	login("not the token, sorry")
	becomes(b, `location.hash === '#wrong' && document.querySelector('#wrong:target') ? getComputedStyle(document.getElementById('wrong')).display : ''`, "block")
	login("0123456789abcdef")
	becomes(b, dots("Test accuracy"), "3")
	becomes(b, `document.cookie`, "") // no script reads the session
}

// The page, a report and a comparison have no fault that axe-core finds, in light, dark and on a phone. bench/accessibility.sh
// gets axe-core.
func TestAccessibility(t *testing.T) {
	path := os.Getenv("BROADSIDE_AXE")
	if path == "" {
		t.Skip("BROADSIDE_AXE names no axe.min.js: run bench/accessibility.sh")
	}
	axe, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	live, done := begin(t, filepath.Join(dir, "live"), recipeA), begin(t, filepath.Join(dir, "done"), recipeB)
	live.epochs(1, 4)
	live.updates(41, 45)
	live.append(telemetry.Event{Type: telemetry.TypeGrowth, Epoch: 4, Updates: 45, From: 64, To: 128, Trigger: "duration"})
	live.append(telemetry.Event{Type: telemetry.TypeAnomaly, Epoch: 4, Updates: 45, Message: "the loss is NaN"})
	live.append(telemetry.Event{Type: telemetry.TypePhase, Epoch: 4, Updates: 45, Phase: "average"})
	done.epochs(1, 3)
	done.end(3)
	write(t, filepath.Join(dir, "done/checkpoints/step-000000030.safetensors"), "x")
	write(t, filepath.Join(dir, "done/curvature.json"), `{"samples":32,"batch_norm":"eval","eigenvalues":[{"value":2,"iterations":3,"converged":true}],
		"density":{"runs":[{"nodes":[-1,0,4],"weights":[0.1,0.6,0.3]}],"mean":1.1},"landscape":{"offsets":[-1,0,1],"losses":[[3,1,3],[2,1,2],[4,2,4]]}}`)
	write(t, filepath.Join(dir, "bad", telemetry.EventsFile), "nonsense\n{}\n")
	files := filePages(t, dir)
	page := serving(t, watched(t, dir), local)
	b := newBrowser(t)
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 390} {
			for _, path := range append([]string{page + "/?run=live&run=done", page + "/login.html"}, files...) {
				b.prefer("prefers-color-scheme", scheme)
				b.do(chromedp.EmulateViewport(width, 900), chromedp.Navigate(path))
				if strings.Contains(path, "?run=") {
					becomes(b, `document.querySelectorAll('#landscapes figure').length`, 1)
					becomes(b, dots("Test accuracy"), "4 3")
				}
				eval[any](b, `document.querySelectorAll('details').forEach((d) => { d.open = true; }); document.querySelector('.reader')?.focus()`)
				eval[any](b, string(axe)+"; 0")
				found := eval[string](b, `axe.run(document, { resultTypes: ['violations'] }).then((r) => JSON.stringify({ passes: r.passes.length,
					violations: r.violations.map((v) => v.id + ': ' + v.help + ' ' + v.nodes.map((n) => n.target + ' ' + n.failureSummary).slice(0, 3).join(' | ')), unsure: r.incomplete.map((v) => v.id + ' of ' + [...new Set(v.nodes.map((n) => n.any[0]?.data?.messageKey + ' ' + n.target))].slice(0, 12).join(', ')) }))`)
				t.Logf("%s, %d wide, %s: %s", scheme, width, path, found)
				if !strings.Contains(found, `"violations":[]`) {
					t.Errorf("axe-core finds faults: %s", found)
				}
			}
		}
	}
}

// filePages are the addresses of the pages that broadside writes about the runs live and done of a folder.
func filePages(t *testing.T, dir string) []string {
	t.Helper()
	runs := []string{filepath.Join(dir, "live"), filepath.Join(dir, "done")}
	var pages []string
	for _, run := range runs {
		if err := telemetry.Report(run); err != nil {
			t.Fatal(err)
		}
		pages = append(pages, "file://"+filepath.Join(run, telemetry.ReportFile))
	}
	c, err := telemetry.Compare(runs)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "compare.html")
	if err := c.WritePage(path); err != nil {
		t.Fatal(err)
	}
	return append(pages, "file://"+path)
}
