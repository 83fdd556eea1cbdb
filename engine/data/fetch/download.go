package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"

	"broadside/engine/data"
)

// attempts is how often a download is tried without a byte of progress.
const attempts = 5

// newClient follows the proxies of the environment, as HTTPS_PROXY, and never goes from https to http.
func newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = time.Minute
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("stopped after 10 redirections")
		}
		if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
			return fmt.Errorf("redirected from https to %s", r.URL)
		}
		return nil
	}}
}

// permanent is an error that another attempt would not mend.
type permanent struct{ error }

// stopped is a download that the caller's context ended.
type stopped struct {
	cause error
	part  string
}

func (s stopped) Error() string { return "stopped; run it again to go on from " + s.part }
func (s stopped) Unwrap() error { return s.cause }

// download fetches a file to the part, of which what is there already is kept, with as many attempts as bring progress.
func download(ctx context.Context, d data.Download, from, part string, o Options) error {
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("%s is in use by another fetch", part)
	}
	failures, pause := 0, o.pause
	for {
		before, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		err = continueFile(ctx, f, before, d, from, o)
		var final permanent
		switch {
		case err == nil:
			return f.Sync()
		case ctx.Err() != nil:
			return stopped{ctx.Err(), part}
		case errors.As(err, &final):
			return final.error
		}
		if after, _ := f.Seek(0, io.SeekEnd); after > before {
			failures, pause = 0, o.pause
		}
		if failures++; failures == attempts {
			return fmt.Errorf("%w, %d times; run it again to go on from %s", err, attempts, part)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// continueFile makes one request for what the file lacks. Where the server has it only from the start, or thinks that there
// is no more, it begins anew.
func continueFile(ctx context.Context, f *os.File, have int64, d data.Download, from string, o Options) error {
	if have > d.Bytes { // of something else
		have = 0
		if err := f.Truncate(0); err != nil {
			return permanent{err}
		}
	}
	if have == d.Bytes {
		return nil
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return permanent{err}
	}
	r.Header.Set("Accept-Encoding", "identity") // the bytes as they are: ranges count them
	if have > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	response, err := o.Client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if have, err = begin(f, response, have, d); err != nil {
		return err
	}
	return receive(f, response.Body, have, d, o, stop)
}

// begin checks a response and returns from which byte of the file on it goes.
func begin(f *os.File, response *http.Response, have int64, d data.Download) (int64, error) {
	switch code := response.StatusCode; {
	case code == http.StatusPartialContent:
		want := fmt.Sprintf("bytes %d-%d/%d", have, d.Bytes-1, d.Bytes)
		if got := response.Header.Get("Content-Range"); got != want {
			return 0, permanent{fmt.Errorf("the server gives %q where %q was asked for", got, want)}
		}
	case code == http.StatusOK:
		have = 0 // also where the server knows no ranges
		if n := response.ContentLength; n >= 0 && n != d.Bytes {
			return 0, permanent{fmt.Errorf("the server offers %d bytes; the published file has %d", n, d.Bytes)}
		}
		if err := f.Truncate(0); err != nil {
			return 0, permanent{err}
		}
	case code == http.StatusRequestedRangeNotSatisfiable:
		if err := f.Truncate(0); err != nil {
			return 0, permanent{err}
		}
		return 0, errors.New("the server has no such range")
	case code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout:
		return 0, fmt.Errorf("the server answers %s", response.Status)
	default:
		return 0, permanent{fmt.Errorf("the server answers %s for %s", response.Status, response.Request.URL)}
	}
	_, err := f.Seek(have, io.SeekStart)
	return have, err
}

// receive writes the body behind the first have bytes. It never writes more than the published size.
func receive(f *os.File, body io.Reader, have int64, d data.Download, o Options, stop context.CancelCauseFunc) error {
	idle := time.AfterFunc(o.idle, func() { stop(nil) })
	defer idle.Stop()
	buffer := make([]byte, 1<<16)
	for {
		n, err := body.Read(buffer)
		idle.Reset(o.idle)
		if have+int64(n) > d.Bytes {
			return permanent{fmt.Errorf("the server sends more than the published %d bytes", d.Bytes)}
		}
		if _, err := f.Write(buffer[:n]); err != nil {
			return permanent{err}
		}
		have += int64(n)
		o.Progress(d.Name(), have, d.Bytes)
		switch {
		case err == io.EOF && have < d.Bytes:
			return fmt.Errorf("the connection ended after %d of %d bytes", have, d.Bytes)
		case err == io.EOF:
			return nil
		case errors.Is(err, context.Canceled):
			return fmt.Errorf("nothing came for %s after %d of %d bytes", o.idle, have, d.Bytes)
		case err != nil:
			return err
		}
	}
}
