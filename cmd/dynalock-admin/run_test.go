//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/internal/testserver"
)

// world is what a test of run plays in: a server, a table, another client, and a line to the command.
type world struct {
	t        *testing.T
	server   *testserver.Server
	table    string
	endpoint string // the server's, or that of something in front of it
	other    *dynalock.Client
	bin, dir string
}

const key = "the key"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, server: testserver.New(t), bin: installed(t), dir: t.TempDir()}
	w.table, w.endpoint = w.server.Table(t, "key", ""), w.server.Endpoint()
	other, err := dynalock.New(w.server.Client(), w.table, func(o *dynalock.Options) { o.Owner = "the other" })
	if err != nil {
		t.Fatal(err)
	}
	w.other = other
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patienceOfTests)
		defer cancel()
		if err := other.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return w
}

// record is what the table says.
func (w *world) record() dynalock.Record {
	w.t.Helper()
	r, err := w.other.Get(w.t.Context(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// lifeline is a pipe whose writing end a command and all that it starts hold, so that its end is theirs.
type lifeline struct {
	path string
	dead chan struct{}
}

func (w *world) lifeline() *lifeline {
	w.t.Helper()
	l := &lifeline{path: filepath.Join(w.dir, "lifeline"), dead: make(chan struct{})}
	if err := syscall.Mkfifo(l.path, 0o600); err != nil {
		w.t.Fatal(err)
	}
	f, err := os.OpenFile(l.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	// Without a writer the pipe reads as ended: until the command has come, this is one.
	first, err := os.OpenFile(l.path, os.O_WRONLY, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = first.Close() })
	go func() {
		defer close(l.dead)
		defer func() { _ = f.Close() }()
		if _, err := f.Read(make([]byte, 1)); err == nil { // the command's hello
			_ = first.Close()
			_, _ = io.Copy(io.Discard, f)
		}
	}()
	return l
}

func (l *lifeline) cut() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

// await waits for the end of everything that held the line.
func (l *lifeline) await(t *testing.T) {
	t.Helper()
	select {
	case <-l.dead:
	case <-time.After(patienceOfTests):
		t.Fatal("something that the command has started lives on")
	}
}

// hold is for the beginning of a shell script: the line is held by the shell and what it starts.
const hold = `exec 9>"$LIFELINE"; echo hello >&9; `

// process is a running dynalock-admin.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // of both its output streams
	read  chan string // all of them, when they have ended
	ended chan struct{}
}

// start runs dynalock-admin with more variables in its environment.
func (w *world) start(env []string, args ...string) *process {
	w.t.Helper()
	return w.follow(w.command(env, "dynalock-admin", args...))
}

// command is a program in the environment of dynalock-admin.
func (w *world) command(env []string, name string, args ...string) *exec.Cmd {
	if name == "dynalock-admin" {
		name = filepath.Join(w.bin, name)
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "DYNALOCK_ENDPOINT_URL="+w.endpoint, "DYNALOCK_TABLE="+w.table, "KEY="+key,
		"PATH="+w.bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	cmd.Env = append(cmd.Env, env...)
	cmd.Dir = w.dir
	return cmd
}

func (w *world) follow(cmd *exec.Cmd) *process {
	w.t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stdout = in
	if cmd.Stderr == nil {
		cmd.Stderr = in
	}
	p := &process{t: w.t, cmd: cmd, lines: make(chan string, 1000), read: make(chan string, 1), ended: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	_ = in.Close()
	go func() {
		var all strings.Builder
		for s := bufio.NewScanner(out); s.Scan(); {
			w.t.Log("|", s.Text())
			all.WriteString(s.Text() + "\n")
			p.lines <- s.Text()
		}
		p.read <- all.String()
		close(p.read)
	}()
	go func() {
		_ = cmd.Wait() // ProcessState has it
		close(p.ended)
	}()
	w.t.Cleanup(func() {
		select {
		case <-p.ended:
		default: // the test has failed
			_ = cmd.Process.Kill()
		}
		select {
		case <-p.read:
		case <-time.After(patienceOfTests):
			w.t.Error("something that the command has started holds its output open")
		}
		_ = out.Close()
	})
	return p
}

// expect waits for lines that contain texts, in any order, and returns the line with the first of them.
func (p *process) expect(texts ...string) string {
	p.t.Helper()
	first, missing := "", slices.Clone(texts)
	for timeout := time.After(patienceOfTests); len(missing) > 0; {
		select {
		case line := <-p.lines:
			if strings.Contains(line, texts[0]) {
				first = line
			}
			missing = slices.DeleteFunc(missing, func(text string) bool { return strings.Contains(line, text) })
		case <-timeout:
			p.t.Fatalf("no line with %q", missing)
		}
	}
	return first
}

// said waits for the end of the output and returns all of it.
func (p *process) said() string {
	p.t.Helper()
	select {
	case all := <-p.read:
		return all
	case <-time.After(patienceOfTests):
		p.t.Fatal("the output does not end")
		return ""
	}
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// exits waits for the end and checks the exit code.
func (p *process) exits(code int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patienceOfTests):
		p.t.Fatal("dynalock-admin does not end")
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Fatalf("exit code %d (%v), want %d", got, p.cmd.ProcessState, code)
	}
}

// Shells wait in short sleeps: a signal that arrives just before they block for good is noticed only after that.
const (
	idle      = `while :; do sleep 0.01; done; `
	untilWoke = `until [ -e "$WAKE" ]; do sleep 0.01; done; `
)

// wake is a file for which a command waits until the test lets it go on.
func (w *world) wake() (env string, letGo func()) {
	w.t.Helper()
	path := filepath.Join(w.dir, "wake")
	return "WAKE=" + path, func() {
		w.t.Helper()
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}

// hangupIgnored: by whoever started the tests, as nohup does; then it stays so for all commands. Asked before a test
// has had a command listen to it.
var hangupIgnored = signal.Ignored(syscall.SIGHUP)

func TestEverySignalIsPassedOnAndTheCommandsAnswerIsOurs(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{
		"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "QUIT": syscall.SIGQUIT,
		"HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
	} {
		if sig == syscall.SIGHUP && hangupIgnored {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.start(nil, "run", key, "--", "sh", "-c", `trap "echo got `+name+`; exit 3" `+name+`; echo ready; `+idle)
			p.expect("ready")
			p.signal(sig)
			p.expect("got " + name)
			p.exits(3)
			if r := w.record(); r.State != dynalock.Free {
				t.Errorf("the lock is %v", r.State)
			}
		})
	}
}

func TestWhatAsksToEndReachesTheWholeGroupAndNewsTheCommandAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start([]string{"IDLE=" + idle}, "run", key, "--", "sh", "-c", `
		trap "echo command got USR1" USR1; trap "echo command got TERM; exit 0" TERM
		sh -c 'trap "echo helper got USR1" USR1; trap "echo helper got TERM; exit" TERM; echo ready; '"$IDLE" &
		`+idle)
	p.expect("ready")
	p.signal(syscall.SIGUSR1)
	p.expect("command got USR1") // a helper that got it, too, would have said so on the way to the next line
	p.signal(syscall.SIGTERM)
	for range 2 {
		if line := p.expect("got"); !strings.HasSuffix(line, "got TERM") {
			t.Errorf("%q, want the whole group to get SIGTERM and nothing else", line)
		}
	}
	p.exits(0)
}

func TestASignalThatWasIgnoredFromTheStartStaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// As nohup does it.
	p := w.follow(w.command(nil, "sh", "-c",
		`trap "" HUP; exec dynalock-admin run "$KEY" -- sh -c 'trap "exit 3" TERM; echo ready; `+idle+`'`))
	p.expect("ready")
	p.signal(syscall.SIGHUP)
	p.signal(syscall.SIGTERM)
	p.exits(3)
}

func TestAServerThatIgnoredHangupsFromTheStartServesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.follow(w.command(nil, "sh", "-c", `trap "" HUP; exec dynalock-admin serve --table "" --addr 127.0.0.1:0`))
	endpoint := p.expect("http://")
	p.signal(syscall.SIGHUP)
	for range 100 {
		r, err := http.Get(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

func TestASignalEndsTheWaitForTheLockAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l, err := w.other.Acquire(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	p := w.start(nil, "run", key, "-v", "--", "echo", "ran")
	p.expect("lock waiting")
	p.signal(syscall.SIGTERM)
	if line := p.expect("dynalock-admin:"); !strings.Contains(line, "ended by signal") {
		t.Errorf("it says %q", line)
	}
	p.exits(128 + int(syscall.SIGTERM))
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := w.record(); r.State != dynalock.Free || r.Token != l.Token() {
		t.Errorf("the lock is %v with token %d, want free with %d", r.State, r.Token, l.Token())
	}
}

func TestTheWaitEndsWithTheLockWhenItsHolderReleasesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l, err := w.other.Acquire(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	p := w.start(nil, "run", key, "-v", "--wait", "10m", "--", "echo", "ran")
	p.expect("lock waiting")
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.expect("ran")
	p.exits(0)
}

func TestTheLockIsHeldUntilACommandThatIgnoresSIGTERMIsDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wake, letGo := w.wake()
	p := w.start([]string{wake}, "run", key, "--", "sh", "-c", `
		trap "echo got TERM" TERM; echo ready; `+untilWoke+`exit 5`)
	p.expect("ready")
	held := w.record()
	p.signal(syscall.SIGTERM)
	p.expect("got TERM")
	if r := w.record(); r.State != dynalock.Held || r.Token != held.Token {
		t.Errorf("the lock is %v with token %d, want held with %d", r.State, r.Token, held.Token)
	}
	letGo()
	p.exits(5)
	if r := w.record(); r.State != dynalock.Free || r.Token != held.Token {
		t.Errorf("the lock is %v with token %d, want free with %d", r.State, r.Token, held.Token)
	}
}

func TestTheLockIsHeldUntilWhatTheCommandLeftBehindIsDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wake, letGo := w.wake()
	line := w.lifeline()
	p := w.start([]string{wake, "LIFELINE=" + line.path}, "run", key, "--kill-after", "1h", "--", "sh", "-c", hold+`
		sh -c 'trap "echo left got TERM" TERM; echo ready >&8; `+untilWoke+`' 8>"$PWD/ready" &
		until [ -s "$PWD/ready" ]; do sleep 0.01; done; exit 6`)
	p.expect("left got TERM")
	if r := w.record(); r.State != dynalock.Held || line.cut() {
		t.Errorf("the lock is %v, everybody dead: %v", r.State, line.cut())
	}
	letGo()
	p.exits(6)
	line.await(t)
	if r := w.record(); r.State != dynalock.Free {
		t.Errorf("the lock is %v", r.State)
	}
}

func TestWhatTheCommandLeftBehindIsKilledInTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := w.lifeline()
	p := w.start([]string{"LIFELINE=" + line.path}, "run", key, "--kill-after", "100ms", "--", "sh", "-c", hold+`
		sh -c 'trap "echo left got TERM" TERM; echo ready >&8; `+idle+`' 8>"$PWD/ready" &
		until [ -s "$PWD/ready" ]; do sleep 0.01; done; exit 6`)
	p.expect("left got TERM")
	p.exits(6)
	line.await(t)
	if r := w.record(); r.State != dynalock.Free {
		t.Errorf("the lock is %v", r.State)
	}
}

