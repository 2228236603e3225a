package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dynalock/dynalock/dynalock"
)

var (
	kills      = flag.Int("kills", 6, "rounds of kill -9 of run, once and elect, 1 to 1000")
	killsLease = flag.Duration("kills.lease", 10*time.Second, "the lease in rounds of kill -9, 1s to 1m")
)

// init makes other programs of the test binary: see adoptive and unsignalled.
func init() {
	switch filepath.Base(os.Args[0]) {
	case "adoptive": // becomes a program to which orphans are given, as to the first one of a container
		const setChildSubreaper = 36
		_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
		fmt.Println("not adoptive:", errno, syscall.Exec(os.Args[1], os.Args[1:], os.Environ()))
		os.Exit(1)
	case "unsignalled": // has become root by its set-user-ID bit, and for good
		err := syscall.Setresuid(0, 0, 0)
		fmt.Println("ready", err)
		for _, err := os.Stat(os.Getenv("WAKE")); err != nil; _, err = os.Stat(os.Getenv("WAKE")) {
			time.Sleep(10 * time.Millisecond)
		}
		os.Exit(3)
	}
}

// stat is what /proc tells of a process.
type stat struct {
	pid, parent, session int
	state                string
	args                 []string
}

// processes are all processes of the machine.
func processes(t *testing.T) []stat {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var all []stat
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(name, "stat"))
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		args, _ := os.ReadFile(filepath.Join(name, "cmdline"))
		s := stat{state: fields[0], args: strings.Split(string(args), "\x00")}
		s.pid, _ = strconv.Atoi(filepath.Base(name))
		s.parent, _ = strconv.Atoi(fields[1])
		s.session, _ = strconv.Atoi(fields[3])
		all = append(all, s)
	}
	return all
}

// guardian waits for the guardian of a process, other than one.
func (p *process) guardian(other int) int {
	p.t.Helper()
	for deadline := time.Now().Add(patienceOfTests); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for _, s := range processes(p.t) {
			if s.parent == p.cmd.Process.Pid && len(s.args) > 1 && s.args[1] == "__guard" && s.state != "Z" && s.pid != other {
				return s.pid
			}
		}
	}
	p.t.Fatal("there is no guardian")
	return 0
}

// work is a command with children and grandchildren that heed nothing, hold the line, and each write to a file.
const work = `exec 9>"$LIFELINE"
	beat() { trap "" TERM HUP INT; while :; do echo "$1" >>"$BEATS"; sleep 0.05; done; }
	beat child & (beat grandchild &) ; sh -c "$BEAT" &
	echo ready >&9; beat command`

// killed is one round: a tool is killed when its command is at work, or (early) at any moment of its start. It tells
// how long what it has started outlived it (0: it had not begun), and how much of its lease was left then.
func (w *world) killed(ctx context.Context, n int, early bool) (outlived, left time.Duration, err error) {
	dir := filepath.Join(w.dir, strconv.Itoa(n))
	line, beats := filepath.Join(dir, "lifeline"), filepath.Join(dir, "beats")
	if err := errors.Join(os.Mkdir(dir, 0o700), syscall.Mkfifo(line, 0o600)); err != nil {
		return 0, 0, err
	}
	reader, err := os.OpenFile(line, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = reader.Close() }()
	ours, err := os.OpenFile(line, os.O_WRONLY, 0) // or the line would read as cut before the command has come
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = ours.Close() }()
	name := strconv.Itoa(n)
	args, key := [][]string{{"run", name}, {"once", name, "p"}, {"elect", name}}[n%3], name
	if args[0] == "once" {
		key = periodKey(name, "p")
	}
	args = append(args, "--lease", killsLease.String(), "--", "sh", "-c", work)
	env := []string{"LIFELINE=" + line, "BEATS=" + beats, "BEAT=" + `while :; do echo shell >>"$BEATS"; sleep 0.05; done`}
	cmd := w.command(env, "dynalock-admin", args...)
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	if err := reader.SetReadDeadline(time.Now().Add(2 * patienceOfTests)); err != nil {
		return 0, 0, err
	}
	if early {
		time.Sleep(rand.N(100 * time.Millisecond))
	} else if _, err := reader.Read(make([]byte, 1)); err != nil {
		err = fmt.Errorf("the command of round %d does not begin: %w", n, err)
		return 0, 0, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	at := time.Now()
	if err := cmd.Process.Kill(); err != nil {
		return 0, 0, err
	}
	_ = cmd.Wait() // killed
	_ = ours.Close()
	taken := make(chan time.Time, 1)
	go func() {
		defer close(taken)
		if l, err := w.other.Acquire(ctx, key); err == nil {
			taken <- time.Now()
			_ = l.Release(ctx)
		}
	}()
	_ = reader.SetReadDeadline(time.Now().Add(2 * patienceOfTests)) // as above
	hello, cut := io.Copy(io.Discard, reader)
	began := hello > 0 || !early // else there may have been no lock
	dead := time.Now()
	next, ok := <-taken
	switch {
	case cut != nil:
		return 0, 0, fmt.Errorf("what %s of round %d has started is not dead a minute after it: %w", args[0], n, cut)
	case !ok:
		return 0, 0, fmt.Errorf("nobody gets the lock of round %d", n)
	case began && dead.After(next):
		return 0, 0, fmt.Errorf("what %s of round %d has started outlived the lease by %v", args[0], n, dead.Sub(next))
	}
	before, _ := os.ReadFile(beats) // there may be none
	time.Sleep(200 * time.Millisecond)
	if after, _ := os.ReadFile(beats); len(after) != len(before) {
		return 0, 0, fmt.Errorf("what %s of round %d has started works on beside the next holder", args[0], n)
	}
	if !began {
		return 0, 0, nil
	}
	return dead.Sub(at), next.Sub(dead), nil
}

