package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// documented are the exit codes of the help text, but for those that are a command's own: the fuzzed one never starts.
var documented = map[int]bool{
	exitOK: true, exitOther: true, exitUsage: true, exitForeign: true, exitStore: true, exitHeld: true, exitLost: true,
	exitChanged: true,
	exitUnfit:   true, exitFailed: true, exitPaused: true, exitTooSoon: true, exitNotExecutable: true, exitNotFound: true,
}

// furnished is a table with something of everything: free, held, dead and foreign items, a leader, a paused job, runs.
func furnished(tb testing.TB) *dynalocktest.Server {
	tb.Helper()
	srv := dynalocktest.NewServer()
	tb.Cleanup(srv.Close)
	db, ctx := srv.Client(), tb.Context()
	try := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	try(dynalock.CreateTable(ctx, db, "locks"))
	try(dynalock.CreateTable(ctx, db, "sorted", func(o *dynalock.TableOptions) { o.SortKey = "sk" }))
	locks, err := dynalock.New(db, "locks", func(o *dynalock.Options) { o.Owner, o.Lease = "the other", time.Hour })
	try(err)
	tb.Cleanup(func() { _ = locks.Close(context.WithoutCancel(ctx)) })
	try(locks.Do(ctx, "free", func(context.Context, *dynalock.Lock) error { return nil }))
	_, err = locks.Acquire(ctx, "held",
		func(o *dynalock.AcquireOptions) { o.Reason, o.Data = "two\nlines \x1b[31m", []byte{0xff, 0} })
	try(err)
	_, err = locks.Acquire(ctx, "once/busy/p")
	try(err)
	_, err = locks.Once(ctx, "job", "done", func(context.Context, *dynalock.Lock) error { return nil })
	try(err)
	if _, err = locks.Once(ctx, "job", "failed",
		func(context.Context, *dynalock.Lock) error { return errors.New("no\nluck") }); err == nil {
		tb.Fatal("no error")
	}
	try(locks.Pause(ctx, "paused", "two\nlines"))
	for key, item := range map[string]map[string]types.AttributeValue{
		"foreign": {"invoice": number(4711)}, "once/foreign": {"x": number(1)}, "once/foreign/p": {"paused": number(1)},
		"dead": {"ownerName": text("gone"), "leaseDuration": text("10s"), "recordVersionNumber": text("v")},
	} {
		item["key"] = text(key)
		table := "locks"
		_, err := db.PutItem(ctx, &dynamodb.PutItemInput{TableName: &table, Item: item})
		try(err)
	}
	return srv
}

// invoked is what one command line gave.
type invoked struct {
	code        int
	out, err    string
	json, noisy bool
}

// invoker runs command lines in this process: against the embedded server whatever they say of endpoints, with a
// command that is found but cannot be started, and without a socket to listen on. Each ends when its time is over.
func invoker(tb testing.TB, srv *dynalocktest.Server, limit time.Duration) func(args []string) invoked {
	tb.Helper()
	dir := tb.TempDir()
	in, err := os.Open(os.DevNull)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = in.Close() })
	file := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = f.Close() })
		return f
	}
	out, errs := file("stdout"), file("stderr")
	read := func(f *os.File) string {
		defer func() {
			_ = f.Truncate(0)
			_, _ = f.Seek(0, io.SeekStart)
		}()
		_, _ = f.Seek(0, io.SeekStart)
		b, err := io.ReadAll(f)
		if err != nil {
			tb.Fatal(err)
		}
		return string(b)
	}
	db := srv.Client()
	return func(args []string) invoked {
		a := newApp(in, out, errs)
		a.db = db
		a.lookUp = func(string) (string, error) { return filepath.Join(dir, "no", "such", "program"), nil }
		a.listen = func(string, string) (net.Listener, error) { return nil, errors.New("no listening here") }
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		code := a.run(ctx, args)
		return invoked{code, read(out), read(errs), a.output == formatJSON, a.verbose}
	}
}

// check says what is wrong with an answer.
func (got invoked) check(t *testing.T, args []string) {
	t.Helper()
	shell := len(args) > 0 && strings.HasPrefix(args[0], "__complete") // speaks to the shell on standard error
	said := []string{}
	for line := range strings.Lines(got.err) {
		switch {
		case strings.HasPrefix(line, "dynalock-admin: "):
			said = append(said, line)
		case !got.noisy && !shell:
			t.Errorf("%q: standard error has %q", args, line)
		}
	}
	if !documented[got.code] && !heldCode(args) {
		t.Errorf("%q: exit code %d", args, got.code)
	}
	if clean(strings.TrimRight(got.err, "\n")) != strings.TrimRight(got.err, "\n") && !got.noisy && !shell &&
		len(said) == 1 {
		t.Errorf("%q: standard error is not one printable line: %q", args, got.err)
	}
	if want := 1; got.code != exitOK && !heldCode(args) && len(said) != want {
		t.Errorf("%q: exit code %d, and %d lines say why: %q", args, got.code, len(said), got.err)
	}
	if got.code == exitOK && len(said) > 0 && !heldCode(args) {
		t.Errorf("%q: success, and yet %q", args, got.err)
	}
	if got.json && got.out != "" && !help(got.out) && !shell {
		for dec := json.NewDecoder(strings.NewReader(got.out)); ; {
			var doc map[string]any
			err := dec.Decode(&doc)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("%q: not JSON (%v): %q", args, err, got.out)
				break
			}
		}
	}
}

