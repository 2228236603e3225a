// Command proof repeats the proof that dynalock's locks hold, with real processes, and checks what they saw.
//
//	go run . kill                        kills and stops of real processes, faults of their networks
//	go run . soak -for 3h                the same for hours, with -race; whether heap, RSS and goroutines are flat
//	go run . sim                         checks 1,000 histories of the simulation
//	go run . check DIR...                checks histories once more
//
// README.md says what each of them proves, and what none does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/dynalock/dynalock/proof/history"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := errors.New("usage: proof kill|soak|sim|check [flags]; -h after any of them shows its flags")
	if len(os.Args) > 1 {
		switch args := os.Args[2:]; os.Args[1] {
		case "kill":
			err = killCommand(ctx, args)
		case "soak":
			err = soakCommand(ctx, args)
		case "sim":
			err = simCommand(ctx, args)
		case "check":
			err = checkCommand(args)
		case "worker": // a process of its own, started by kill and soak
			err = workerCommand(ctx, args)
		}
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "proof:", err)
		os.Exit(1)
	}
}

// checkCommand checks the rounds of a run, or the schedules of a simulation, once more.
func checkCommand(args []string) error {
	var sum history.Result
	for _, dir := range args {
		rounds, err := filepath.Glob(filepath.Join(dir, "r[0-9]*"))
		if err != nil {
			return err
		}
		for _, round := range rounds {
			events, err := history.Load(round)
			if err != nil {
				return err
			}
			sum.Add(history.Check(events))
		}
		if len(rounds) == 0 {
			r, err := checkFiles(os.Stdout, dir)
			if err != nil {
				return err
			}
			sum.Add(r)
		}
	}
	return verdict(os.Stdout, sum)
}

// verdict prints a result and turns its violations into an error.
func verdict(w io.Writer, r history.Result) error {
	fmt.Fprintln(w, r)
	if len(r.Violations) == 0 && r.Operations > 0 {
		return nil
	}
	return violated(r.Violations)
}

// violated is an error that shows the first violations.
func violated(all []error) error {
	errs := []error{fmt.Errorf("%d violations", len(all))}
	return errors.Join(append(errs, all[:min(len(all), 20)]...)...)
}
