package guard

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
		group, dead, ok := parseStat([]byte(tt.text))
		if group != tt.group || dead != tt.dead || ok != tt.ok {
			t.Errorf("parseStat(%q) = %d, %v, %v", tt.text, group, dead, ok)
		}
	}
}

func TestThisProcessIsReadAsTheKernelKnowsIt(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	if group, dead, ok := parseStat(text); group != syscall.Getpgrp() || dead || !ok {
		t.Errorf("parseStat(%q) = %d, %v, %v; want group %d", text, group, dead, ok, syscall.Getpgrp())
	}
}

func FuzzWhatAProcessIsCalledChangesNothing(f *testing.F) {
	f.Add([]byte("sleep"), 42)
	f.Add([]byte("a) Z 1 9 (b"), 1)
	f.Fuzz(func(t *testing.T, name []byte, pgrp int) {
		text := fmt.Appendf(nil, "7 (%s) S 1 %d 5 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 100 0\n", name, pgrp)
		if group, dead, ok := parseStat(text); group != pgrp || dead || !ok {
			t.Errorf("parseStat(%q) = %d, %v, %v", text, group, dead, ok)
		}
		// And nothing makes it panic, wherever the text is cut off.
		parseStat(text[:bytes.IndexByte(text, '(')+len(name)/2])
	})
}