// heldCode reports whether a flag may have made any exit code one of ours.
func heldCode(args []string) bool {
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") && (strings.Contains(arg, "E") || strings.Contains(arg, "held-exit-code")) {
			return true
		}
	}
	return false
}

// help tells texts for people, which have no JSON form, from results.
func help(out string) bool {
	return strings.Contains(out, "Usage:\n") || strings.Contains(out, "shell") || strings.HasPrefix(out, "dynalock-admin ")
}

// vocabulary is all commands and flags that there are, and values worth trying. In a fuzzed line the byte 1 and
// another one stand for a word of it: so a mutation makes another command line more often than another misspelling.
func vocabulary() []string {
	words := []string{
		"", "--", "-", "free", "held", "dead", "foreign", "once/job/done", "job", "done", "failed", "busy", "p", "paused",
		"true",
		"0", "1", "-1", "1s", "-1s", "1ms", "24h", "1e9", "18446744073709551615", "json", "table", "awslabs", "dynamolock",
		"locks", "sorted",
		"sk", "pk", "n/", "two\nlines", "\x1b[31m", "\xff", "\u202e", "ü 日本", strings.Repeat("k", 2048), "http://127.0.0.1:1",
		"bash", "--help",
	}
	flag := regexp.MustCompile(`--[a-z-]+`)
	root := newApp(nil, nil, nil).rootCommand()
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		words = append(words, cmd.Name())
		words = append(words, flag.FindAllString(cmd.LocalFlags().FlagUsages(), -1)...)
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(root)
	slices.Sort(words)
	return slices.Compact(words)
}

// FuzzAnyCommandLineEndsWithADocumentedExitCodeAndOneLine: the arguments are separated by NUL, which none can contain.
func FuzzAnyCommandLineEndsWithADocumentedExitCodeAndOneLine(f *testing.F) {
	for _, args := range [][]string{
		{},
		{"get", "held"},
		{"get", "foreign", "-o", "json"},
		{"get", "--", "--"},
		{"list", "-o", "json", "--state", "held,free"},
		{"list", "--jobs", "--prefix", "once/"},
		{"list", "--partition-key", "pk"},
		{"list", "--table", "sorted", "--sort-key", "sk", "--sort-value", "x"},
		{"release", "held"},
		{"release", "dead", "--yes", "-o", "json"},
		{"release", "held", "--token", "1"},
		{"run", "k", "--no-wait", "--", "true"},
		{"run", "held", "--wait", "10ms", "-E", "33", "--", "true"},
		{"run", "k", "--lease", "1ms", "--heartbeat", "1h", "--", "x"},
		{"once", "job", "done", "--", "true"},
		{"once", "job", "failed", "-o", "json", "--", "true"},
		{"once", "busy", "p", "--no-wait", "--", "true"},
		{"once", "paused", "p", "--", "true"},
		{"once", "job", "p", "--at-least", "1h", "--attempts", "1", "--keep", "1s", "--", "true"},
		{"once", "foreign", "p", "--", "true"},
		{"runs", "job", "-o", "json"},
		{"runs", "foreign"},
		{"pause", "j", "--reason", "two\nlines"},
		{"pause", "foreign"},
		{"unpause", "paused"},
		{"elect", "k", "--candidate", "me", "--value", "v", "--", "true"},
		{"elect", "held", "--", "true"},
		{"leader", "held", "--watch", "-o", "json"},
		{"leader", "foreign"},
		{"hand-over", "held", "me"},
		{"table", "check", "--table", "no table name"},
		{"table", "create", "--table", "new-table", "--partition-key", "id", "--ttl"},
		{"serve", "--addr", "127.0.0.1:0", "--table", "mine", "-o", "json"},
		{"version", "-o", "json"},
		{"help", "once"},
		{"help", "nonsense"},
		{"completion", "bash"},
		{"completion", "csh"},
		{"__complete", "list", "--state", ""},
		{"--version"},
		{"--", "get", "k"},
		{"get", "k", "--endpoint-url", "http://%zz"},
		{"get", "k", "--dialect", "dynamolock", "--namespace", "n/", "--timeout", "1ns", "-v"},
		{"get", "\xff\xfe"},
		{"get", strings.Repeat("k", 2049)},
		{"g\net"},
		{"get", "k", "--no\nsuch\x1b[31mflag"},
		{"", ""},
	} {
		f.Add([]byte(strings.Join(args, "\x00")))
	}
	words := vocabulary()
	for i := 0; i < len(words); i += 3 { // one in three: these run with every test
		f.Add([]byte{1, byte(7 * i), 0, 1, byte(i), 0, 1, byte(11 * i)})
	}
	f.Setenv("DYNALOCK_TABLE", "locks")
	f.Setenv("DYNALOCK_ENDPOINT_URL", "")
	f.Setenv("BASH_COMP_DEBUG_FILE", "")
	f.Fuzz(func(t *testing.T, line []byte) {
		invoke := invoker(t, furnished(t), 50*time.Millisecond) // of its own, so that what it found can be repeated
		var args []string
		for arg := range bytes.SplitSeq(line, []byte{0}) {
			if len(arg) == 2 && arg[0] == 1 {
				arg = []byte(words[int(arg[1])%len(words)])
			}
			args = append(args, string(arg))
		}
		if len(line) == 0 {
			args = []string{}
		}
		invoke(args).check(t, args)
	})
}
