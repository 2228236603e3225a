package dynalock_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

// The test binary is also the program of the holder's process: it holds a lock until it is killed.
const holderEnv = "DYNALOCK_TEST_HOLDER"

func TestMain(m *testing.M) {
	if args := os.Getenv(holderEnv); args != "" {
		if err := holdForEver(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	testserver.Main(m)
}

func holdForEver(args string) error {
	endpoint, table, _ := strings.Cut(args, " ")
	c, err := dynalock.New(connectTo(endpoint), table, func(o *dynalock.Options) { o.Lease = lease })
	if err != nil {
		return err
	}
	l, err := c.Acquire(context.Background(), "key")
	if err != nil {
		return err
	}
	fmt.Println(l.Token())
	<-l.Done()
	fmt.Println("lost")
	return l.Err()
}

func connectTo(endpoint string) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		BaseEndpoint: &endpoint, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("process", "secret", ""),
	})
}

// holder starts a process that holds "key" and returns it, its token, and what it prints later.
func holder(t *testing.T, srv *testserver.Server, table string) (*exec.Cmd, uint64, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), holderEnv+"="+srv.Endpoint()+" "+table)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("the holder said nothing: %v", cmd.Wait())
	}
	token, err := strconv.ParseUint(lines.Text(), 10, 64)
	must(t, err)
	return cmd, token, lines
}

func TestAKilledProcessesLockIsTakenAfterItsLeaseAndNotEarlier(t *testing.T) {
	t.Parallel()
	srv := testserver.New(t)
	table := srv.Table(t, "key", "")
	cmd, token, _ := holder(t, srv, table)
	client := func() *dynalock.Client {
		c, err := dynalock.New(srv.Client(), table, func(o *dynalock.Options) { o.Lease = lease })
		must(t, err)
		return c
	}
	before := client()
	_, err := before.TryAcquire(t.Context(), "key")
	wantErr(t, err, dynalock.ErrHeld)
	must(t, before.Close(t.Context()))
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	killed := time.Now()
	c := client() // one that has not watched it before
	l, err := c.Acquire(t.Context(), "key")
	must(t, err)
	took := time.Since(killed)
	check(t, took >= lease, "taken %v after the death, with a lease of %v", took, lease)
	check(t, l.Token() == token+1, "token %d after %d", l.Token(), token)
	must(t, c.Close(t.Context()))
}

func TestAStoppedProcessDoesNotBelieveThatItHoldsWhenItGoesOn(t *testing.T) {
	t.Parallel()
	srv := testserver.New(t)
	table := srv.Table(t, "key", "")
	cmd, token, lines := holder(t, srv, table)
	must(t, cmd.Process.Signal(syscall.SIGSTOP))
	c, err := dynalock.New(srv.Client(), table, func(o *dynalock.Options) { o.Lease = lease })
	must(t, err)
	l, err := c.Acquire(t.Context(), "key")
	must(t, err)
	check(t, l.Token() == token+1, "token %d after %d", l.Token(), token)
	must(t, cmd.Process.Signal(syscall.SIGCONT))
	check(t, lines.Scan() && lines.Text() == "lost", "the holder went on believing: %q", lines.Text())
	err = cmd.Wait()
	check(t, err != nil, "the holder ended without an error")
	check(t, l.Held(), "the successor lost the lock: %v", l.Err())
	must(t, c.Close(t.Context()))
}
