package testserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// containerStart covers an image that has to be pulled; past it the tests are better off elsewhere.
	containerStart = 4 * time.Minute
	containerStop  = 30 * time.Second
)

// backend is a server outside of this process. The zero backend stands for the embedded server.
type backend struct {
	endpoint string
	stop     func() error
}

// chooser holds what the choice depends on.
type chooser struct {
	getenv         func(string) string
	answers        func(ctx context.Context, endpoint string) error
	dockerAnswers  func(ctx context.Context, host string) error
	startContainer func() (backend, error)
}

// choose returns the server and the line that says which one it is.
func (c chooser) choose(ctx context.Context) (backend, string, error) {
	forced, endpoint := c.getenv("DYNALOCK_TEST_SERVER"), c.getenv("DYNALOCK_TEST_ENDPOINT")
	switch {
	case forced == "embedded":
		return backend{}, "the embedded server (DYNALOCK_TEST_SERVER)", nil
	case forced == "endpoint" && endpoint == "":
		return backend{}, "", errors.New("DYNALOCK_TEST_SERVER=endpoint needs DYNALOCK_TEST_ENDPOINT")
	case forced == "endpoint", forced == "" && endpoint != "":
		if err := c.answers(ctx, endpoint); err != nil {
			return backend{}, "", fmt.Errorf("DYNALOCK_TEST_ENDPOINT=%s does not answer: %w", endpoint, err)
		}
		return backend{endpoint: endpoint}, endpoint + " (DYNALOCK_TEST_ENDPOINT)", nil
	case forced != "" && forced != "container":
		return backend{}, "", fmt.Errorf("DYNALOCK_TEST_SERVER=%q: must be endpoint, container or embedded", forced)
	}

	var err error
	if forced == "" {
		err = c.dockerAnswers(ctx, c.getenv("DOCKER_HOST"))
	}
	var b backend
	if err == nil {
		b, err = c.startContainer()
	}
	switch {
	case err == nil:
		return b, "DynamoDB Local in a container at " + b.endpoint, nil
	case forced == "container":
		return backend{}, "", fmt.Errorf("DYNALOCK_TEST_SERVER=container: %w", err)
	}
	return backend{}, fmt.Sprintf("the embedded server (no container: %v)", err), nil
}

// answers reports whether an HTTP server answers at endpoint, with whatever status.
func answers(ctx context.Context, endpoint string) error {
	return get(ctx, &http.Transport{}, endpoint)
}

// dockerAnswers reports whether a Docker daemon answers at host (DOCKER_HOST, or empty for the usual socket).
func dockerAnswers(ctx context.Context, host string) error {
	if host == "" {
		host = "unix:///var/run/docker.sock"
	}
	network, address, ok := strings.Cut(host, "://")
	if !ok || network != "unix" && network != "tcp" {
		return fmt.Errorf("DOCKER_HOST=%s is neither unix:// nor tcp://", host)
	}
	return get(ctx, &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}, "http://docker/_ping")
}

func get(ctx context.Context, transport *http.Transport, url string) error {
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// startContainer runs the program of the nested module, which prints the endpoint and keeps the container until its
// standard input is closed: by stop, or by the end of this process, however that comes.
func startContainer() (backend, error) {
	dir, err := containerModule()
	if err != nil {
		return backend{}, err
	}
	ctx, kill := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "go", "run", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	// The container's program outlives a killed "go run" and would keep the pipes open.
	cmd.WaitDelay = time.Second
	var log bytes.Buffer
	cmd.Stderr = &log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		kill()
		return backend{}, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		kill()
		return backend{}, err
	}
	if err := cmd.Start(); err != nil {
		kill()
		return backend{}, err
	}
	stop := func() error {
		defer kill()
		late := time.AfterFunc(containerStop, kill)
		defer late.Stop()
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%w: %s", err, complaint(log.String()))
		}
		return nil
	}
	late := time.AfterFunc(containerStart, func() {
		kill()
		_ = stdout.Close()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		if !late.Stop() {
			err = fmt.Errorf("not started within %v", containerStart)
		}
		if stopped := stop(); stopped != nil && errors.Is(err, io.EOF) {
			err = stopped
		}
		return backend{}, err
	}
	late.Stop()
	return backend{endpoint: strings.TrimSpace(line), stop: stop}, nil
}

// containerModule finds the nested module from the folder that the test runs in.
func containerModule() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		module := filepath.Join(at, "internal", "dynamodblocal")
		if _, err := os.Stat(filepath.Join(module, "go.mod")); err == nil {
			return module, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no internal/dynamodblocal above %s", dir)
		}
	}
}

// complaint is the last line that "go run" or its program left on standard error, but for the exit status.
func complaint(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if n := len(lines); n > 1 && strings.HasPrefix(lines[n-1], "exit status ") {
		lines = lines[:n-1]
	}
	return lines[len(lines)-1]
}
