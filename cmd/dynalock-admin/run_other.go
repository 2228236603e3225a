//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd)

package main

import (
	"context"
	"errors"
	"runtime"

	"github.com/spf13/cobra"
)

func (a *app) runCommand() *cobra.Command {
	return a.missing("run KEY -- COMMAND [ARGS...]", "Run a command while holding a lock")
}

func (a *app) onceCommand() *cobra.Command {
	return a.missing("once JOB PERIOD -- COMMAND [ARGS...]", "Run a command unless it has run for this period, anywhere")
}

func (a *app) electCommand() *cobra.Command {
	return a.missing("elect KEY -- COMMAND [ARGS...]", "Run a command for as long as this candidate leads")
}

func (a *app) missing(use, short string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short + " (not on this system)",
		RunE: a.do(func(context.Context, []string) error {
			return errors.New("this needs process groups and signals, which " + runtime.GOOS + " does not have")
		}),
	}
}
