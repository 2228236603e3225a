//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// example reads a file of examples/scheduled.
func example(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../examples/scheduled", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// accepted checks the one command line of this tool in a shell's text.
func accepted(t *testing.T, shell string) {
	t.Helper()
	all := mentions("```sh\n" + shell + "\n```\n")
	if len(all) != 1 {
		t.Fatalf("%q has %d command lines of dynalock-admin", shell, len(all))
	}
	if err := all[0].check(); err != nil {
		t.Errorf("%q: %v", shell, err)
	}
}

func TestTheCrontabDoesItsJobOnceADay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	job := regexp.MustCompile(`(?m)^(?:[0-9*/,-]+ ){5}(.*)$`).FindAllStringSubmatch(example(t, "crontab"), -1)
	if len(job) != 1 {
		t.Fatalf("the lines of the crontab are %q", job)
	}
	line := strings.ReplaceAll(job[0][1], `\%`, "%") // as cron does
	accepted(t, line)
	if err := os.WriteFile(filepath.Join(w.bin, "send-invoices"), []byte("#!/bin/sh\necho sent\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"sent", "has run: by"} {
		p := w.follow(w.command(nil, "/bin/sh", "-c", line))
		if said := p.expect(want); i == 1 && !strings.Contains(said, `of "invoices"`) {
			t.Errorf("it says %q", said)
		}
		p.exits(0)
	}
}

func TestTheUnitsOfSystemdAreSoundAndSignalOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var paths []string
	for _, name := range []string{"invoices.service", "invoices.timer", "scheduler.service"} {
		text := example(t, name)
		if start := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(text); start != nil {
			line := strings.ReplaceAll(start[1], "%%", "%")
			if inner, ok := strings.CutPrefix(line, "/bin/sh -c '"); ok {
				line = strings.TrimSuffix(inner, "'")
			}
			accepted(t, line)
			if !strings.Contains(text, "\nKillMode=mixed\n") {
				t.Errorf("%s: the command gets SIGTERM twice", name)
			}
		}
		for _, program := range []string{"dynalock-admin", "scheduler"} { // which need not be there
			text = strings.ReplaceAll(text, "=/usr/local/bin/"+program+" ", "=/bin/true ")
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("not verified by systemd-analyze, which is not here")
		return
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, paths...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, dir) || strings.Contains(line, "invoices.") || strings.Contains(line, "scheduler.service") {
			t.Errorf("systemd-analyze: %s", line)
		}
	}
	if err != nil {
		t.Logf("systemd-analyze: %v, on the units of this machine", err)
	}
}

func TestTheCronJobOfKubernetesLeavesTimeToStop(t *testing.T) {
	t.Parallel()
	text := example(t, "cronjob.yaml")
	args := regexp.MustCompile(`(?m)^ +- (exec .*)$`).FindStringSubmatch(text)
	if args == nil {
		t.Fatal("there is no command line")
	}
	accepted(t, args[1])
	cmd := exec.Command("python3", "-c", "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	exit, ran := errors.AsType[*exec.ExitError](err)
	if err != nil && (!ran || strings.Contains(string(exit.Stderr), "No module named")) {
		t.Logf("not read as YAML, for which Python is needed: %v", err)
		return
	}
	var job struct {
		Kind string
		Spec struct {
			Schedule    string
			JobTemplate struct {
				Spec struct {
					Template struct {
						Spec struct {
							RestartPolicy                 string
							TerminationGracePeriodSeconds int
							Containers                    []struct{ Command, Args []string }
						}
					}
				}
			}
		}
	}
	if err := json.Unmarshal(out, &job); err != nil {
		t.Fatalf("%v: %q", err, out)
	}
	pod := job.Spec.JobTemplate.Spec.Template.Spec
	if job.Kind != "CronJob" || job.Spec.Schedule == "" || pod.RestartPolicy != "Never" ||
		len(pod.Containers) != 1 || pod.Containers[0].Args[0] != args[1] {
		t.Errorf("it reads as %+v", job)
	}
	if pod.TerminationGracePeriodSeconds <= 5 { // --kill-after
		t.Errorf("it is killed after %d s", pod.TerminationGracePeriodSeconds)
	}
}