// With -kills=200 it takes two minutes.
func TestNothingThatAKilledToolHasStartedOutlivesItsLease(t *testing.T) {
	t.Parallel()
	if *kills < 1 || *kills > 1000 || *killsLease < time.Second || *killsLease > time.Minute {
		t.Fatalf("-kills is %d, allowed: 1 to 1000; -kills.lease is %v, allowed: 1s to 1m", *kills, *killsLease)
	}
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	longest, least, begun, under := time.Duration(0), time.Hour, 0, make(chan struct{}, 16)
	for n := range *kills {
		under <- struct{}{}
		all.Go(func() {
			defer func() { <-under }()
			outlived, left, err := w.killed(ctx, n, n%4 == 3)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			if outlived > 0 {
				longest, least, begun = max(longest, outlived), min(least, left), begun+1
			}
		})
	}
	all.Wait()
	t.Logf("%d rounds, in %d of which the command had begun; lease %v: the longest outlived its tool by %v; "+
		"when all was dead, at least %v were left until the next holder had the lock",
		*kills, begun, *killsLease, longest, least)
}

func TestTheCommandOfAToolThatIsStoppedIsDeadWhenItsLeaseEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := w.lifeline()
	p := w.start([]string{"LIFELINE=" + line.path}, guarding([]string{"run", key}, unguarded, "sh", "-c", stubborn)...)
	p.expect("ready")
	p.signal(syscall.SIGSTOP)
	l, err := w.other.Acquire(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if !line.cut() {
		t.Error("the command was alive when the successor got the lock")
	}
	p.signal(syscall.SIGCONT)
	p.exits(76)
	if !l.Held() || w.record().Token != l.Token() {
		t.Error("the successor's lock was touched")
	}
}

func TestTheGuardianLetsACommandWorkForAsLongAsItsLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(nil, "run", key, "--lease", "10s", "--", "sh", "-c", "sleep 12; exit 7").exits(7)
}

func TestAGuardianThatIsKilledIsReplacedAndTheCommandGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := w.lifeline()
	p := w.start([]string{"LIFELINE=" + line.path}, "run", key, "--lease", "10m", "--", "sh", "-c", stubborn)
	p.expect("ready")
	first := p.guardian(0)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.expect("dynalock-admin: warning: the guardian of the command ended (signal: killed); another one ")
	p.guardian(first)
	if line.cut() {
		t.Fatal("the command died with its guardian")
	}
	p.signal(syscall.SIGKILL)
	line.await(t)
}

