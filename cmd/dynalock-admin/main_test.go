package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

// TestMain makes real programs of the test binary: called by the name of dynalock-admin it is that.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "dynalock-admin":
		main()
	case "sdk-program":
		if err := sdkProgram(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testserver.Main(m)
}

// sdkProgram is a program that uses the library, and finds all that it needs as the SDK does: sdk-program TABLE.
func sdkProgram(table string) error {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		return err
	}
	c, err := dynalock.New(dynamodb.NewFromConfig(cfg), table)
	if err != nil {
		return err
	}
	_, err = c.TryAcquire(context.Background(), "a program's lock")
	fmt.Println("acquired in", cfg.Region)
	return errors.Join(err, c.Close(context.Background()))
}

// patienceOfTests bounds every wait for something that is about to happen.
const patienceOfTests = time.Minute

// installed returns a folder with dynalock-admin in it, for PATH.
func installed(tb testing.TB) string {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	for _, name := range []string{"dynalock-admin", "sdk-program"} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// Each script is a sentence or a few about one command; its comments say which. Each has a table of its own.
func TestScripts(t *testing.T) {
	server := testserver.New(t)
	bin := installed(t)
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Condition: func(name string) (bool, error) {
			if name != "root" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return os.Geteuid() == 0, nil
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("ENDPOINT", server.Endpoint())
			env.Setenv("DYNALOCK_ENDPOINT_URL", server.Endpoint())
			env.Setenv("DYNALOCK_TABLE", server.Table(t, "key", ""))
			env.Setenv("SORTED", server.Table(t, "pk", "sk"))
			env.Setenv("NEW_TABLE", env.Getenv("DYNALOCK_TABLE")+"-new")
			env.Values["db"] = server.Client()
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":   cmdExits,
			"hold":    cmdHold,
			"dead":    cmdDead,
			"foreign": cmdForeign,
			"drop":    cmdDrop,
			"await":   cmdAwait,
			"web":     cmdWeb,
		},
	})
}

// cmdExits runs a program that has to exit with a code: exits CODE PROGRAM [ARGS...].
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGS...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// cmdHold has another client hold a lock until the script ends: hold KEY OWNER REASON.
func cmdHold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: hold KEY OWNER REASON")
	}
	db := ts.Value("db").(*dynamodb.Client)
	c, err := dynalock.New(db, ts.Getenv("DYNALOCK_TABLE"), func(o *dynalock.Options) { o.Owner = args[1] })
	ts.Check(err)
	l, err := c.Acquire(context.Background(), args[0], func(o *dynalock.AcquireOptions) { o.Reason = args[2] })
	ts.Check(err)
	ts.Setenv("TOKEN", strconv.FormatUint(l.Token(), 10))
	ts.Defer(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patienceOfTests)
		defer cancel()
		ts.Check(c.Close(ctx))
	})
}

// put writes an item as it is.
func put(ts *testscript.TestScript, item map[string]types.AttributeValue) {
	db := ts.Value("db").(*dynamodb.Client)
	table := ts.Getenv("DYNALOCK_TABLE")
	_, err := db.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: &table, Item: item})
	ts.Check(err)
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// cmdDead leaves the lock of a holder that died an hour ago: dead KEY OWNER.
func cmdDead(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: dead KEY OWNER")
	}
	version := fmt.Sprintf("%032x-3", 0xdead)
	died := time.Now().Add(-time.Hour)
	item := map[string]types.AttributeValue{
		"key": text(args[0]), "ownerName": text(args[1]), "leaseDuration": text("10000"), "fencingToken": number(7),
		"recordVersionNumber": text(version), "stampedVersion": text(version),
		"acquiredAt": number(died.Add(-time.Minute).UnixMilli()), "renewedAt": number(died.UnixMilli()),
		"expiresAt": number(died.Add(10 * time.Second).UnixMilli()),
	}
	if strings.HasPrefix(args[0], "once/") { // a run
		item["attempt"] = number(1)
	}
	put(ts, item)
}

// cmdForeign puts an item that is not a lock: foreign KEY.
func cmdForeign(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: foreign KEY")
	}
	put(ts, map[string]types.AttributeValue{"key": text(args[0]), "invoice": number(4711)})
}

// cmdDrop deletes a table: drop TABLE.
func cmdDrop(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: drop TABLE")
	}
	db := ts.Value("db").(*dynamodb.Client)
	unprotected := false
	_, err := db.UpdateTable(context.Background(),
		&dynamodb.UpdateTableInput{TableName: &args[0], DeletionProtectionEnabled: &unprotected})
	ts.Check(err)
	_, err = db.DeleteTable(context.Background(), &dynamodb.DeleteTableInput{TableName: &args[0]})
	ts.Check(err)
}

// cmdWeb puts a server of something else at an endpoint: web STATUS CONTENT-TYPE BODY.
func cmdWeb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: web STATUS CONTENT-TYPE BODY")
	}
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", args[1])
		w.WriteHeader(status)
		_, _ = io.WriteString(w, args[2])
	}))
	ts.Defer(server.Close)
	ts.Setenv("DYNALOCK_ENDPOINT_URL", server.URL)
}

// cmdAwait waits until a file matches, and stores what the first group has matched: await FILE REGEXP VARIABLE.
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: await FILE REGEXP VARIABLE")
	}
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	for deadline := time.Now().Add(patienceOfTests); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		content, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			ts.Fatalf("%v", err)
		}
		if m := re.FindSubmatch(content); m != nil {
			ts.Setenv(args[2], string(m[1]))
			return
		}
	}
	ts.Fatalf("%s never matched %s", args[0], args[1])
}
