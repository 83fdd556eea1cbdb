package main

import (
	"errors"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"broadside/engine"
	"broadside/engine/collective/join"
	"broadside/engine/telemetry"
)

// logFlags say whom a run tells of itself.
type logFlags struct {
	tensorboard bool
	metrics     string
}

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.tensorboard, "tensorboard", true, "write an event file for TensorBoard into the run directory")
	cmd.Flags().StringVar(&f.metrics, "metrics", "", "serve /metrics for Prometheus here while training, as in 127.0.0.1:9400; without a host, as in :9400, to this machine only")
}

// start has the run in o.RunDir followed. Only the first process tells.
func (f *logFlags) start(cmd *cobra.Command, o *engine.Options) error {
	if rank, _ := join.Processes(); rank > 0 {
		return nil
	}
	o.TensorBoard, o.Progress = f.tensorboard, telemetry.NewProgress(cmd.ErrOrStderr())
	tellOfStop(cmd.Context(), o.Progress)
	if f.metrics == "" {
		return nil
	}
	dir, err := filepath.Abs(o.RunDir)
	if err != nil {
		return err
	}
	server, err := telemetry.ServeMetrics(f.metrics, filepath.Base(dir))
	if malformed := new(net.AddrError); errors.As(err, &malformed) {
		return usageError{err, cmd.CommandPath()}
	} else if err != nil {
		return err
	}
	o.Progress = telemetry.Several{o.Progress, server}
	return nil
}
