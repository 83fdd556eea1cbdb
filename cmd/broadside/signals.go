package main

import (
	"os"
	"os/signal"
	"syscall"
)

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
