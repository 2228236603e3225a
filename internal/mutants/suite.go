package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// realTime are the tests of real processes. Their time is the machine's, so on a busy one they could fail whatever the
// code, and a mutant would count as killed that was not. All others run in virtual time.
const realTime = "TestAKilledProcessesLock|TestAStoppedProcess"

// long are the tests that take two thirds of the time of all. They are run when no other notices.
const long = "TestSimulation$|TestDriftBeyond|TestAPauseThatNoClockShows|TestPausesBetweenCheckAndUse|TestNoTwoLeaders" +
	"|TestTokensOfAThousand|TestEachOf500Periods|TestACrashedRunIsBegunAgain|TestTheShortestAndTheLongestLease"

// kill is a test that failed on a mutant: its package and name, and how where it did not come to its end.
type kill = string

const (
	byTimeout = " by timeout"
	byPanic   = " by panic"
	leftOver  = "goroutines left over"
)

// wave is a part of the tests of a folder: those that match run but not skip.
type wave struct {
	pkg, run, skip string
	timeout        time.Duration // where it is shorter than that of the suite
	schedules      int           // of the simulation, where there are more than those of the suite
}

// waves are what is run on a mutant of a package, one after the other until one kills.
func waves(pkg string) []wave {
	const most = time.Hour
	if pkg == "adapters/cron" { // which the library does not know
		return []wave{{pkg: pkg, timeout: most}}
	}
	w := []wave{
		{pkg: "dynalock", skip: realTime + "|" + long, timeout: most},
		{pkg: "dynalock", run: long, skip: realTime, timeout: most},
	}
	if pkg == "heartbeat" {
		w = append([]wave{{pkg: "heartbeat", timeout: most}}, w...)
	}
	return w
}

// suite runs the tests of the folders on the source as it is, or with an overlay.
type suite struct {
	root      string
	schedules int           // of the simulation
	timeout   time.Duration // of the tests of one folder
}

var errCompile = errors.New("does not compile")

// build makes the test binary of a folder. Its error is the compiler's: a mutant that does not compile is an error of
// the list. What an operator makes needs not compile; then the error matches errCompile.
func (s *suite) build(ctx context.Context, dir, pkg, overlay string, flags ...string) (string, error) {
	bin := filepath.Join(dir, pkg+".test")
	args := append([]string{"test", "-c", "-o", bin, "-ldflags=-s -w"}, flags...)
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+pkg)...)
	cmd.Dir = s.root
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("%s %w: %w\n%s", pkg, errCompile, err, out)
	}
	return bin, nil
}

// bounded is a command with a bound of its memory, where the system has one: a mutant that loops may take all there is.
func bounded(ctx context.Context, bin string, args ...string) *exec.Cmd {
	const kilobytes = "8388608"
	return exec.CommandContext(ctx, "sh",
		append([]string{"-c", "ulimit -v " + kilobytes + ` 2>/dev/null; exec "$0" "$@"`, bin}, args...)...)
}

// run runs a wave and returns which tests fail: the first one, after which the rest is stopped, or all of them.
func (s *suite) run(ctx context.Context, bin string, w wave, every bool) ([]kill, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	args := []string{"-test.v", "-test.short", "-test.timeout=" + min(s.timeout, w.timeout).String()}
	if w.skip != "" {
		args = append(args, "-test.skip=^("+w.skip+")")
	}
	if w.run != "" {
		args = append(args, "-test.run=^("+w.run+")")
	}
	if w.pkg == "dynalock" {
		args = append(args, fmt.Sprintf("-sim.schedules=%d", max(s.schedules, w.schedules)))
	}
	cmd := bounded(ctx, bin, args...)
	cmd.Dir = filepath.Join(s.root, w.pkg)
	cmd.Env = append(os.Environ(), "DYNALOCK_TEST_SERVER=embedded")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var diagnosis bytes.Buffer // a panic is told on standard error
	cmd.Stderr = &diagnosis
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	failed, tail := failures(out, func() bool {
		if !every {
			stop()
		}
		return every
	})
	err = cmd.Wait()
	switch exit, ended := errors.AsType[*exec.ExitError](err); {
	case err == nil && len(failed) == 0:
		return nil, nil
	case err != nil && !ended && len(failed) == 0:
		return nil, err
	case ctx.Err() != nil && len(failed) == 0:
		return nil, ctx.Err()
	case ended && (every || len(failed) == 0):
		said := tail + "\n" + diagnosis.String()
		if failed = ending(failed, said, exit.ExitCode()); len(failed) == 0 {
			return nil, fmt.Errorf("the tests of %s ended with %w, and no test failed:\n%s", w.pkg, exit, lastLines(said, 20))
		}
	}
	kills := make([]kill, len(failed))
	for i, name := range failed {
		kills[i] = w.pkg + "." + name
	}
	return kills, nil
}

var failLine = regexp.MustCompile(`^ *--- FAIL: (Test\w+|Fuzz\w+)`)

// failures reads the tests that fail, each once, and the end of the output. more says whether to go on after one.
func failures(out io.Reader, more func() bool) (failed []string, tail string) {
	lines := bufio.NewReader(out)
	var last []string
	reading := true
	for {
		line, err := lines.ReadString('\n')
		if match := failLine.FindStringSubmatch(line); match != nil && reading && !slices.Contains(failed, match[1]) {
			failed = append(failed, match[1])
			reading = more()
		}
		if last = append(last, line); len(last) > 4000 {
			last = last[2000:]
		}
		if err != nil {
			return failed, strings.Join(last, "")
		}
	}
}

var (
	runningLine = regexp.MustCompile(`(?m)^\t*(Test\w+|Fuzz\w+)(?:/.*)? \(`)
	stackLine   = regexp.MustCompile(`(?m)\.(Test\w+|Fuzz\w+)[.(]`)
	beginLine   = regexp.MustCompile(`(?m)^=== (?:RUN|CONT|NAME) +(Test\w+|Fuzz\w+)`)
)

// ending says how a process of tests ended that was not stopped, by its exit code: the tests that failed, marked where
// the process ended with one of them. None: whatever ended it, no test did. It was killed, or never began.
func ending(failed []string, output string, code int) []string {
	switch {
	case code == 1 && len(failed) > 0: // testing's code for tests that failed
		return failed
	case code == 1 && strings.Contains(output, "found unexpected goroutines"):
		return []string{leftOver}
	case code != 2: // the runtime's for a panic
		return nil
	}
	name := func(re *regexp.Regexp, text string) string {
		if match := re.FindStringSubmatch(text); match != nil {
			return match[1]
		}
		return ""
	}
	if _, timeout, found := strings.Cut(output, "panic: test timed out"); found {
		if hung := name(runningLine, timeout); hung != "" {
			return append(failed, hung+byTimeout)
		}
		return nil
	}
	_, crash, found := strings.Cut(output, "panic: ")
	if !found {
		_, crash, found = strings.Cut(output, "fatal error: ")
	}
	if !found {
		return nil
	}
	if len(failed) > 0 { // the one that panics is reported as failed before the process ends
		failed[len(failed)-1] += byPanic
		return failed
	}
	if in := name(stackLine, crash); in != "" {
		return []string{in + byPanic}
	}
	if begun := beginLine.FindAllStringSubmatch(output, -1); len(begun) > 0 { // in a goroutine of the library
		return []string{begun[len(begun)-1][1] + byPanic}
	}
	return nil
}

// lastLines are the last n lines of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
