package telemetry

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"
)

// Progress shows a run while it trains. The trainer tells it of every update, epoch and event; it
// limits what it prints. Close leaves the terminal in order.
type Progress interface {
	Step(Step)
	Epoch(Epoch)
	Event(Event)
	Close()
}

// NewProgress returns a live line if w is a terminal, and else one log line per epoch and event.
func NewProgress(w io.Writer) Progress {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return newLive(w, func() int {
			width, _, err := term.GetSize(int(f.Fd()))
			if err != nil {
				return 80
			}
			return width
		}, time.Now)
	}
	console := zerolog.ConsoleWriter{Out: w, NoColor: true, TimeFormat: time.DateTime}
	return NewLogProgress(zerolog.New(console).Level(zerolog.InfoLevel).With().Timestamp().Logger())
}

// NewLogProgress logs one line per epoch and per event to a logger of the caller's, which decides
// between JSON and text.
func NewLogProgress(log zerolog.Logger) Progress {
	return &logged{log: log, meter: newMeter(time.Now)}
}

// Several tells all of them everything.
type Several []Progress

// Step tells of an update.
func (all Several) Step(s Step) {
	for _, p := range all {
		p.Step(s)
	}
}

// Epoch tells of an epoch.
func (all Several) Epoch(e Epoch) {
	for _, p := range all {
		p.Epoch(e)
	}
}

// Event tells of an event.
func (all Several) Event(e Event) {
	for _, p := range all {
		p.Event(e)
	}
}

// Close closes them.
func (all Several) Close() {
	for _, p := range all {
		p.Close()
	}
}

// Discard shows nothing.
type Discard struct{}

// Step does nothing.
func (Discard) Step(Step) {}

// Epoch does nothing.
func (Discard) Epoch(Epoch) {}

// Event does nothing.
func (Discard) Event(Event) {}

// Close does nothing.
func (Discard) Close() {}

// meter measures the speed of the current epoch and the time left of the run. The speed leaves out
// what happens between epochs, such as evaluation; the time left counts it. Both count from the first
// step it sees, so a resumed run is not credited with the updates of its predecessor.
type meter struct {
	now     func() time.Time
	started time.Time
	from    float64 // progress at the first step, in epochs
	lap     time.Time
	samples int64 // since lap
	step    Step
}

func newMeter(now func() time.Time) meter { return meter{now: now} }

func (m *meter) add(s Step) {
	m.step = s
	if m.started.IsZero() {
		m.started, m.from = m.now(), m.progress()
		m.lap = m.started
		return
	}
	m.samples += int64(s.Samples)
}

// endEpoch starts the measurement of the speed anew.
func (m *meter) endEpoch() { m.lap, m.samples = m.now(), 0 }

func (m *meter) progress() float64 { return float64(m.step.Epoch) + m.step.EpochFraction }

// speed is in images per second; 0 while unknown.
func (m *meter) speed() float64 {
	elapsed := m.now().Sub(m.lap).Seconds()
	if m.samples == 0 || elapsed <= 0 {
		return 0
	}
	return float64(m.samples) / elapsed
}

// left estimates the time to the end of the run; negative while unknown.
func (m *meter) left() time.Duration {
	done := m.progress() - m.from
	if done <= 0 {
		return -1
	}
	perEpoch := m.now().Sub(m.started).Seconds() / done
	return time.Duration(perEpoch * (float64(m.step.Epochs) - m.progress()) * float64(time.Second))
}

// logged is the view without a terminal.
type logged struct {
	mu  sync.Mutex
	log zerolog.Logger
	meter
}

func (l *logged) Step(s Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(s)
}

func (l *logged) Epoch(e Epoch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.log.Info().Int("epoch", e.Epoch).Int("updates", e.Updates).Float64("train_loss", round(e.TrainLoss)).Float64("train_accuracy", round(e.TrainAccuracy))
	if e.TestAccuracy != nil {
		line = line.Float64("test_accuracy", round(*e.TestAccuracy))
	}
	if e.TestLoss != nil {
		line = line.Float64("test_loss", round(*e.TestLoss))
	}
	line = line.Int("batch", e.Batch).Float64("lr", round(e.LR))
	if e.Eigenvalue != nil {
		line = line.Float64("eigenvalue", round(*e.Eigenvalue))
	}
	line = line.Float64("images_per_second", math.Round(e.ImagesPerSecond))
	if e.DataWait != nil {
		line = line.Float64("data_wait", round(*e.DataWait))
	}
	if left := l.left(); left >= 0 {
		line = line.Str("left", duration(left))
	}
	line.Msg("epoch")
	l.endEpoch()
}