// stubborn is a command that holds the line, and like its helper heeds no SIGTERM.
const stubborn = hold + `
	sh -c 'trap "" TERM; ` + idle + `' &
	trap "echo got TERM" TERM; echo ready; ` + idle

// unguarded are the flags of a lock whose command is killed, when it has lost it, 7.5 s after that and 2.5 s before the
// lease ends: a machine that is ten times slower than usual still begins, notices and ends in time what a test waits
// for.
var unguarded = []string{"--lease", "20s", "--safety-margin", "10s", "--heartbeat", "1s"}

// freed are the flags of a lock whose loss is noticed soon, and not before a heartbeat by the lease's end; its command
// has three seconds to heed the signal that it gets then.
var freed = []string{"--lease", "20s", "--heartbeat", "500ms"}

// guarding is the command line of what runs a command under a lock with these flags.
func guarding(what, flags []string, command ...string) []string {
	return slices.Concat(what, flags, []string{"--"}, command)
}

func TestALockThatAnOperatorFreesEndsTheCommandsWholeGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := w.lifeline()
	p := w.start([]string{"LIFELINE=" + line.path}, guarding([]string{"run", key}, freed, "sh", "-c", stubborn)...)
	p.expect("ready")
	if err := w.other.ForceRelease(t.Context(), w.record()); err != nil {
		t.Fatal(err)
	}
	if said := p.expect("dynalock-admin:",
		"got TERM"); said != `dynalock-admin: lost "the key": it was freed by "the other"; ending the command` {
		t.Errorf("it says %q", said)
	}
	p.exits(76)
	if !line.cut() {
		line.await(t)
	}
}

