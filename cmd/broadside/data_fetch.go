package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"broadside/engine/data"
	"broadside/engine/data/fetch"
	"broadside/engine/suggest"
)

func newDataFetch() *cobra.Command {
	var to, mirror string
	cmd := dataCommand("fetch NAME", "Download a data set from its authors",
		`Download the files that the authors of a data set publish, check their checksums and unpack them. A download that was
stopped goes on where it stopped when the command is run again; files that are there already are checked and left alone.
Proxies are taken from the environment (HTTPS_PROXY). Known are `+strings.Join(data.Fetchable(), ", ")+".",
		"  broadside data fetch cifar10 --to /data\n  broadside data fetch mnist --to data/mnist --url https://mirror.example.org/mnist",
		func(cmd *cobra.Command, name string) error { return fetchData(cmd, name, to, mirror) })
	cmd.Flags().StringVar(&to, "to", "", "folder for the files (default data/NAME)")
	cmd.Flags().StringVar(&mirror, "url", "", "take the files from this folder of a web server instead; they must be the same files")
	return cmd
}

func fetchData(cmd *cobra.Command, name, to, mirror string) error {
	if len(data.Downloads(name)) == 0 {
		return suggest.Unknown("data set with files to fetch", name, data.Fetchable())
	}
	if to == "" {
		to = filepath.Join("data", name)
	}
	bar := &progressBar{w: cmd.ErrOrStderr()}
	err := fetch.Fetch(cmd.Context(), name, to, fetch.Options{Mirror: mirror, Progress: bar.show, Log: func(line string) {
		bar.clear()
		fmt.Fprintln(cmd.OutOrStdout(), line)
	}})
	bar.clear()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "train with --set data.name=%s --set data.path=%s\n", name, to)
	return err
}

// progressBar shows a download: as one line that changes on a terminal, and not at all elsewhere.
type progressBar struct {
	w     io.Writer
	file  string
	from  int64 // bytes that were there when it began
	start time.Time
	last  time.Time
	shown bool
}

// show is called whenever bytes have come.
func (b *progressBar) show(file string, done, total int64) {
	f, ok := b.w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return
	}
	now := time.Now()
	if b.file != file || done < b.from {
		b.file, b.from, b.start = file, done, now
	}
	if now.Sub(b.last) < 100*time.Millisecond && done < total {
		return
	}
	b.last, b.shown = now, true
	fmt.Fprint(b.w, "\r\x1b[K", barLine(file, done, total, float64(done-b.from)/max(now.Sub(b.start).Seconds(), 1e-3)))
}

// clear removes the line.
func (b *progressBar) clear() {
	if b.shown {
		fmt.Fprint(b.w, "\r\x1b[K")
		b.shown = false
	}
}

// barLine is the line of a download that gets rate bytes a second.
func barLine(file string, done, total int64, rate float64) string {
	const width = 24
	full := int(width * done / max(total, 1))
	line := fmt.Sprintf("%s [%s%s] %3d%% of %.1f MB, %.1f MB/s", file, strings.Repeat("#", full), strings.Repeat(".", width-full),
		100*done/max(total, 1), float64(total)/1e6, rate/1e6)
	if left := float64(total-done) / max(rate, 1); done < total && left < 1e5 {
		line += fmt.Sprintf(", %s left", (time.Duration(left) * time.Second).String())
	}
	return line
}
