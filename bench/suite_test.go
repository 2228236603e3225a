package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func TestMain(m *testing.M) {
	// The program starts itself again, and so does its test: with a command of the program, it is the program.
	if len(os.Args) > 1 && slices.Contains([]string{"compare", "peer"}, os.Args[1]) {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// TestDynamolocksOwnTestsPassOnTheEmbeddedServer runs dynamolock's test suite, as it comes from
// the module cache, against the embedded server, and against DynamoDB Local as well where
// DYNALOCK_TEST_ENDPOINT names one. Without it every test has to pass on the embedded server;
// with it, those that pass on DynamoDB Local.
func TestDynamolocksOwnTestsPassOnTheEmbeddedServer(t *testing.T) {
	server := dynalocktest.NewServer()
	defer server.Close()
	listener := httptest.NewServer(server)
	defer listener.Close()
	embedded := runSuite(t, listener.URL)
	t.Logf("embedded server: %d passed, %d failed, %d skipped", embedded.count("pass"), embedded.count("fail"),
		embedded.count("skip"))

	if embedded.count("pass") < 30 {
		t.Fatalf("only %d tests passed, so this run says nothing:\n%s", embedded.count("pass"), embedded.log)
	}
	local := suite{}
	if endpoint := os.Getenv("DYNALOCK_TEST_ENDPOINT"); endpoint != "" {
		local = runSuite(t, endpoint)
		t.Logf("DynamoDB Local:  %d passed, %d failed, %d skipped", local.count("pass"), local.count("fail"),
			local.count("skip"))
	}
	for name, result := range embedded.results {
		switch {
		case result != "fail":
		case local.results[name] == "fail":
			t.Logf("%s fails on both", name)
		default:
			t.Errorf("%s fails on the embedded server:\n%s", name, embedded.output[name])
		}
	}
}

// suite is what one run of a test suite said.
type suite struct {
	results map[string]string // pass, fail or skip by test
	output  map[string]string
	log     string
}

func (s suite) count(result string) int {
	n := 0
	for _, r := range s.results {
		if r == result {
			n++
		}
	}
	return n
}

// runSuite copies dynamolock's tests to a temporary folder, points them at the endpoint, and runs
// them there with the dependencies that dynamolock itself names.
func runSuite(t *testing.T, endpoint string) suite {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "cirello.io/dynamolock/v2").Output()
	if err != nil {
		t.Fatalf("finding dynamolock: %v", err)
	}
	copySuite(t, strings.TrimSpace(string(out)), dir, endpoint)

	// The suite wants to start DynamoDB Local with "java", in a folder of this name, and kills it
	// at its end. It gets a java that only waits to be killed.
	bin := filepath.Join(dir, "bin")
	for _, folder := range []string{bin, filepath.Join(dir, "local-dynamodb")} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(bin, "java"), []byte("#!/bin/sh\nexec sleep 3600\n"), 0o755); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-mod=mod", "-timeout=8m", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "GOFLAGS=", "GOWORK=off")
	log, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("running the suite: %v", err)
	}

	s := suite{results: map[string]string{}, output: map[string]string{}, log: string(log)}
	lines := bufio.NewScanner(bytes.NewReader(log))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &event) != nil || event.Test == "" {
			continue
		}
		s.output[event.Test] += event.Output
		if slices.Contains([]string{"pass", "fail", "skip"}, event.Action) {
			s.results[event.Test] = event.Action
		}
	}
	return s
}

var tableName = regexp.MustCompile(`"locks[A-Za-z0-9_-]*"`)

// copySuite copies a module, in its tests replacing the endpoint, and the names of tables, which
// become this run's own: the server may have others.
func copySuite(t *testing.T, from, to, endpoint string) {
	t.Helper()
	run := "suite-" + rand.Text()[:8] + "-"
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, "_test.go") {
			address := strings.TrimPrefix(endpoint, "http://")
			text = bytes.ReplaceAll(text, []byte("localhost:8000"), []byte(strings.TrimSuffix(address, "/")))
			text = tableName.ReplaceAllFunc(text, func(name []byte) []byte {
				return append([]byte(`"`+run), name[1:]...)
			})
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, relative)), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, relative), text, 0o644)
	})
	if err != nil {
		t.Fatalf("copying the suite: %v", err)
	}
}
