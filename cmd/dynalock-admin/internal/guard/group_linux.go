package guard

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// attributes have the kernel kill the command when this process dies.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// running looks for a process of the group that is no zombie: where nobody reaps orphans, as in many containers,
// they stay for ever. Where none can be seen at all, the group is believed to run.
func running(pgid int) bool {
	zombies := false
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		group, dead, ok := parseStat(text)
		switch {
		case !ok || group != pgid:
		case !dead:
			return true
		default:
			zombies = true
		}
	}
	return !zombies
}

// parseStat reads /proc/PID/stat: the process group, and whether all threads of the process are dead.
func parseStat(text []byte) (group int, dead, ok bool) {
	// The second field is the command's name in parentheses, and may contain anything.
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return 0, false, false
	}
	fields := bytes.Fields(text[end+1:])
	const state, pgrp, threads = 0, 2, 17
	if len(fields) <= threads {
		return 0, false, false
	}
	group, err := strconv.Atoi(string(fields[pgrp]))
	if err != nil {
		return 0, false, false
	}
	switch string(fields[state]) {
	case "Z", "X", "x":
		dead = string(fields[threads]) == "1" || string(fields[threads]) == "0" // a dead first thread may have others
	}
	return group, dead, true
}
