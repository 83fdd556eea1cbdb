package bench

import (
	"bufio"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"broadside/kernels/cpu"
)

// Environment says where and with what a result was measured.
type Environment struct {
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	Kernels   string `json:"kernels"` // the device with its instruction set
	Platform  string `json:"platform"`
	Go        string `json:"go"`
	Broadside string `json:"broadside"` // version, or revision of the source; "unknown" if the build does not tell
	Date      string `json:"date"`
}

func environment(device string) Environment {
	return Environment{CPU: cpuModel(), Cores: runtime.NumCPU(), Kernels: device, Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Go: runtime.Version(), Broadside: version(), Date: time.Now().UTC().Format(time.RFC3339)}
}

// cpuModel returns the processor's name where the system tells it.
func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	found := map[string]string{}
	for _, s := range info.Settings {
		found[s.Key] = s.Value
	}
	if revision := found["vcs.revision"]; revision != "" {
		if found["vcs.modified"] == "true" {
			revision += " with changes"
		}
		return revision
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "unknown"
}

// Limits are the measured limits of this machine: multiply-adds in registers, and the triad of STREAM over
// arrays that no cache holds. One is one core while the others rest; all is the sum of all cores at once.
type Limits struct {
	ISA       string  `json:"isa"`
	F32One    float64 `json:"f32_gflops_one_core"`
	F32All    float64 `json:"f32_gflops_all_cores"`
	BF16One   float64 `json:"bf16_gflops_one_core"` // 0 without AVX512_BF16
	BF16All   float64 `json:"bf16_gflops_all_cores"`
	StreamOne float64 `json:"stream_gbs_one_core"`
	StreamAll float64 `json:"stream_gbs_all_cores"`
}

// measureLimits takes about two seconds. It knows no limits of GPUs, and leaves them 0.
func measureLimits(device string) (Limits, error) {
	isa, onCPU := isaOf(device)
	l := Limits{ISA: isa}
	if !onCPU {
		return l, nil
	}
	for _, m := range []struct {
		one, all *float64
		rate     func() (float64, error)
	}{
		{&l.F32One, &l.F32All, func() (float64, error) { return cpu.Peak(isa) }},
		{&l.BF16One, &l.BF16All, func() (float64, error) { return cpu.PeakBF16(), nil }},
		{&l.StreamOne, &l.StreamAll, cpu.Bandwidth},
	} {
		for _, n := range []int{1, runtime.NumCPU()} {
			sum, err := together(n, m.rate)
			if err != nil {
				return l, err
			}
			if n == 1 {
				*m.one = sum / 1e9
			}
			*m.all = sum / 1e9
		}
	}
	return l, nil
}

// together adds the rates of n threads that measure at the same time.
func together(n int, rate func() (float64, error)) (sum float64, err error) {
	rates, errs := make([]float64, n), make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { rates[i], errs[i] = rate() })
	}
	group.Wait()
	for i := range n {
		if errs[i] != nil {
			return 0, errs[i]
		}
		sum += rates[i]
	}
	return sum, nil
}

// peak returns the GFLOP/s that so many devices reach at most in a precision. That of tf32, and of bfloat16 without
// instructions for it, is f32's, which then computes it.
func (l Limits) peak(precision string, devices int) float64 {
	one, all := l.F32One, l.F32All
	if precision == "bf16" && l.BF16One > 0 {
		one, all = l.BF16One, l.BF16All
	}
	if devices == 1 {
		return one
	}
	return all * float64(min(devices, runtime.NumCPU())) / float64(runtime.NumCPU())
}

// share is a rate as part of a limit, 0 where there is none.
func share(rate, limit float64) float64 {
	if limit == 0 {
		return 0
	}
	return rate / limit
}

// isaOf takes the instruction set out of a CPU's name, "cpu (avx2)".
func isaOf(device string) (isa string, onCPU bool) {
	isa, onCPU = strings.CutPrefix(device, "cpu (")
	return strings.TrimSuffix(isa, ")"), onCPU
}
