// Package dashboard serves a page that shows the runs of some folders while they train: their curves over each other,
// their results side by side, where their recipes differ, their curvature and their checkpoints. It reads the run
// directories and nothing else, and it writes nothing.
package dashboard

import (
	"bytes"
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"broadside/engine/telemetry"
)

//go:embed page
var pageFiles embed.FS

// Options say how to serve.
type Options struct {
	Listen string // address and port; a loopback address unless there is a token
	Token  string // who shows it may see the page; "" lets everybody on this machine
	// TLSCert and TLSKey are files in PEM: the certificate, with those that vouch for it, and its key. "" is HTTP without TLS.
	TLSCert, TLSKey string
}

// Server serves the page of a Watcher.
type Server struct {
	watcher  *Watcher
	guard    *guard
	listener net.Listener
	http     http.Server
	secure   bool          // over TLS
	streams  chan struct{} // a slot for each stream of events
}

// Listen opens the port. It refuses to listen beyond this machine without a token.
func Listen(w *Watcher, o Options) (*Server, error) {
	if err := CheckListen(o); err != nil {
		return nil, err
	}
	secure, err := tlsOf(o)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w", o.Listen, err)
	}
	s := &Server{watcher: w, listener: listener, streams: make(chan struct{}, maxStreams), guard: newGuard(o), secure: secure != nil}
	s.http = http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, TLSConfig: secure, ErrorLog: log.New(untold{os.Stderr}, "", log.LstdFlags)}
	// With HTTP/2, which TLS would bring, limits on writing are of streams: one client that stops to read would hold all slots.
	s.http.Protocols = new(http.Protocols)
	s.http.Protocols.SetHTTP1(true)
	return s, nil
}

// untold is a log without the lines that anybody who connects can have written.
type untold struct{ io.Writer }

func (u untold) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("TLS handshake error")) {
		return len(line), nil
	}
	return u.Writer.Write(line)
}

// tlsOf reads the certificate; without one there is no TLS.
func tlsOf(o Options) (*tls.Config, error) {
	if o.TLSCert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w", o.TLSCert, o.TLSKey, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// URL is where the page is.
func (s *Server) URL() string {
	scheme := "http"
	if s.secure {
		scheme = "https"
	}
	return scheme + "://" + s.listener.Addr().String() + "/"
}

// answer answers requests until the server is shut down.
func (s *Server) answer() error {
	if s.secure {
		return s.http.ServeTLS(s.listener, "", "")
	}
	return s.http.Serve(s.listener)
}

// Serve serves until the context is done, and then ends every request.
func (s *Server) Serve(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s.http.BaseContext = func(net.Listener) context.Context { return ctx } // streams end with it
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		s.watcher.Run(ctx)
	}()
	failed := make(chan error, 1)
	go func() { failed <- s.answer() }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		last, done := context.WithTimeout(context.Background(), 3*time.Second)
		defer done()
		if err = s.http.Shutdown(last); err != nil {
			err = s.http.Close()
		}
	}
	stop()
	<-watching
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// handler routes requests, all of them through the guard.
func (s *Server) handler() http.Handler {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /base.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		fmt.Fprint(w, telemetry.Style())
	})
	mux.HandleFunc("GET /api/runs", s.list)
	mux.HandleFunc("GET /api/run", s.run)
	mux.HandleFunc("GET /api/differences", s.differences)
	mux.HandleFunc("GET /api/curvature", s.curvature)
	mux.HandleFunc("GET /api/events", s.events)
	mux.Handle("GET /metrics", telemetry.MetricsHandler(s.watcher.Metrics))
	mux.HandleFunc("POST /login", s.guard.login)
	return s.guard.protect(mux)
}