func TestACommandIsEndedThoughNobodyReadsWhatIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := w.lifeline()
	reader, broken, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = broken.Close() }()
	_ = reader.Close()
	cmd := w.command([]string{"LIFELINE=" + line.path}, "dynalock-admin",
		guarding([]string{"run", key}, freed, "sh", "-c", stubborn)...)
	cmd.Stderr = broken
	p := w.follow(cmd)
	p.expect("ready")
	if err := w.other.ForceRelease(t.Context(), w.record()); err != nil {
		t.Fatal(err)
	}
	p.exits(76)
	line.await(t)
}

func TestACommandIsEndedThoughWhatIsSaidIsHeldUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := w.lifeline()
	reader, full, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	conn, err := full.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 16; size > 0; size /= 2 { // until not one byte more fits
		var full error
		if err := conn.Write(func(fd uintptr) bool {
			for full == nil {
				_, full = syscall.Write(int(fd), make([]byte, size))
			}
			return true
		}); err != nil || !errors.Is(full, syscall.EAGAIN) {
			t.Fatal(err, full)
		}
	}
	cmd := w.command([]string{"LIFELINE=" + line.path}, "dynalock-admin",
		guarding([]string{"run", key}, freed, "sh", "-c", stubborn)...)
	cmd.Stderr = full
	p := w.follow(cmd)
	p.expect("ready")
	if err := w.other.ForceRelease(t.Context(), w.record()); err != nil {
		t.Fatal(err)
	}
	line.await(t)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, reader)
	}()
	p.exits(76)
	_ = full.Close()
	<-drained
	_ = reader.Close()
}

func TestALostLockIsToldWhateverTheCommandSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(nil, guarding([]string{"run", key}, freed, "sh", "-c", `trap "exit 0" TERM; echo ready; `+idle)...)
	p.expect("ready")
	if err := w.other.ForceRelease(t.Context(), w.record()); err != nil {
		t.Fatal(err)
	}
	p.exits(76)
}

func TestALossThatTheReleaseNoticesIsToldToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wake, letGo := w.wake()
	// No heartbeat comes before the command's end.
	p := w.start([]string{wake}, "run", key, "--lease", "10m", "--", "sh", "-c", `echo ready; `+untilWoke)
	p.expect("ready")
	if err := w.other.ForceRelease(t.Context(), w.record()); err != nil {
		t.Fatal(err)
	}
	l, err := w.other.Acquire(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	letGo()
	if said := p.expect("dynalock-admin:"); said != `dynalock-admin: lost "the key": it was taken over; now held by "the other"` {
		t.Errorf("it says %q", said)
	}
	p.exits(76)
	if !l.Held() || w.record().Token != l.Token() {
		t.Error("the successor's lock was touched")
	}
}

func TestMaxHoldEndsTheCommandAndFreesTheLockOnceItIsDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := w.lifeline()
	p := w.start([]string{"LIFELINE=" + line.path},
		guarding([]string{"run", key, "--max-hold", "4s"}, freed, "sh", "-c", stubborn)...)
	if said := p.expect("dynalock-admin:",
		"got TERM"); said != `dynalock-admin: lost "the key": it was held for as long as --max-hold allows; ending the command` {
		t.Errorf("it says %q", said)
	}
	p.exits(76)
	line.await(t)
	if r := w.record(); r.State != dynalock.Free {
		t.Errorf("the lock is %v", r.State)
	}
}

// gate stands in front of the server, and when it is shut answers nobody.
type gate struct {
	shut   atomic.Bool
	refuse atomic.Bool  // it answers that it is not to be had
	after  atomic.Int64 // answers left before it is shut; 0: no limit
}

func (w *world) gate() *gate {
	w.t.Helper()
	target, err := url.Parse(w.server.Endpoint())
	if err != nil {
		w.t.Fatal(err)
	}
	g := &gate{}
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
	}
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if g.after.Load() > 0 && g.after.Add(-1) == 0 {
			defer g.shut.Store(true)
		}
		if g.shut.Load() {
			_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the client hangs up
			<-r.Context().Done()
			return
		}
		if g.refuse.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	w.t.Cleanup(func() {
		front.Close()
		transport.CloseIdleConnections()
	})
	w.endpoint = front.URL
	return g
}

func TestASuccessorGetsTheLockOfACutOffHolderOnlyWhenTheCommandIsDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gate, line := w.gate(), w.lifeline()
	p := w.start([]string{"LIFELINE=" + line.path}, guarding([]string{"run", key}, unguarded, "sh", "-c", stubborn)...)
	p.expect("ready")
	held := w.record()
	gate.shut.Store(true)
	l, err := w.other.Acquire(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if !line.cut() {
		t.Error("the command was alive when the successor got the lock")
	}
	if l.Token() <= held.Token {
		t.Errorf("the successor's token is %d, that of the holder was %d", l.Token(), held.Token)
	}
	if said := p.expect("dynalock-admin:", "got TERM"); !strings.HasPrefix(said,
		`dynalock-admin: lost "the key": no heartbeat was acknowledged in time: no answer in time; ending`) {
		t.Errorf("it says %q", said)
	}
	p.exits(76)
	if !l.Held() || w.record().Token != l.Token() {
		t.Error("the successor's lock was touched")
	}
}