func (l *logged) Event(e Event) {
	if e.Type == TypeUpdate { // Step tells of all of them
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.log.Info().Int("epoch", e.Epoch).Int("updates", e.Updates)
	switch e.Type {
	case TypeProbe:
		line = l.log.Debug().Int("epoch", e.Epoch) // the epoch's line tells the value
	case TypeCheckpoint:
		line = l.log.Debug().Int("updates", e.Updates)
	case TypeGrowth:
		line = line.Str("trigger", e.Trigger).Int("from", e.From).Int("to", e.To)
	case TypeRate:
		line = line.Str("trigger", e.Trigger).Float64("lr_scale", round(e.LRScale))
	case TypeWarning:
		line = l.log.Warn()
	case TypePhase:
		line = line.Str("phase", e.Phase).Float64("accuracy", round(e.accuracy()))
	}
	if e.Eigenvalue != nil {
		line = line.Float64("eigenvalue", round(*e.Eigenvalue))
	}
	if e.Path != "" {
		line = line.Str("path", e.Path)
	}
	if e.Message != "" {
		line = line.Str("detail", e.Message)
	}
	line.Msg(e.Type)
}

func (l *logged) Close() {}

// refresh is the time between two redraws of the live line.
const refresh = 100 * time.Millisecond

// live is the view on a terminal: lines that stay, one per epoch and event, above one that changes.
type live struct {
	mu     sync.Mutex
	out    io.Writer
	width  func() int
	drawn  time.Time
	shown  bool // a live line is on the screen
	eigen  *float64
	header bool
	meter
}

func newLive(out io.Writer, width func() int, now func() time.Time) *live {
	return &live{out: out, width: width, meter: newMeter(now)}
}

func (l *live) Step(s Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(s)
	if now := l.now(); now.Sub(l.drawn) >= refresh {
		l.drawn = now
		l.draw()
	}
}

// draw replaces the live line. Fields that do not fit into the width are left out from the right, so
// those that tell most come first.
func (l *live) draw() {
	s := l.step
	text := fmt.Sprintf("epoch %d/%d %s", min(s.Epoch+1, s.Epochs), s.Epochs, bar(s.EpochFraction, 16))
	fields := []string{fmt.Sprintf("loss %.4f", s.Loss), fmt.Sprintf("acc %.2f%%", 100*s.Accuracy), fmt.Sprintf("batch %d", s.Batch)}
	if left := l.left(); left >= 0 {
		fields = append(fields, duration(left)+" left")
	}
	fields = append(fields, fmt.Sprintf("lr %.4g", s.LR))
	if speed := l.speed(); speed > 0 {
		fields = append(fields, fmt.Sprintf("%.0f img/s", speed))
	}
	if s.Streamed {
		fields = append(fields, fmt.Sprintf("%.0f%% waiting for data", 100*s.DataWait))
	}
	if l.eigen != nil {
		fields = append(fields, fmt.Sprintf("eig %.4g", *l.eigen))
	}
	width := l.width() - 1 // the last column would wrap on some terminals
	for _, f := range fields {
		if len(text)+2+len(f) > width {
			break
		}
		text += "  " + f
	}
	fmt.Fprint(l.out, "\r\x1b[K", text[:max(0, min(len(text), width))])
	l.shown = true
}

// print writes a line that stays.
func (l *live) print(format string, args ...any) {
	if l.shown {
		fmt.Fprint(l.out, "\r\x1b[K")
		l.shown = false
	}
	fmt.Fprintf(l.out, format+"\n", args...)
}

func (l *live) Epoch(e Epoch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.printHeader()
	l.endEpoch()
	waited := ""
	if e.DataWait != nil {
		waited = fmt.Sprintf("  %.0f%% waiting for data", 100**e.DataWait)
	}
	l.print("%5d %9d %10.4f %8.2f%% %10s %9s %7d %9.4g %9s %7.0f%s", e.Epoch, e.Updates, e.TrainLoss, 100*e.TrainAccuracy,
		optional("%.4f", e.TestLoss, 1), optional("%.2f%%", e.TestAccuracy, 100), e.Batch, e.LR, optional("%.4g", e.Eigenvalue, 1), e.ImagesPerSecond, waited)
}

// printHeader heads the table of epochs, once.
func (l *live) printHeader() {
	if !l.header {
		l.print("%5s %9s %10s %9s %10s %9s %7s %9s %9s %7s", "epoch", "updates", "train loss", "train acc", "test loss", "test acc", "batch", "lr", "eig", "img/s")
		l.header = true
	}
}

func (l *live) Event(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Type {
	case TypeProbe:
		l.eigen = e.Eigenvalue
	case TypeGrowth:
		l.printHeader()
		l.print("      batch %d -> %d (%s)", e.From, e.To, e.Trigger)
	case TypePhase:
		l.print("      end of %s: test accuracy %.2f%%", e.Phase, 100*e.accuracy())
	case TypeResume:
		l.print("      %s", strings.TrimSpace(fmt.Sprintf("resumed after %d updates %s", e.Updates, e.Path)))
		if e.Message != "" {
			l.print("      %s", e.Message)
		}
	default:
		if e.Message != "" {
			l.print("      %s", e.Message)
		}
	}
}

// Close removes the live line.
func (l *live) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shown {
		fmt.Fprint(l.out, "\r\x1b[K")
		l.shown = false
	}
}

// bar draws a fraction with so many characters.
func bar(fraction float64, width int) string {
	full := 0
	if fraction > 0 { // not for NaN
		full = int(math.Round(min(fraction, 1) * float64(width)))
	}
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "]"
}

// optional formats a value times a scale, or a dash where there is none.
func optional(format string, v *float64, scale float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf(format, *v*scale)
}

// round keeps five significant digits, for logs that people read.
func round(f float64) float64 {
	if f == 0 || math.IsNaN(f) || math.IsInf(f, 0) {
		return f
	}
	scale := math.Pow(10, 4-math.Floor(math.Log10(math.Abs(f))))
	if math.IsInf(scale, 0) || scale == 0 {
		return f
	}
	return math.Round(f*scale) / scale
}

// duration writes 75 s as 1m15s, and leaves out the seconds of hours.
func duration(d time.Duration) string {
	d = d.Round(time.Second)
	if d >= time.Hour {
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	if d >= time.Minute {
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