func TestAGuardianHeedsNoSignalThatAsksToEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wake, letGo := w.wake()
	p := w.start([]string{wake}, "run", key, "--", "sh", "-c", `echo ready; `+untilWoke+`exit 4`)
	p.expect("ready")
	guardian := p.guardian(0)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		deadline := time.Now().Add(patienceOfTests)
		for ignored := false; !ignored; time.Sleep(time.Millisecond) { // it has just been started
			if time.Now().After(deadline) {
				t.Fatalf("it does not ignore %v", sig)
			}
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", guardian))
			if err != nil {
				t.Fatal(err)
			}
			_, mask, _ := strings.Cut(string(text), "SigIgn:\t")
			set, err := strconv.ParseUint(mask[:16], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			ignored = set&(1<<(sig-1)) != 0
		}
		if err := syscall.Kill(guardian, sig); err != nil {
			t.Fatal(err)
		}
	}
	if again := p.guardian(0); again != guardian {
		t.Errorf("the guardian is %d, and was %d", again, guardian)
	}
	letGo()
	p.exits(4)
}

func TestTheCommandHasTheDescriptorsThatWeWereGivenAndTheGuardianNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	given := filepath.Join(w.dir, "given")
	if err := os.WriteFile(given, []byte("what it says\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wake, letGo := w.wake()
	cmd := w.command([]string{wake}, "dynalock-admin", "run", key, "--", "sh", "-c", `cat <&3; cat <&4; `+untilWoke)
	for range 2 {
		f, err := os.Open(given)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	p := w.follow(cmd)
	p.expect("what it says")
	p.expect("what it says")
	guardian := p.guardian(0)
	has := func() bool {
		names, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", guardian))
		if err != nil || len(names) == 0 {
			t.Fatalf("%v, %v", names, err)
		}
		for _, name := range names {
			if to, err := os.Readlink(name); err == nil && to == given {
				return true
			}
		}
		return false
	}
	for deadline := time.Now().Add(patienceOfTests); has(); time.Sleep(time.Millisecond) { // it has just been started
		if time.Now().After(deadline) {
			t.Fatal("the guardian holds what it inherited")
		}
	}
	letGo()
	p.exits(0)
}

// zombies are the dead children of a process.
func zombies(t *testing.T, parent int) (n int) {
	t.Helper()
	for _, s := range processes(t) {
		if s.parent == parent && s.state == "Z" {
			n++
		}
	}
	return n
}

const fork100 = `i=0; while [ $i -lt 100 ]; do (sleep 0 &); i=$((i+1)); done; `

func TestWhereOrphansAreGivenToItTheyAreReapedAndTheCommandsExitCodeIsStillOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := os.Symlink(filepath.Join(w.bin, "dynalock-admin"), filepath.Join(w.bin, "adoptive")); err != nil {
		t.Fatal(err)
	}
	wake, letGo := w.wake()
	p := w.follow(w.command([]string{wake}, filepath.Join(w.bin, "adoptive"), filepath.Join(w.bin, "dynalock-admin"),
		"run", key, "--", "sh", "-c", fork100+`echo forked; `+untilWoke+`exit 7`))
	p.expect("forked")
	for deadline := time.Now().Add(patienceOfTests); zombies(t, p.cmd.Process.Pid) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d zombies", zombies(t, p.cmd.Process.Pid))
		}
	}
	letGo()
	p.exits(7)
}

func TestAsTheFirstProcessOfAContainerItReapsOrphans(t *testing.T) {
	t.Parallel()
	if err := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "true").Run(); err != nil {
		t.Skipf("needs root, for a namespace of processes: %v", err)
	}
	w := newWorld(t)
	// The orphans may end after the loop: it is asked until they are gone, in the namespace's own /proc.
	p := w.follow(w.command(nil, "unshare", "--pid", "--fork", "--mount-proc", filepath.Join(w.bin, "dynalock-admin"),
		"run", key, "--", "sh", "-c", `test $PPID = 1 || exit 1; `+fork100+`
		while grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null | grep -q .; do sleep 0.05; done; echo none; exit 7`))
	p.expect("none")
	p.exits(7)
}

func TestACommandThatMayNotBeSignalledIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const noSetuid = 2 // ST_NOSUID of statvfs(3)
	var fs syscall.Statfs_t
	if err := syscall.Statfs(w.dir, &fs); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 || fs.Flags&noSetuid != 0 {
		t.Skip("needs root, to have a program that becomes root")
	}
	const nobody = 65534
	for _, dir := range []string{w.dir, filepath.Dir(w.dir), w.bin, filepath.Dir(w.bin)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"admin": 0o755, "unsignalled": 0o755 | os.ModeSetuid} {
		path := filepath.Join(w.dir, name)
		if err := errors.Join(os.WriteFile(path, program, 0o700), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	wake, letGo := w.wake()
	cmd := w.command([]string{wake}, filepath.Join(w.dir, "admin"), "run", key, "--", filepath.Join(w.dir, "unsignalled"))
	cmd.Args[0] = "dynalock-admin"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	p := w.follow(cmd)
	p.expect(`unsignalled" is set-user-ID, and may not be signalled: it may work on when the lock is lost; `,
		"ready <nil>")
	p.signal(syscall.SIGTERM)
	p.expect(" (unsignalled) may not be signalled, and works on; run dynalock-admin under sudo, not the command")
	letGo()
	p.exits(3)
}

// jobs runs a command line on a terminal as an interactive shell does, and then the rest of the script.
const jobs = `set -m; stty -echo; dynalock-admin run "$KEY" `

func TestOnATerminalCtrlZGivesThePromptBackAndFgGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	near, lines, done := w.onTerminal(jobs + `--lease 10m -- sh -c 'echo ready; read x; echo "read $x"; exit 9'
		echo "prompt"; read y; echo "shell read $y"; fg >/dev/null; echo "exit $?"`)
	await(t, lines, "ready")
	press(t, near, "\x1a")
	await(t, lines, "prompt")
	press(t, near, "two\n")
	await(t, lines, "shell read two")
	press(t, near, "on\n")
	await(t, lines, "read on")
	await(t, lines, "exit 9")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if r := w.record(); r.State != dynalock.Free {
		t.Errorf("the lock is %v", r.State)
	}
}

func TestOnATerminalCtrlZGivesThePromptBackInALaterCampaign(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	near, lines, done := w.onTerminal(`set -m; stty -echo
		dynalock-admin elect "$KEY" --lease 2s -- sh -c 'echo ready; ` + idle + `'
		echo "prompt"; kill %1; fg >/dev/null; echo "exit $?"`)
	await(t, lines, "ready")
	if err := w.other.ForceRelease(t.Context(), w.record()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.other.Acquire(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	await(t, lines, "dynalock-admin: the command has ended; campaigning again")
	press(t, near, "\x1a")
	await(t, lines, "prompt")
	await(t, lines, "exit 143")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestACommandThatIsStoppedForTooLongIsDeadWhenTheLeaseEndsAndIsToldAsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := w.lifeline()
	near, lines, done := w.onTerminal(`export LIFELINE="` + line.path + `"; ` +
		jobs + strings.Join(unguarded, " ") + ` -- sh -c '` + hold + `echo ready; read x; echo "read $x"'
		echo "prompt"; read y; fg >/dev/null; echo "exit $?"`)
	await(t, lines, "ready")
	press(t, near, "\x1a")
	await(t, lines, "prompt")
	if _, err := w.other.Acquire(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if !line.cut() {
		t.Error("the command was alive when the successor got the lock")
	}
	press(t, near, "go on\n")
	await(t, lines, "exit 76")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestACommandInTheBackgroundThatReadsFromTheTerminalStopsTheJobAndFgGivesItTheTerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	near, lines, done := w.onTerminal(jobs + `--lease 10m -- sh -c 'echo ready; read x; echo "read $x"; exit 9' &
		until grep -q Stopped jobs; do sleep 0.05; jobs >jobs; done 2>/dev/null; echo stopped; fg >/dev/null; echo "exit $?"`)
	await(t, lines, "stopped")
	press(t, near, "on\n")
	await(t, lines, "read on")
	await(t, lines, "exit 9")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAfterALossWithTheStoreGoneItIsToldWhatIsStillTriedAndThatEndsSoon(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"run", key}, {"once", "j", "p"}} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			gate := w.gate()
			p := w.start(nil, append(args, "--lease", "8s", "--", "sh", "-c", `trap "exit 0" TERM; echo ready; `+idle)...)
			p.expect("ready")
			gate.shut.Store(true)
			p.expect("dynalock-admin: the command has ended; trying for a second to release the lock")
			told := time.Now()
			p.exits(76)
			if took := time.Since(told); took > 4*time.Second { // two timers of half a second
				t.Errorf("it ended %v later", took)
			}
		})
	}
}
