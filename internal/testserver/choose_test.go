package testserver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheFirstServerThatIsThereIsChosenAndALineSaysWhich(t *testing.T) {
	const endpoint = "http://127.0.0.1:8000"
	gone := errors.New("gone")
	for _, tt := range []struct {
		name              string
		env               map[string]string
		endpoint          error // what each of them answers
		docker, container error
		want, line        string // line: what it has to contain
	}{
		{
			name: "the endpoint comes before a container",
			env:  map[string]string{"DYNALOCK_TEST_ENDPOINT": endpoint}, want: endpoint, line: endpoint,
		},
		{name: "a container comes before the embedded server", want: "container", line: "in a container"},
		{
			name: "without Docker the embedded server is taken", docker: gone, container: gone, want: "",
			line: "embedded server (no container: gone)",
		},
		{
			name: "a container that cannot be started is said and replaced", container: gone, want: "",
			line: "embedded server (no container: gone)",
		},
		{
			name: "the embedded server can be asked for", want: "", line: "embedded server",
			env: map[string]string{"DYNALOCK_TEST_ENDPOINT": endpoint, "DYNALOCK_TEST_SERVER": "embedded"},
		},
		{
			name: "a container can be asked for, whatever the ping says", want: "container", line: "in a container",
			docker: gone,
			env:    map[string]string{"DYNALOCK_TEST_ENDPOINT": endpoint, "DYNALOCK_TEST_SERVER": "container"},
		},
		{
			name: "an endpoint can be asked for", want: endpoint, line: endpoint,
			env: map[string]string{"DYNALOCK_TEST_ENDPOINT": endpoint, "DYNALOCK_TEST_SERVER": "endpoint"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := chooser{
				getenv:        func(name string) string { return tt.env[name] },
				answers:       func(context.Context, string) error { return tt.endpoint },
				dockerAnswers: func(context.Context, string) error { return tt.docker },
				startContainer: func() (backend, error) {
					return backend{endpoint: "container"}, tt.container
				},
			}
			b, line, err := c.choose(t.Context())
			if err != nil || b.endpoint != tt.want || !strings.Contains(line, tt.line) {
				t.Errorf("choose() = %q, %q, %v; want %q and a line with %q", b.endpoint, line, err, tt.want, tt.line)
			}
		})
	}
}

func TestAServerThatWasAskedForAndIsNotThereIsAnError(t *testing.T) {
	gone := errors.New("gone")
	for _, tt := range []struct {
		name string
		env  map[string]string
		want string
	}{
		{
			"an endpoint that does not answer",
			map[string]string{"DYNALOCK_TEST_ENDPOINT": "http://127.0.0.1:1"},
			"http://127.0.0.1:1 does not answer",
		},
		{
			"an endpoint that is not named",
			map[string]string{"DYNALOCK_TEST_SERVER": "endpoint"},
			"needs DYNALOCK_TEST_ENDPOINT",
		},
		{"a container that cannot be started", map[string]string{"DYNALOCK_TEST_SERVER": "container"}, "gone"},
		{
			"a server that nobody knows",
			map[string]string{"DYNALOCK_TEST_SERVER": "aws"},
			"must be endpoint, container or embedded",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := chooser{
				getenv:         func(name string) string { return tt.env[name] },
				answers:        func(context.Context, string) error { return gone },
				dockerAnswers:  func(context.Context, string) error { return nil },
				startContainer: func() (backend, error) { return backend{}, gone },
			}
			if _, _, err := c.choose(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("choose() fails with %v, want %q", err, tt.want)
			}
		})
	}
}

func TestADockerDaemonIsThereOnlyIfItAnswers(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	pings := 0
	daemon := &httptest.Server{Listener: listener, Config: &http.Server{
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/_ping" {
				pings++
			}
		}),
	}}
	daemon.Start()
	for _, host := range []string{"unix://" + socket, "ssh://elsewhere"} {
		if err := dockerAnswers(t.Context(), host); (err == nil) != (host == "unix://"+socket) {
			t.Errorf("dockerAnswers(%q) = %v", host, err)
		}
	}
	daemon.Close()
	if err := dockerAnswers(t.Context(), "unix://"+socket); err == nil {
		t.Error("a daemon that has ended still answers")
	}
	if pings != 1 {
		t.Errorf("the daemon was pinged %d times, want 1", pings)
	}
}

func TestAnEndpointAnswersWithAnyStatus(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	if err := answers(t.Context(), server.URL); err != nil {
		t.Error(err)
	}
	server.Close()
	if err := answers(t.Context(), server.URL); err == nil {
		t.Error("a server that has ended still answers")
	}
}

func TestTheContainersModuleIsFoundFromAnyFolderOfTheRepository(t *testing.T) {
	here, err := containerModule()
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join("internal", "dynamodblocal"); !strings.HasSuffix(here, want) {
		t.Errorf("found %s, want a folder that ends in %s", here, want)
	}
	t.Chdir(here)
	if again, err := containerModule(); err != nil || again != here {
		t.Errorf("from inside: %s, %v", again, err)
	}
	t.Chdir(t.TempDir())
	if _, err := containerModule(); err == nil {
		t.Error("found from outside")
	}
}

func TestTheReasonWhyAContainerIsMissingIsTheProgramsOwn(t *testing.T) {
	for log, want := range map[string]string{
		"creating\ndynamodblocal: no such image\nexit status 1\n": "dynamodblocal: no such image",
		"go: no module\n": "go: no module",
		"exit status 1":   "exit status 1",
		"":                "",
	} {
		if got := complaint(log); got != want {
			t.Errorf("complaint(%q) = %q, want %q", log, got, want)
		}
	}
}
