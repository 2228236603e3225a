// Package guard runs a command in a process group of its own, so that the command can be ended together with everything
// that it has started. It reports when all of these processes are dead.
//
// A guardian, a second process of this program in a session of its own, kills the group in two cases: this process is
// gone, however it ended; or this process, which is stopped or gets no CPU, has not extended the command's time before
// it was over. The guardian holds the reading end of a pipe whose writing end only this process has. A guardian that
// dies is replaced.
//
// The command does not run before the guardian knows its group: this program starts a copy of itself in the group,
// which becomes the command (execve) when it is told to. So main has to call [Serve] before anything else.
//
// Processes that leave the group (daemons, the jobs of an interactive shell) are not seen. The tests run on Linux.
// Elsewhere the stop key does not stop a command on a terminal, zombies count as alive, and orphans are not reaped.
package guard
