package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// The servers that compare can start, each as a process of its own behind a proxy.
const (
	serverDynamoDB = "dynamodb" // the embedded one, or the one that -endpoint names
	serverEtcd     = "etcd"
	serverRedis    = "redis"
)

// peer is a process that is one server and the proxy before it, or only the proxy where -upstream names the server.
// It tells the proxy's address on its first line, and ends with its standard input: so it goes with the process that
// started it, whatever ends that one.
func peer(args []string) error {
	flags := flag.NewFlagSet("peer", flag.ContinueOnError)
	kind := flags.String("server", "", "dynamodb, etcd or redis")
	upstream := flags.String("upstream", "", "HOST:PORT of a server that runs already")
	roundTrip := flags.Duration("round-trip", defaultRoundTrip, "added round trip, half of it each way")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, done := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer done()

	runtime.GOMAXPROCS(runtime.NumCPU() + 1) // one is the proxy's, which sleeps in the kernel

	network, address, stop := "tcp", *upstream, func() error { return nil }
	if *upstream == "" {
		start, ok := map[string]func(context.Context) (string, string, func() error, error){
			serverDynamoDB: startEmbedded, serverEtcd: startEtcd, serverRedis: startRedis,
		}[*kind]
		if !ok {
			return fmt.Errorf("-server %q: it is dynamodb, etcd or redis", *kind)
		}
		var err error
		if network, address, stop, err = start(ctx); err != nil {
			return fmt.Errorf("%s: %w", *kind, err)
		}
	}
	p, err := newProxy(network, address, *roundTrip/2)
	if err != nil {
		return errors.Join(err, stop())
	}
	fmt.Println(p.address())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	p.close()
	return stop()
}

func startEmbedded(context.Context) (network, address string, stop func() error, err error) {
	server := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.History = -1 })
	listener := httptest.NewServer(server)
	return "tcp", listener.Listener.Addr().String(), func() error {
		server.Close()
		listener.Close()
		return nil
	}, nil
}

// startEtcd runs one member without fsync: the other servers keep everything in memory, too.
func startEtcd(ctx context.Context) (network, address string, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "dynalock-bench-etcd.")
	if err != nil {
		return "", "", nil, err
	}
	member, err := newEtcd(ctx, dir)
	if err != nil {
		return "", "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return "tcp", member.Clients[0].Addr().String(), func() error {
		member.Close()
		return os.RemoveAll(dir)
	}, nil
}

func newEtcd(ctx context.Context, dir string) (*embed.Etcd, error) {
	config := embed.NewConfig()
	config.Name, config.Dir, config.UnsafeNoFsync = "bench", dir, true
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop()) // what stops it is returned; its own end is no error
	local := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{local}, []url.URL{local}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{local}, []url.URL{local}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	member, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-member.Server.ReadyNotify():
		return member, nil
	case err = <-member.Err():
	case <-time.After(time.Minute):
		err = errors.New("not ready within a minute")
	case <-ctx.Done():
		err = ctx.Err()
	}
	member.Close()
	return nil, err
}

// startRedis runs redis-server on a socket in a folder of its own, and on no port.
func startRedis(ctx context.Context) (network, address string, stop func() error, err error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return "", "", nil, err
	}
	dir, err := os.MkdirTemp("/tmp", "dynalock-bench-redis.") // a socket's path must be short
	if err != nil {
		return "", "", nil, err
	}
	socket := filepath.Join(dir, "socket")
	var log strings.Builder
	server := exec.Command(program, "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "",
		"--appendonly", "no", "--daemonize", "no")
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		return "", "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	var exit error // to be read when ended is closed
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		exit = server.Wait()
	}()
	stop = func() error {
		_ = server.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = server.Process.Kill()
			<-ended
		}
		return os.RemoveAll(dir)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil {
			return "unix", socket, stop, conn.Close()
		}
		select {
		case <-ended:
			return "", "", nil, errors.Join(errors.New("redis-server ended: "+log.String()), exit, os.RemoveAll(dir))
		default:
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return "", "", nil, errors.Join(errors.New("redis-server did not start"), ctx.Err(), stop())
		}
	}
}

// startSelf starts this program again with other arguments. It returns the first line that it prints, and stop, which
// closes its standard input and waits for it.
func startSelf(env []string, args ...string) (line string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Env, cmd.Stderr = env, os.Stderr
	// In a group of its own: an interrupt from the keyboard is for the first process, which still has locks to release.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = stdin.Close()
		late := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Wait()
	}
	line, err = bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("%s did not start: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(line), stop, nil
}

// withoutGOMAXPROCS is this process's environment for a server: GOMAXPROCS is for the client.
func withoutGOMAXPROCS() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GOMAXPROCS=") {
			env = append(env, kv)
		}
	}
	return env
}

// upstreamOf is the host and port of an endpoint, which is a URL.
func upstreamOf(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", err
	}
	if u.Scheme != "http" || u.Port() == "" {
		return "", fmt.Errorf("%q is not http://HOST:PORT", endpoint)
	}
	return u.Host, nil
}
