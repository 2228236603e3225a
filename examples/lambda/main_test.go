// Package lambda_test runs the functions as Lambda would: the bootstrap of each package as a process, against a runtime
// API, frozen between invocations. The clocks of these tests are real.
//
//go:build linux

package lambda_test

import (
	"archive/zip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.uber.org/goleak"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
	"github.com/dynalock/dynalock/examples/lambda/invocation"
	"github.com/dynalock/dynalock/internal/testserver"
)

var full = flag.Bool("lambda.full", false,
	"run the proofs at full length, on the packages: 200 ticks under faults, a lease of 10 s")

// The test binary is also the program of a function that holds a lock from one invocation to the next, which none
// should.
const carelessEnv = "DYNALOCK_TEST_CARELESS"

func TestMain(m *testing.M) {
	if os.Getenv(carelessEnv) != "" {
		careless()
	}
	code := m.Run()
	if dir := built.Load(); dir != nil {
		_ = os.RemoveAll(*dir)
	}
	if code == 0 {
		http.DefaultClient.CloseIdleConnections()
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "the tests passed, but left something behind:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// told is what the careless function says of its lock.
type told struct {
	Token    uint64
	Held     bool
	Err      string // of Lock.Err
	Transact string // of a guarded write
	Raw      string // of the same write, sent without asking the library
}

func careless() {
	instance, err := invocation.New(context.Background())
	if err != nil {
		panic(err)
	}
	var l *dynalock.Lock
	say := func(err error) string {
		if err != nil {
			return err.Error()
		}
		return ""
	}
	lambda.Start(func(ctx context.Context, event struct {
		Take  string
		Lease time.Duration
	},
	) (told, error) {
		if event.Take != "" {
			var err error
			l, err = instance.Locks.TryAcquire(ctx, event.Take, func(o *dynalock.AcquireOptions) {
				o.Lease, o.NoHeartbeat = event.Lease, true
			})
			if err != nil {
				return told{}, err
			}
			return told{Token: l.Token(), Held: l.Held()}, nil
		}
		t := told{Token: l.Token(), Held: l.Held(), Err: say(l.Err())}
		write := func(how string) types.TransactWriteItem {
			return types.TransactWriteItem{Put: &types.Put{TableName: &instance.Orders, Item: map[string]types.AttributeValue{
				"kind": &types.AttributeValueMemberS{Value: how}, "id": &types.AttributeValueMemberS{Value: fmt.Sprint(l.Token())},
			}}}
		}
		_, err := instance.DB.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
			TransactItems: []types.TransactWriteItem{write("raw"), l.ConditionCheck()},
		})
		t.Raw, t.Transact = say(err), say(l.Transact(ctx, write("guarded")))
		return t, nil
	})
}

// programs builds the functions, once, and returns the folder of their programs: at full length those of the packages,
// otherwise with the flags of this test, for which most is compiled already.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lambda-test-")
	if err != nil {
		return "", err
	}
	built.Store(&dir)
	if *full {
		return dir, buildPackages(dir)
	}
	return dir, command("go", "build", "-o", dir, "./cmd/...")
})

var built atomic.Pointer[string] // removed by TestMain

func command(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// buildPackages builds the packages into dir, and unpacks each program beside its package.
func buildPackages(dir string) error {
	arch := map[string]string{"amd64": "x86_64", "arm64": "arm64"}[runtime.GOARCH]
	if arch == "" {
		return errors.New("Lambda has no machines of architecture " + runtime.GOARCH)
	}
	if err := command("go", "run", "./build", "-arch", arch, "-out", dir); err != nil {
		return err
	}
	for _, function := range []string{"job", "consumer"} {
		if err := unpack(filepath.Join(dir, function+"-"+arch+".zip"), filepath.Join(dir, function)); err != nil {
			return fmt.Errorf("%s: %w", function, err)
		}
	}
	return nil
}

func unpack(archive, path string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close() //nolint:errcheck // only read
	if len(z.File) != 1 || z.File[0].Name != "bootstrap" || z.File[0].Mode().Perm() != 0o755 {
		return errors.New("the package is not one executable file named bootstrap")
	}
	in, err := z.Open("bootstrap")
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	program, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	return os.WriteFile(path, program, 0o755)
}

// place is what the instances of a test share.
type place struct {
	*testing.T
	endpoint      string
	locks, orders string // names of tables
	db            *dynamodb.Client
	server        *dynalocktest.Server // nil where it is not the embedded one
	programs      string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	t.Parallel()
	dir, err := programs()
	must(t, err)
	srv := testserver.New(t)
	return &place{
		T: t, endpoint: srv.Endpoint(), db: srv.Client(), server: srv.Embedded(), programs: dir,
		locks: srv.Table(t, "key", ""), orders: srv.Table(t, "kind", "id"),
	}
}

// instance makes an instance of a function, "job" or "consumer", or of the careless one.
func (p *place) instance(function, name string, env ...string) *instance {
	p.Helper()
	program := filepath.Join(p.programs, function)
	if function == "careless" {
		program = os.Args[0]
		env = append(env, carelessEnv+"=1")
	}
	return newInstance(p.T, name, program, p.endpoint, append([]string{
		"DYNALOCK_TABLE=" + p.locks, "DYNALOCK_NAMESPACE=" + function + "/", "ORDERS_TABLE=" + p.orders,
		"DYNALOCK_MAX_CLOCK_SKEW=100ms",
	}, env...)...)
}

// row reads a row of the table of orders.
func (p *place) row(kind, id string) map[string]string {
	p.Helper()
	out, err := p.db.GetItem(p.Context(),
		&dynamodb.GetItemInput{TableName: &p.orders, ConsistentRead: new(true), Key: map[string]types.AttributeValue{
			"kind": &types.AttributeValueMemberS{Value: kind}, "id": &types.AttributeValueMemberS{Value: id},
		}})
	must(p.T, err)
	if out.Item == nil {
		return nil
	}
	row := map[string]string{}
	for name, v := range out.Item {
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			row[name] = v.Value
		case *types.AttributeValueMemberN:
			row[name] = v.Value
		}
	}
	return row
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		t.Errorf(format, args...)
	}
}
