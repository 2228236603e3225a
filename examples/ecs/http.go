package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// listenHTTP serves /health and /leader until the function that it returns is called. addr is where other machines
// would reach it.
func (w *worker) listenHTTP(ctx context.Context) (addr string, closeHTTP func(), err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", w.listen)
	if err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", w.serveHealth)
	mux.HandleFunc("GET /leader", w.serveLeader)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			w.log.Error("no more answers to health checks", "error", err) // ECS replaces this task
		}
	}()
	return reachable(listener.Addr().(*net.TCPAddr)), func() {
		_ = srv.Close()
		<-served
	}, nil
}

// reachable puts an address of this machine in place of "all of them".
func reachable(at *net.TCPAddr) string {
	if at.IP.IsUnspecified() {
		addrs, _ := net.InterfaceAddrs() // without them, it is left as it is
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				at = &net.TCPAddr{IP: n.IP, Port: at.Port}
				break
			}
		}
	}
	return at.String()
}

func (w *worker) serveHealth(rw http.ResponseWriter, _ *http.Request) {
	if err := w.health(); err != nil {
		http.Error(rw, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(rw, "ok")
}

// serveLeader tells who leads, strongly consistent: a read unit each time.
func (w *worker) serveLeader(rw http.ResponseWriter, req *http.Request) {
	leader, err := w.election.Leader(req.Context())
	if err != nil {
		http.Error(rw, err.Error(), http.StatusServiceUnavailable)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(map[string]any{
		"state": leader.State.String(), "candidate": leader.Owner, "term": leader.Token, "address": string(leader.Data),
	})
}

// askHealth is -health: an image without a shell has no curl.
func askHealth(ctx context.Context, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second) // ECS gives it 5 s
	defer cancel()
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	if resp.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("unwell: %s", reason)
	}
	return nil
}

// listenIn notes whenever DynamoDB answers. A throttled request is an answer; whether the lease suffers is asked apart.
func (w *worker) listenIn(o *dynamodb.Options) { o.HTTPClient = &ear{o.HTTPClient, w} }

// ear is an HTTP client that notes answers.
type ear struct {
	aws.HTTPClient
	w *worker
}

// Do implements aws.HTTPClient.
func (e *ear) Do(req *http.Request) (*http.Response, error) {
	resp, err := e.HTTPClient.Do(req)
	if err == nil && resp.StatusCode < http.StatusInternalServerError {
		e.w.heard.Store(time.Now().UnixNano())
	}
	return resp, err
}
