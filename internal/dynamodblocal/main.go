// Command dynamodblocal runs DynamoDB Local in a container for the tests. It prints the endpoint as one line on
// standard output, and stops and removes the container when its standard input ends or it is interrupted.
//
// It is a module of its own, so that the modules behind testcontainers-go never enter the module graph of those who
// use the library.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/dynamodb"
	"github.com/testcontainers/testcontainers-go/wait"
)

const image = "amazon/dynamodb-local:latest"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "dynamodblocal:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	ended, end := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer end()
	// testcontainers-go panics where it finds no Docker.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	// Nothing can interrupt the read, so this goroutine ends with the process. Whoever started it and dies closes the
	// pipe, so the container needs no reaper, whose image would have to be pulled too.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end()
	}()
	if _, set := os.LookupEnv("TESTCONTAINERS_RYUK_DISABLED"); !set {
		if err := os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"); err != nil {
			return err
		}
	}

	// The start is not cut short: a create request that is abandoned half-way may leave a container that nobody knows.
	ctx := context.Background()
	container, err := dynamodb.Run(ctx, image,
		testcontainers.WithCmdArgs("-inMemory", "-sharedDb"),
		dynamodb.WithDisableTelemetry(),
		// A mapped port accepts connections before the server behind it does: only an answer counts.
		testcontainers.WithWaitStrategy(wait.ForHTTP("/").WithPort("8000/tcp").
			WithStatusCodeMatcher(func(int) bool { return true })),
	)
	if container != nil {
		defer func() {
			removed := testcontainers.TerminateContainer(container, testcontainers.StopTimeout(time.Second))
			if err == nil {
				err = removed
			}
		}()
	}
	if err != nil {
		return err
	}
	hostPort, err := container.ConnectionString(ctx)
	if err != nil {
		return err
	}
	if _, err := fmt.Printf("http://%s\n", hostPort); err != nil {
		return err
	}
	<-ended.Done()
	return nil
}
