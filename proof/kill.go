package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// runFlags are those that kill and soak share.
func runFlags(name string, o *options) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.StringVar(&o.Endpoint, "endpoint", os.Getenv("DYNALOCK_TEST_ENDPOINT"),
		"`URL` of a DynamoDB that is not AWS; none: the embedded server. The default is $DYNALOCK_TEST_ENDPOINT")
	flags.StringVar(&o.Dir, "dir", "", "where the histories are kept (default: nowhere)")
	flags.IntVar(&o.Workers, "workers", 10, "processes at a time, 2 to 20; the first of them is never disturbed")
	flags.IntVar(&o.Keys, "keys", 8, "locks at a time")
	flags.DurationVar(&o.Lease, "lease", time.Second, "of the locks")
	flags.DurationVar(&o.Round, "round", 30*time.Second,
		"after this time all go on to new locks, and the old ones are checked")
	flags.Uint64Var(&o.Seed, "seed", 1, "of all that is random in harness and workers; what the machine adds is not")
	flags.BoolVar(&o.Namespaces, "netns", false,
		"give every worker a network namespace whose link is taken down for partitions; needs root and iproute2")
	return flags
}

// prepare checks the options, and chooses a folder where none is given.
func (o *options) prepare() (clean func(), err error) {
	switch {
	case o.Workers < 2 || o.Workers > 20:
		return nil, fmt.Errorf("-workers is %d, allowed: 2 to 20", o.Workers)
	case o.Keys < 1 || o.Keys > 20:
		return nil, fmt.Errorf("-keys is %d, allowed: 1 to 20", o.Keys)
	case o.Lease < 500*time.Millisecond || o.Lease > time.Minute:
		return nil, fmt.Errorf("-lease is %v, allowed: 500ms to 1m", o.Lease)
	case o.Round < 10*o.Lease:
		return nil, fmt.Errorf("-round is %v, allowed: 10 leases and more", o.Round)
	}
	if o.Binary == "" {
		if o.Binary, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	o.KeepHistory = o.Dir != ""
	if o.KeepHistory {
		if o.Dir, err = filepath.Abs(o.Dir); err != nil {
			return nil, err
		}
		if old, _ := filepath.Glob(filepath.Join(o.Dir, "*.jsonl")); len(old) > 0 {
			return nil, fmt.Errorf("-dir: %s has histories already", o.Dir)
		}
		if old, _ := filepath.Glob(filepath.Join(o.Dir, "r[0-9]*")); len(old) > 0 {
			return nil, fmt.Errorf("-dir: %s has histories already", o.Dir)
		}
		return func() {}, nil
	}
	o.Dir, err = os.MkdirTemp("", "proof-")
	dir := o.Dir
	return func() { _ = os.RemoveAll(dir) }, err // a folder for temporary files
}

// killCommand kills and stops processes until all kills and stops have been.
func killCommand(ctx context.Context, args []string) error {
	o := options{Out: os.Stdout}
	flags := runFlags("kill", &o)
	flags.IntVar(&o.Kills, "kills", 500, "how often a process is killed, to be started again after 0 to 3 leases")
	flags.IntVar(&o.Stops, "stops", 500, "how often a process is stopped for 0 to 3 leases")
	flags.DurationVar(&o.For, "for", 30*time.Minute, "give up after this time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return kill(ctx, o)
}

func kill(ctx context.Context, o options) error {
	clean, err := o.prepare()
	if err != nil {
		return err
	}
	out, err := run(ctx, o)
	err = errors.Join(err, out.verdict(o.Out))
	if err == nil && (out.Kills < o.Kills || out.Stops < o.Stops) {
		err = fmt.Errorf("%d of %d kills and %d of %d stops within %v", out.Kills, o.Kills, out.Stops, o.Stops, o.For)
	}
	if err == nil {
		clean()
	} else {
		fmt.Fprintln(o.Out, "the histories are in", o.Dir)
	}
	return err
}

// A run of so many kills has an orphan that somebody waited for, and one of so many kills or stops has lost and refused
// updates, or it could not see any: in 500 of each there were 212 orphans and over 50 updates of either kind.
const (
	manyKills = 50
	manyHarms = 200
)

// verdict prints the outcome, and turns violations into an error. A run that proves nothing is one, too.
func (o outcome) verdict(w io.Writer) error {
	fmt.Fprintln(w, o)
	switch {
	case len(o.Violations) > 0:
		return violated(o.Violations)
	case o.Tenures == 0 || o.Guarded.Acknowledged == 0:
		return errors.New("no lock was taken, or nothing written under one")
	case o.Kills >= manyKills && o.Orphans.Judged == 0:
		return blind("nobody waited undisturbed for the lock of a dead process")
	case max(o.Kills, o.Stops) >= manyHarms && o.Unguarded.Lost == 0:
		return blind("no unguarded update was lost")
	case max(o.Kills, o.Stops) >= manyHarms && o.Guarded.Forced == 0:
		return blind("DynamoDB had no guarded update to refuse")
	}
	return nil
}

func blind(why string) error {
	return fmt.Errorf("this run could not have seen a failure: %s", why)
}
