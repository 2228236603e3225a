//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd)

package main

import (
	"context"
	"errors"
	"runtime"

	"github.com/spf13/cobra"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run KEY -- COMMAND [ARGS...]",
		Short: "Run a command while holding a lock (not on this system)",
		RunE: a.do(func(context.Context, []string) error {
			return errors.New("run needs process groups and signals, which " + runtime.GOOS + " has not")
		}),
	}
}