func TestAStoreThatIsGoneAtTheReleaseIsAWarningAndTheCommandsExitCodeStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gate := w.gate()
	wake, letGo := w.wake()
	p := w.start([]string{wake}, "run", key, "--lease", "10s", "--", "sh", "-c", `echo ready; `+untilWoke+`exit 4`)
	p.expect("ready")
	gate.shut.Store(true)
	letGo()
	p.expect(`dynalock-admin: warning: "the key" was not released, and is held until its lease ends: `)
	p.exits(4)
}

func TestAStoreThatIsGoneAtTheStartIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gate().shut.Store(true)
	p := w.start(nil, "run", key, "--lease", "500ms", "--", "echo", "ran")
	p.exits(69)
}

func TestWhatIsAskedOfAStoreThatNeverAnswersEndsWithItsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gate().shut.Store(true)
	const slack = 2500 * time.Millisecond // for a busy machine, and no more than the least that was too much
	for _, tt := range []struct {
		line  string
		limit time.Duration
	}{
		{"run k --timeout 200ms --no-wait -- echo ran", 200 * time.Millisecond},
		{"run k --timeout 200ms -- echo ran", 200 * time.Millisecond},
		{"run k --wait 200ms -- echo ran", 200 * time.Millisecond},
		{"run k --no-wait -- echo ran", 3500 * time.Millisecond}, // three attempts of 1s
		{"once j p --timeout 200ms --no-wait -- echo ran", 200 * time.Millisecond},
		{"once j p --timeout 200ms -- echo ran", 200 * time.Millisecond},
		{"once j p --wait 200ms -- echo ran", 200 * time.Millisecond},
		{"elect k --timeout 200ms -- echo ran", 200 * time.Millisecond},
		{"hand-over k c --timeout 4s", 4 * time.Second},
	} {
		t.Run(tt.line, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			out, err := w.command(nil, "dynalock-admin", strings.Fields(tt.line)...).CombinedOutput()
			took := time.Since(start)
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitStore {
				t.Errorf("it ended with %v, want exit code %d", err, exitStore)
			}
			if said := string(out); strings.Count(said, "\n") != 1 || !strings.Contains(said, "no answer") {
				t.Errorf("it says %q", said)
			}
			if took > tt.limit+slack {
				t.Errorf("it took %v, want about %v", took, tt.limit)
			}
		})
	}
}

func TestTheTimeOfTheFirstAttemptIsNotThatOfTheCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const timeout = 6 * time.Second
	var both []*process
	for _, line := range []string{"run k", "once j p"} {
		args := append(strings.Fields(line), "--timeout", timeout.String(), "--", "sh", "-c", "sleep 6.2")
		both = append(both, w.start(nil, args...))
	}
	for _, p := range both {
		p.exits(0)
	}
}

func TestTheTokenGuardsAWriteAsTheReadmeSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wake, letGo := w.wake()
	p := w.start([]string{wake}, "run", key, "--lease", "10m", "--", "sh", "-c", `echo token=$DYNALOCK_TOKEN; `+untilWoke)
	_, token, _ := strings.Cut(p.expect("token="), "=")
	guarded := func() error {
		_, err := w.server.Client().TransactWriteItems(t.Context(),
			&dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
				{ConditionCheck: &types.ConditionCheck{
					TableName: &w.table, Key: map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: key}},
					ConditionExpression: aws.String("fencingToken = :token AND NOT isReleased = :one"),
					ExpressionAttributeValues: map[string]types.AttributeValue{
						":token": &types.AttributeValueMemberN{Value: token}, ":one": &types.AttributeValueMemberS{Value: "1"},
					},
				}},
				{Put: &types.Put{
					TableName: &w.table,
					Item:      map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: "result"}},
				}},
			}})
		return err
	}
	refused := func(when string) {
		t.Helper()
		if _, ok := errors.AsType[*types.TransactionCanceledException](guarded()); !ok {
			t.Errorf("%s, the write was not refused", when)
		}
	}
	if err := guarded(); err != nil {
		t.Errorf("while it is held: %v", err)
	}
	if err := w.other.ForceRelease(t.Context(), w.record()); err != nil {
		t.Fatal(err)
	}
	refused("after it was freed")
	if _, err := w.other.Acquire(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	refused("after a successor took it")
	letGo()
	p.exits(76)
}
