package main

import (
	"fmt"
	"math"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"broadside/engine/dashboard"
)

func newServe() *cobra.Command {
	o := dashboard.Options{}
	var tokenFile string
	cmd := &cobra.Command{
		Use:   "serve RUNS...",
		Short: "Serve a page that shows runs live: curves, comparison, curvature, checkpoints",
		Long: `Serve a page that shows all runs below a folder while they train: their curves
over each other, results side by side, what their recipes differ in, curvature
that 'broadside curvature RUN' measured, and checkpoints. Runs that begin later
appear by themselves. /metrics has the newest values for Prometheus.

Nothing is written, and nothing outside RUNS can be read. Only this machine can
open the page, unless --listen says otherwise: then a token is needed, from
--token-file or made and printed. Over a network that others read, give a
certificate (--tls-cert, --tls-key) or use 'ssh -L 7878:localhost:7878 HOST':
without one, connections are not encrypted.`,
		Example: `  broadside serve runs
  broadside serve runs/absa runs/bl --listen 127.0.0.1:8080
  broadside serve /data/runs --listen 0.0.0.0:7878 --token-file token
  broadside serve /data/runs --listen 0.0.0.0:7878 --tls-cert host.pem --tls-key host-key.pem`,
		Args: arguments(1, math.MaxInt),
		RunE: func(cmd *cobra.Command, a []string) error {
			made, err := serveToken(&o, tokenFile)
			if err == nil {
				err = dashboard.CheckListen(o)
			}
			if err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			return serve(cmd, a, o, made)
		},
	}
	cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:7878", "address and port to listen on; port 0 takes a free one")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file with the token, 16 characters or more, that the page asks for")
	cmd.Flags().StringVar(&o.TLSCert, "tls-cert", "", "certificate in PEM, with those that vouch for it behind: serve HTTPS")
	cmd.Flags().StringVar(&o.TLSKey, "tls-key", "", "the certificate's key, in PEM")
	return cmd
}

// serveToken sets the token: that of the file, or a new one where one is needed. It reports whether it made one.
func serveToken(o *dashboard.Options, file string) (made bool, err error) {
	if file == "" {
		if _, _, err := net.SplitHostPort(o.Listen); err == nil && !dashboard.Loopback(o.Listen) {
			o.Token, made = dashboard.NewToken(), true
		}
		return made, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return false, fmt.Errorf("--token-file: %w", err)
	}
	if o.Token = strings.TrimSpace(string(text)); o.Token == "" {
		return false, fmt.Errorf("--token-file %s is empty: want a token, as of 'openssl rand -hex 16'", file)
	}
	return false, nil
}

// serve serves until the command is interrupted, which is how it ends well.
func serve(cmd *cobra.Command, folders []string, o dashboard.Options, made bool) error {
	w, err := dashboard.Watch(folders)
	if err != nil {
		return err
	}
	defer w.Close()
	s, err := dashboard.Listen(w, o)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%d runs below %s\n%s\n", len(w.List().Runs), strings.Join(folders, ", "), s.URL())
	if made {
		fmt.Fprintf(out, "token: %s\n", o.Token)
	}
	if err := s.Serve(cmd.Context()); err != nil {
		return fmt.Errorf("serving %s: %w", s.URL(), err)
	}
	return nil
}
