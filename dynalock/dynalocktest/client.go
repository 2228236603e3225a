package dynalocktest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/engine"
)

// Client makes an SDK client that calls the server in process, without a socket, named "client" in faults and requests.
// Its retries and timeouts are the SDK's defaults.
func (s *Server) Client() *dynamodb.Client { return s.ClientFor("client") }

// ClientFor is Client under a name of its own, so that faults and Requests can tell the processes of a test apart.
func (s *Server) ClientFor(name string) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region:       engine.Region,
		BaseEndpoint: aws.String("http://dynalocktest.invalid"),
		HTTPClient:   &wire{server: s, client: name},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "dynalocktest", SecretAccessKey: "dynalocktest"}, nil
		}),
	})
}

// wire takes the place of the network between an SDK client and the server.
type wire struct {
	server *Server
	client string
}

// Do sends a request. If the request's context ends first, Do returns at once, while the request goes on its way and
// may still be applied, as on a real network. Its errors are those of an http.Client.
func (w *wire) Do(r *http.Request) (*http.Response, error) {
	response, err := w.roundTrip(r)
	if err != nil {
		return nil, &url.Error{Op: "Post", URL: r.URL.String(), Err: err}
	}
	return response, nil
}

func (w *wire) roundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var body []byte
	if r.Body != nil {
		defer func() { _ = r.Body.Close() }() // a reader in memory
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	s := w.server
	if !s.begin() {
		return nil, errClosed
	}
	m := s.receive(w.client, r.Header, body)
	if m.plan.immediate() {
		defer s.running.Done()
		return s.exchange(m).response(r), nil
	}
	answer := make(chan reply, 1)
	go func() {
		defer s.running.Done()
		if reply := s.exchange(m); reply.outcome != lost {
			answer <- reply
		}
	}()
	select {
	case reply := <-answer:
		switch reply.outcome {
		case reset:
			return nil, errReset
		case timedOut:
			return nil, errTimedOut
		}
		return reply.response(r), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.closed:
		return nil, errClosed
	}
}

// The errors of a connection that breaks, of one that times out, and of a host that is gone.
var (
	errReset    = &net.OpError{Op: "read", Net: "dynalocktest", Err: syscall.ECONNRESET}
	errTimedOut = &net.OpError{Op: "read", Net: "dynalocktest", Err: os.ErrDeadlineExceeded}
	errClosed   = &net.OpError{Op: "dial", Net: "dynalocktest", Err: syscall.ECONNREFUSED}
)

func (r reply) response(request *http.Request) *http.Response {
	header := http.Header{}
	r.header(header)
	return &http.Response{
		Status: strconv.Itoa(r.status) + " " + http.StatusText(r.status), StatusCode: r.status, Proto: "HTTP/1.1",
		ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(r.body)), ContentLength: int64(len(r.body)), Request: request,
	}
}
