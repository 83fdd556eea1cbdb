// Package fetch downloads the files that the authors of a data set publish, checks them and unpacks them.
//
// A download goes to a file that ends in .part and is taken up again where it stopped. Only when its size and its checksum
// are the published ones does it get its name, and only then is an archive unpacked, beside its final place, which it takes
// whole. So what a folder holds under a proper name is complete.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"broadside/engine/data"
	"broadside/engine/internal/durable"
)

// partMark ends the name of a file while it is downloaded.
const partMark = ".part"

// Options say how to fetch.
type Options struct {
	Mirror   string                               // where to take the files from instead of the authors' address: a folder's URL
	Client   *http.Client                         // nil: one that follows the proxies of the environment
	Progress func(file string, done, total int64) // nil: silent
	Log      func(line string)                    // what happens to each file; nil: silent

	idle  time.Duration // a connection that delivers nothing for so long is given up
	pause time.Duration // before the first repetition
}

// Fetch brings the files of a named data set to the folder, which it makes. Those that are there already are left alone.
func Fetch(ctx context.Context, name, dir string, o Options) error {
	files := data.Downloads(name)
	if len(files) == 0 {
		return fmt.Errorf("data set %s: no address of its files is known; fetch brings %s", name, strings.Join(data.Fetchable(), ", "))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	for _, d := range files {
		if err := fetchFile(ctx, name, d, dir, o.withDefaults()); err != nil {
			return fmt.Errorf("fetching %s: %w", d.Name(), err)
		}
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Client == nil {
		o.Client = newClient()
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.idle == 0 {
		o.idle = time.Minute
	}
	if o.pause == 0 {
		o.pause = time.Second
	}
	return o
}

// address is where a file is taken from.
func (o *Options) address(d data.Download) (string, error) {
	if o.Mirror == "" {
		return d.URL, nil
	}
	u, err := url.Parse(o.Mirror)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return "", fmt.Errorf("%q is no address of a folder, as https://host/folder", o.Mirror)
	}
	return u.JoinPath(d.Name()).String(), nil
}

// fetchFile brings one file, or what an archive holds.
func fetchFile(ctx context.Context, name string, d data.Download, dir string, o Options) error {
	from, err := o.address(d)
	if err != nil {
		return err
	}
	target := filepath.Join(dir, d.Name())
	if d.Folder != "" {
		target = filepath.Join(dir, d.Folder)
	}
	if there, err := present(name, d, dir, target); err != nil || there {
		if there {
			o.Log(target + ": already there")
		}
		return err
	}
	part := filepath.Join(dir, d.Name()+partMark)
	if err := downloadChecked(ctx, d, from, part, o); err != nil {
		return err
	}
	if d.Folder != "" {
		if err := unpackFile(part, target, d.Folder); err != nil {
			return err
		}
		o.Log(target + ": fetched, checked and unpacked")
		return os.Remove(part)
	}
	if err := os.Rename(part, target); err != nil {
		return err
	}
	o.Log(target + ": fetched and checked")
	return durable.SyncFolder(dir)
}

// present reports whether the target is there and as published. It refuses to touch one that is not.
func present(name string, d data.Download, dir, target string) (bool, error) {
	_, err := os.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case d.Folder == "":
		err = checkFile(target, d)
	default:
		err = checkFolder(name, dir)
	}
	if err != nil {
		return false, fmt.Errorf("%s is there already, but not as published: %w; remove it to fetch it anew", target, err)
	}
	return true, nil
}

// checkFolder checks what an archive was unpacked to.
func checkFolder(name, dir string) error {
	states, err := data.Verify(data.Spec{Name: name, Path: dir})
	for _, s := range states {
		if s.State != data.FileOK && s.State != data.FileUnknown {
			return fmt.Errorf("%s: %s", filepath.Base(s.File), s.Detail)
		}
	}
	return err
}

// checkFile compares a file with what is published of it.
func checkFile(path string, d data.Download) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return d.Check(f)
}

// downloadChecked downloads to the part and checks the sum. A part that was there before may be of something else: where the
// sum is wrong, it is downloaded once more from its start.
func downloadChecked(ctx context.Context, d data.Download, from, part string, o Options) error {
	info, err := os.Lstat(part)
	resumed := err == nil && info.Size() > 0
	for {
		if err := download(ctx, d, from, part, o); err != nil {
			return err
		}
		err := checkFile(part, d)
		if err == nil {
			return nil
		}
		if remove := os.Remove(part); remove != nil {
			return remove
		}
		if !resumed {
			return fmt.Errorf("what %s gave is not the published file: %w; it was removed", from, err)
		}
		o.Log(part + ": what was there before does not fit; starting anew")
		resumed = false
	}
}
