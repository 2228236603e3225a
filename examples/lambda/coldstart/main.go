// Coldstart shows what the library adds to a function before its first invocation: to the size of its program and to
// the time from the start of the process until it asks the runtime API for work. Three functions, built like the
// packages, take turns, so that whatever else the machine does meets all of them:
//
//	go run ./coldstart -runs 200
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"time"
)

var functions = []struct{ name, what string }{
	{"client", "makes a DynamoDB client"},
	{"item", "reads and writes items"},
	{"lock", "works under a lock"},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	runs := flag.Int("runs", 200, "`NUMBER` of starts of each function")
	flag.Parse()
	if err := run(ctx, *runs); err != nil {
		fmt.Fprintln(os.Stderr, "coldstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, runs int) error {
	dir, err := os.MkdirTemp("", "coldstart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	size := map[string]int64{}
	for _, f := range functions {
		path := filepath.Join(dir, f.name)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags", "lambda.norpc",
			"-ldflags", "-s -w -buildid=", "-o", path, "./coldstart/"+f.name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		size[f.name] = info.Size()
	}

	times := map[string][]time.Duration{}
	ratios := map[string][]float64{}
	for range runs {
		took := map[string]time.Duration{}
		for _, f := range functions {
			if took[f.name], err = start(ctx, filepath.Join(dir, f.name)); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			times[f.name] = append(times[f.name], took[f.name])
		}
		for _, f := range functions {
			ratios[f.name] = append(ratios[f.name], float64(took[f.name])/float64(took["client"]))
		}
	}
	fmt.Printf("%d starts of each, medians\n\n| the function | stripped program | ratio | until it asks for work | ratio |\n|---|---|---|---|---|\n", runs)
	for _, f := range functions {
		fmt.Printf("| %s | %.2f MB | %.3f | %.1f ms | %.3f |\n", f.what, float64(size[f.name])/1e6,
			float64(size[f.name])/float64(size["client"]), float64(median(times[f.name]).Microseconds())/1e3,
			median(ratios[f.name]))
	}
	return nil
}

// start runs a function until it asks for work, and tells how long that took.
func start(ctx context.Context, program string) (time.Duration, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	asked := make(chan time.Time, 1)
	api := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case asked <- time.Now():
			default:
			}
			<-r.Context().Done()
		}),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = api.Serve(listener) // until it is closed; a function that cannot ask says so
	}()
	defer func() {
		_ = api.Close() // nothing is under way that matters
		<-served
	}()

	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = []string{
		"AWS_LAMBDA_RUNTIME_API=" + listener.Addr().String(), "AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none", "DYNALOCK_TABLE=locks",
	}
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	var took time.Duration
	select {
	case at := <-asked:
		took = at.Sub(began)
	case <-ctx.Done():
	}
	cancel()
	_ = cmd.Wait() // it was killed
	if took == 0 {
		return 0, context.Cause(ctx)
	}
	return took, nil
}

func median[T time.Duration | float64](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
