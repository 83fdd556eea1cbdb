package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"broadside/engine/telemetry"
)

// tellOfStop says what a signal that ends the context does to whoever watches the run, until end is called.
func tellOfStop(ctx context.Context, p telemetry.Progress) (end func() bool) {
	return context.AfterFunc(ctx, func() {
		p.Event(telemetry.Event{Type: telemetry.TypeWarning, Message: "stopping with a checkpoint; the signal once more ends the process at once"})
	})
}

// saveSignal returns a channel that asks for a checkpoint whenever the process gets SIGUSR1, and how to stop listening.
func saveSignal() (<-chan struct{}, func()) {
	signals, save := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		for range signals {
			select {
			case save <- struct{}{}:
			default: // it has been asked for already
			}
		}
	}()
	return save, func() {
		signal.Stop(signals)
		close(signals)
	}
}
