package guard

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	Serve(os.Args)
	goleak.VerifyTestMain(m)
}

func TestAGuardianObeysTheLastWholeOrder(t *testing.T) {
	t.Parallel()
	var o orders
	for _, tt := range []struct {
		text string
		want order
	}{
		{"", order{}},
		{"42 1", order{}},
		{"000\n", order{42, 1000}},
		{"42 2000\n42 3000\n4", order{42, 3000}},
		{"2 4000\n", order{42, 4000}},
		{"nonsense\n", order{42, 4000}},
		{"0 5\n-1 5\n1 5\n", order{42, 4000}}, // never its own group, nor everybody
		{"42 x\n42\n", order{42, 4000}},
		{"43 5000\n", order{43, 5000}},
	} {
		if o.add([]byte(tt.text)); o.last != tt.want {
			t.Errorf("after %q the order is %+v, want %+v", tt.text, o.last, tt.want)
		}
	}
}

func TestWhatSomebodyTypesIsNoCopy(t *testing.T) {
	t.Parallel()
	if os.Getenv("TYPED") != "" {
		Serve([]string{"dynalock-admin", guardMode})
		Serve([]string{"dynalock-admin", launchMode, "/bin/true", "true"})
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestWhatSomebodyTypesIsNoCopy$", "-test.v")
	cmd.Env = append(os.Environ(), "TYPED=1")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("%v: %s", err, out)
	}
}

// A command that fails to start, and one that ends, leave no process behind: goleak sees that both are waited for.
func TestACommandIsStartedWithItsStreamsOrTheErrorIsThatOfItsProgram(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	never := func() time.Time { return time.Now().Add(time.Hour) }
	start := func(path string, args ...string) (*Group, string, error) {
		in, err := os.CreateTemp(t.TempDir(), "in")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = in.Close() }()
		if _, err := in.WriteAt([]byte("input\n"), 0); err != nil {
			t.Fatal(err)
		}
		out, err := os.CreateTemp(t.TempDir(), "out")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = out.Close() }()
		g, err := Start(&exec.Cmd{Path: path, Args: args, Stdin: in, Stdout: out, Stderr: os.Stderr}, never, time.Minute)
		if err != nil {
			return nil, "", err
		}
		<-g.Gone()
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		return g, string(text), nil
	}
	g, out, err := start("/bin/sh", "a name", "-c", `cat; echo "$0" "$PPID"; exit 3`)
	if want := fmt.Sprintf("input\na name %d\n", os.Getpid()); err != nil || out != want || g.Code() != 3 || g.Killed() {
		t.Errorf("%v: %q, want %q; %+v", err, out, want, g)
	}
	for path, want := range map[string]error{
		"/no/such/program": syscall.ENOENT, "/": syscall.EACCES, "/proc/self/stat": syscall.EACCES,
	} {
		if _, _, err := start(path, path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

// group starts a command in a group of its own.
func group(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestAGroupIsAliveUntilItHasOnlyZombiesAndThenGone(t *testing.T) {
	t.Parallel()
	cmd := group(t, "sleep", "1000")
	if !alive(cmd.Process.Pid) {
		t.Error("a group that runs is not alive")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for alive(cmd.Process.Pid) {
		if time.Now().After(deadline) {
			t.Fatal("a zombie is alive")
		}
		time.Sleep(time.Millisecond)
	}
	if err := syscall.Kill(-cmd.Process.Pid, 0); err != nil {
		t.Errorf("it is not a zombie that was looked at: %v", err)
	}
	_ = cmd.Wait() // killed
	if alive(cmd.Process.Pid) {
		t.Error("a group without processes is alive")
	}
}

func TestAProcessIsReadWhateverItsName(t *testing.T) {
	t.Parallel()
	rest := func(state string, group, threads int) string {
		return fmt.Sprintf("%s 1 %d 5 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 %d 0 100 0\n", state, group, threads)
	}
	for _, tt := range []struct {
		text  string
		group int
		dead  bool
		ok    bool
	}{
		{"7 (sleep) " + rest("S", 42, 1), 42, false, true},
		{"7 (a) Z 1 9 (b) " + rest("R", 42, 1), 42, false, true},
		{"7 (new\nline) " + rest("Z", 42, 1), 42, true, true},
		{"7 (first thread dead) " + rest("Z", 42, 3), 42, false, true},
		{"7 (gone) " + rest("X", 42, 0), 42, true, true},
		{"7 (cut) S 1 42", 0, false, false},
		{"7 (no number) S 1 x 5 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0", 0, false, false},
		{"", 0, false, false},
	} {
		p, ok := parseStat([]byte(tt.text))
		if p.group != tt.group || p.dead != tt.dead || ok != tt.ok || ok && (p.pid != 7 || p.parent != 1) {
			t.Errorf("parseStat(%q) = %+v, %v", tt.text, p, ok)
		}
	}
}

func TestThisProcessIsReadAsTheKernelKnowsIt(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	p, ok := parseStat(text)
	if p.group != syscall.Getpgrp() || p.dead || !ok || p.pid != os.Getpid() || p.parent != os.Getppid() {
		t.Errorf("parseStat(%q) = %+v, %v; want group %d", text, p, ok, syscall.Getpgrp())
	}
}

func FuzzWhatAProcessIsCalledChangesNothing(f *testing.F) {
	f.Add([]byte("sleep"), 42)
	f.Add([]byte("a) Z 1 9 (b"), 1)
	f.Fuzz(func(t *testing.T, name []byte, pgrp int) {
		text := fmt.Appendf(nil, "7 (%s) S 1 %d 5 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 100 0\n", name, pgrp)
		if p, ok := parseStat(text); p.group != pgrp || p.dead || !ok || p.name != string(name) {
			t.Errorf("parseStat(%q) = %+v, %v", text, p, ok)
		}
		// And nothing makes it panic, wherever the text is cut off.
		parseStat(text[:bytes.IndexByte(text, '(')+len(name)/2])
	})
}
